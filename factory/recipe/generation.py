"""The sections that say how a model writes."""

from typing import Annotated, Any

from pydantic import Field, FiniteFloat, model_validator

from factory.recipe.fields import OWN, ROW_COUNT, Decides, InvalidField, Section

PAST_OFFSET = 1024
"""First draw of the past role where past and current are the same model, so that the two sets of
answers differ."""


NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""The settings that a model's generation_config decides where the recipe does not, each with the
value that changes nothing."""


_Tag = Annotated[str, Field(min_length=1)]


class Generation(Section):
    """How a model writes. The defaults are borrowed, since TSR publishes none."""

    temperature: Annotated[FiniteFloat, Decides(OWN)] = Field(default=0.8, ge=0)
    """Sampling temperature; 0 is greedy. The default is that of Meta-Rewarding (arXiv 2407.19594),
    which also draws K = 7 answers."""
    top_p: Annotated[float, Decides(OWN)] = Field(default=0.95, gt=0, le=1)
    """Sample from the smallest set of tokens whose probabilities add up to this. The default is
    that of Meta-Rewarding (arXiv 2407.19594)."""
    max_tokens: Annotated[int, Decides(OWN)] = Field(default=1024, ge=1)
    """Maximum length of an answer in tokens. The default is ours."""
    top_k: Annotated[int | None, Decides(OWN)] = Field(default=None, ge=0)
    """Sample from the k most likely tokens; 0 means all tokens. If not set, the model's
    generation_config decides, as for the next two fields; `factory plan` shows the result."""
    min_p: Annotated[float | None, Decides(OWN)] = Field(default=None, ge=0, le=1)
    """Sample only tokens with at least this share of the most likely token's probability; 0 means
    all tokens."""
    repetition_penalty: Annotated[float | None, Decides(OWN)] = Field(default=None, gt=0)
    """Divide the logits of tokens that already occur in the prompt or the answer by this; 1 changes
    nothing."""
    reasoning: Annotated[tuple[_Tag, _Tag] | None, Decides(OWN)] = None
    """Tags around the model's reasoning, such as ['<think>', '</think>']. The text between them is
    stored in a column of its own and is not part of the answer."""

    @model_validator(mode="before")
    @classmethod
    def _tags_from_yaml(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("reasoning"), list):
            return {**value, "reasoning": tuple(value["reasoning"])}
        return value

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that decide the distribution of an answer up to where it is cut off.

        `max_tokens` is left out, so that a finished answer keeps its id under another limit.
        Settings that change nothing are left out too, so that a setting with its neutral value is
        the same as none.
        """
        changed = {name: value for name in NEUTRAL if (value := self.value(name)) is not None}
        tags = {} if self.reasoning is None else {"reasoning": list(self.reasoning)}
        return {"temperature": self.temperature, "top_p": self.top_p, **changed, **tags}

    def value(self, name: str) -> float | None:
        """Return one of the settings in NEUTRAL, or None where it changes nothing."""
        value: float | None = getattr(self, name)
        return None if value == NEUTRAL[name] else value


class Sampling(Generation):
    max_tokens: Annotated[int, Decides("prompts", "samples")] = Field(default=1024, ge=1)
    """Maximum length of an answer in tokens. The default is ours. Prompts that leave no room for it
    in the model's context are refused."""
    draws: Annotated[int, ROW_COUNT] = Field(default=7, ge=1, le=PAST_OFFSET)
    """K, the number of answers per model and prompt: 7 in TSR (arXiv 2508.06026)."""

    @model_validator(mode="after")
    def _greedy_once(self) -> "Sampling":
        if self.temperature == 0 and self.draws > 1:
            raise InvalidField(
                "",
                f"temperature is 0 with {self.draws} draws, which repeat one answer",
                "expected draws 1 or a temperature above 0",
            )
        return self
