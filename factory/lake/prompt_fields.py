"""Find out which fields beyond role and content a recipe's prompts have."""

from dataclasses import astuple, dataclass, fields

from factory.lake.schema import BARE_MESSAGE, MESSAGE
from factory.lake.views import Views


@dataclass(frozen=True)
class PromptFields:
    """The fields beyond role and content that some prompts pass to the chat template."""

    messages: bool = False
    """Whether a message has another field, such as tool calls, or has no content."""
    tools: bool = False
    settings: bool = False
    """Whether a prompt has `template_kwargs`."""

    def __bool__(self) -> bool:
        return any(astuple(self))

    @property
    def names(self) -> list[str]:
        """The names of the fields that some prompts have."""
        return [each.name for each in fields(self) if getattr(self, each.name)]


def find_prompt_fields(views: Views, prompts: str) -> PromptFields:
    """Return the fields of the prompts that a SQL query on the view `prompts` selects."""
    plain = {part.name for part in BARE_MESSAGE}
    others = [f"message.{part.name} is not null" for part in MESSAGE if part.name not in plain]
    is_rich = " or ".join(["message.content is null", *others])
    (row,) = views.all(
        f"""
        select
            coalesce(bool_or(len(list_filter(messages, lambda message: {is_rich})) > 0), false)
                as messages,
            coalesce(bool_or(tools is not null), false) as tools,
            coalesce(bool_or(template_kwargs is not null), false) as settings
        from ({prompts})
        """
    )
    return PromptFields(**row)
