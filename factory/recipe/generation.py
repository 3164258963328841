"""The recipe's `sampling` section, and the sampling settings that it shares with judges."""

from typing import Annotated, Any

from pydantic import Field, FiniteFloat, model_validator

from factory.recipe.fields import OWN, ROW_COUNT, Decides, InvalidField, Section

PAST_OFFSET = 1024
"""Number of the past role's first draw while the past and the current model are the same. Different
draw numbers give different seeds, so the two sets of answers differ."""


NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Sampling settings that default to the model's generation_config, each with its neutral value."""


_Tag = Annotated[str, Field(min_length=1)]


class Generation(Section):
    """Sampling settings of a model that writes answers or judgments."""

    temperature: Annotated[FiniteFloat, Decides(OWN)] = Field(default=0.8, ge=0, le=100)
    """Sampling temperature; 0 means greedy decoding. Default from Meta-Rewarding (arXiv
    2407.19594). The TSR paper uses 1.0."""
    top_p: Annotated[float, Decides(OWN)] = Field(default=0.95, gt=0, le=1)
    """Sample from the smallest set of tokens whose probabilities add up to at least this value.
    Default from Meta-Rewarding (arXiv 2407.19594). The TSR paper uses 1.0."""
    max_tokens: Annotated[int, Decides(OWN)] = Field(default=1024, ge=1, le=10_000_000)
    """Maximum length of the generated text in tokens. Default as in the TSR paper, which states it
    for answers."""
    top_k: Annotated[int | None, Decides(OWN)] = Field(default=None, ge=0, le=10_000_000)
    """Sample from the k most likely tokens; 0 means all tokens. Default from the model's
    generation_config; `factory plan` shows the value."""
    min_p: Annotated[float | None, Decides(OWN)] = Field(default=None, ge=0, le=1)
    """Sample only tokens whose probability is at least this share of the most likely token's
    probability; 0 means all tokens. Default from the model's generation_config."""
    repetition_penalty: Annotated[float | None, Decides(OWN)] = Field(default=None, gt=0, le=100)
    """Penalty on tokens that already occur in the prompt or the answer: positive logits are divided
    by it, negative logits multiplied; 1 means no penalty. Default from the model's
    generation_config."""
    reasoning: Annotated[tuple[_Tag, _Tag] | None, Decides(OWN)] = None
    """Opening and closing tag of the model's reasoning, such as `['<think>', '</think>']`. The
    factory stores the reasoning in a separate column, and removes it from the answer."""

    @model_validator(mode="before")
    @classmethod
    def _tags_from_yaml(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("reasoning"), list):
            return {**value, "reasoning": tuple(value["reasoning"])}
        return value

    @property
    def identity(self) -> dict[str, Any]:
        """The sampling settings that determine the distribution of answers, except the maximum
        length.

        Without `max_tokens`, a finished answer keeps its ID under a different limit. Settings with
        a neutral value are omitted, because they do not change the distribution.
        """
        changed = {name: value for name in NEUTRAL if (value := self.value(name)) is not None}
        tags = {} if self.reasoning is None else {"reasoning": list(self.reasoning)}
        return {"temperature": self.temperature, "top_p": self.top_p, **changed, **tags}

    def value(self, name: str) -> float | None:
        """Return the value of a sampling setting, or None if it is not set or has no effect."""
        value: float | None = getattr(self, name)
        return None if value == NEUTRAL[name] else value


class Sampling(Generation):
    """Sampling settings for the models' answers to the prompts."""

    max_tokens: Annotated[int, Decides("prompts", "samples")] = Field(
        default=1024, ge=1, le=10_000_000
    )
    """Maximum length of an answer in tokens. Default as in the TSR paper. A prompt that does not
    fit into the model's context together with such an answer counts as an invalid line; see
    `prompts.on_error`."""
    draws: Annotated[int, ROW_COUNT] = Field(default=7, ge=1, le=PAST_OFFSET)
    """K, the number of answers per model and prompt. Default as in the TSR paper (arXiv
    2508.06026)."""

    @model_validator(mode="after")
    def _greedy_once(self) -> "Sampling":
        if self.temperature == 0 and self.draws > 1:
            raise InvalidField(
                "",
                f"at temperature 0, all {self.draws} draws would give the same answer",
                "set draws to 1, or set temperature above 0",
            )
        return self
