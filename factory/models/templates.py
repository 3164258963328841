"""Read the chat templates in a model folder, and render them exactly as transformers does.

The code follows transformers 5.19. Importing transformers would take longer than the rest of
`factory plan`.

Some templates print today's date. The factory renders them with a fixed date instead, in every
engine and in the trainer. Otherwise one folder of samples would contain answers to different
prompts, and the trainer would see yet another prompt.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import ModelError, one_line
from factory.files import is_regular
from factory.models.chat import Conversation
from factory.models.config import read_json
from factory.time_limit import SECONDS, TooSlow, time_limit

if TYPE_CHECKING:
    from jinja2 import Environment, Template

DATE = date(2024, 7, 26)
"""The date that templates print. The template of Llama 3.1 has the same default."""

_FILE, _FOLDER = "chat_template.jinja", "additional_chat_templates"

MOST_CHARACTERS = 10_000_000
"""Maximum number of characters that a template may write for one prompt."""

SPECIAL_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
"""The special tokens that transformers passes to every chat template."""


@dataclass(frozen=True)
class ChatTemplates:
    """The chat templates of a model as Jinja text, by name."""

    texts: Mapping[str, str]
    """The templates with a fixed date, as this package and every engine render them."""
    prints_date: bool
    """Whether a template prints the current date unless the factory fixes it."""
    field: str
    """The recipe field that names the model."""

    def choose(self, tools: object) -> str:
        """Return the name of the template for a conversation with or without tools."""
        return "tool_use" if tools is not None and "tool_use" in self.texts else "default"

    @property
    def for_tokenizer(self) -> str | dict[str, str]:
        """The value for the attribute `chat_template` of a transformers tokenizer."""
        return dict(self.texts) if len(self.texts) > 1 else self.texts["default"]

    def check(self, field: str) -> None:
        """Raise ModelError if a template is not valid. `field` is the recipe field of its model."""
        for text in self.texts.values():
            _check(text, field)

    def mention(self, name: str) -> bool:
        """Return whether the text of a template contains the name of a variable."""
        return any(name in text for text in self.texts.values())

    def render(
        self,
        conversation: Conversation,
        special_tokens: Mapping[str, str],
        *,
        add_generation_prompt: bool = True,
    ) -> str:
        """Return the text of a prompt.

        Raises jinja2.TemplateError, or any other exception, if the template refuses the messages or
        writes more than MOST_CHARACTERS. Raises ModelError if it takes longer than 10 seconds.
        """
        from jinja2 import TemplateError

        variables = {
            "tools": conversation.tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **special_tokens,
            **conversation.settings,
        }
        pieces, length = [], 0
        try:
            with time_limit():
                template = _compile(self.texts[self.choose(conversation.tools)])
                for piece in template.generate(messages=conversation.messages, **variables):
                    pieces.append(piece)
                    length += len(piece)
                    if length > MOST_CHARACTERS:
                        raise TemplateError(f"it wrote more than {MOST_CHARACTERS:,} characters")
                return "".join(pieces)
        except TooSlow:
            raise ModelError(
                self.field,
                f"the chat template took longer than {SECONDS:g} s for one prompt",
                "correct the chat template, for example nested loops",
            ) from None


def read_templates(path: Path, field: str) -> ChatTemplates | None:
    """Return the chat templates in a model folder, or None if it has no default template.

    Raises ModelError if a file is damaged, or if a template prints a date whose format is unknown.
    `field` is the recipe field that names the folder.
    """
    texts = _read_texts(path, field)
    if "default" not in texts:
        return None
    dated = {name: _with_fixed_date(text, field) for name, text in texts.items()}
    return ChatTemplates(dated, dated != texts, field)


def prints_date(path: Path, field: str) -> bool:
    """Return whether a chat template in a model folder would print the current date."""
    templates = read_templates(path, field)
    return templates is not None and templates.prints_date


def chat_template(path: Path, field: str) -> str | None:
    """Return the default chat template in a model folder as it is stored, or None if there is none.

    Raises ModelError if a file is damaged. `field` is the recipe field that names the folder.
    """
    return _read_texts(path, field).get("default")


def _read_texts(path: Path, field: str) -> dict[str, str]:
    named = {file.stem: file for file in sorted((path / _FOLDER).glob("*.jinja"))}
    if (path / _FILE).exists():
        named["default"] = path / _FILE
    if named:  # template files take precedence over tokenizer_config.json
        return {name: _read_text(file, field) for name, file in named.items()}
    template = read_json(path / "tokenizer_config.json", field).get("chat_template")
    if isinstance(template, list):
        return {item["name"]: item["template"] for item in template}
    return {} if template is None else {"default": template}


def _read_text(file: Path, field: str) -> str:
    try:
        if not is_regular(file):
            raise OSError("it is not a file")
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            field, f"{file.name} cannot be read as UTF-8 text ({error})", "save the file as UTF-8"
        ) from None
    if text.startswith("\ufeff"):
        raise ModelError(
            field,
            f"{file.name} starts with a byte order mark, which would be part of every prompt",
            "save the file as UTF-8 without a byte order mark",
        )
    return text


@cache
def _compile(text: str) -> "Template":
    return _environment().from_string(text)


def _check(text: str, field: str) -> None:
    """Raise ModelError if a chat template cannot be compiled."""
    from jinja2 import TemplateError

    try:
        _compile(text)
    except (TemplateError, ValueError) as error:  # ValueError for numbers of 4,300 digits
        fault = one_line(error, 200)
    except (RecursionError, SyntaxError, MemoryError):  # raised by Python's compiler
        fault = "it is nested too deeply"
    else:
        return
    raise ModelError(
        field, f"the chat template is not valid ({fault})", "correct the chat template"
    )


def _with_fixed_date(text: str, field: str) -> str:
    """Return a template that prints DATE instead of the current date.

    A macro replaces transformers' function `strftime_now`, so the template renders the same text
    everywhere. A template without this function stays unchanged.
    """
    if "strftime_now" not in text:
        return text
    from jinja2 import nodes

    _check(text, field)

    tree = _environment().parse(text)
    forms = [
        call.args[0] if len(call.args) == 1 else None
        for call in tree.find_all(nodes.Call)
        if isinstance(call.node, nodes.Name) and call.node.name == "strftime_now"
    ]
    tests = sum(
        isinstance(test.node, nodes.Name) and test.node.name == "strftime_now"
        for test in tree.find_all(nodes.Test)
    )
    names = sum(name.name == "strftime_now" for name in tree.find_all(nodes.Name))
    if names > len(forms) + tests:  # the function gets another name, such as {% set now = … %}
        forms.append(None)
    if not forms:
        return text
    dates = {}
    for form in forms:
        if not (isinstance(form, nodes.Const) and isinstance(form.value, str)):
            raise ModelError(
                field,
                "the chat template prints the current date in a format that depends on the prompt",
                "write a fixed date into the chat template",
            )
        dates[form.value] = DATE.strftime(form.value)
    # On a separate line, because Jinja strips spaces before a tag only at the start of a line.
    return (
        f"{{% macro strftime_now(format) %}}{{{{ {json.dumps(dates)}[format] }}}}{{% endmacro %}}\n"
        + text
    )


def _environment() -> "Environment":
    """Return the Jinja environment of transformers.utils.chat_template_utils."""
    from jinja2 import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.nodes import Node
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """Blocks that mark the assistant's text for training. They render to their content."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> list[Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def to_json(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    class Sandbox(ImmutableSandboxedEnvironment):
        """A sandbox in which a product or a power cannot fill the memory."""

        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**" and abs(right) > 1_000:
                raise TemplateError(f"it computes a power with the exponent {right}")
            for text, times in ((left, right), (right, left)):
                if (
                    operator == "*"
                    and isinstance(text, str | list | tuple)
                    and isinstance(times, int)
                    and len(text) * times > MOST_CHARACTERS
                ):
                    raise TemplateError(f"it repeats a text {times} times")
            return super().call_binop(context, operator, left, right)

    environment = Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment
