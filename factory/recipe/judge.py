"""The section of a judge."""

import math
from types import NoneType
from typing import Any, Literal

from pydantic import Field, FiniteFloat, model_validator

from factory.recipe.engines import Engine, OpenaiEngine, TransformersEngine
from factory.recipe.sections import JUDGE, PROBE, Generation, Model


class Judge(Generation):
    rubric: str = "additive"
    """The judge prompt, its parser and scale: a file, or the name of one in `factory/rubrics/`."""
    parser: str | None = None
    """A regular expression whose one group is the score; the rubric's own if not set."""
    scale: tuple[FiniteFloat, FiniteFloat] | None = None
    """Lowest and highest score; the rubric's own if not set (for a function: any number)."""
    draws: int = Field(default=3, ge=1)
    """Judgments per answer, averaged: 3 in SR (arXiv 2401.10020); TSR publishes none."""
    expected_score: bool = False
    """Keeps the log-probabilities of the rubric's labels where the score stands, and makes
    `expected_score` of them beside the score that was drawn."""
    constrained: bool = False
    """The judgment is one of the rubric's labels and nothing else; for rubrics that ask for a
    number only."""
    function: str | None = None
    """`file.py:function` or `module:function` instead of a model: rows in, one number a row out.
    The model and its rubric are then not used, and there is one judgment an answer."""
    by: Literal["current", "previous"] = "current"
    """Which model of the loop judges, where the judge has none of its own: M_i, or the one before
    it (in iteration 0: M_0, whose judgments are then the current one's), as CREAM compares them
    (arXiv 2410.12735)."""
    timeout: float = Field(default=120, gt=0)
    """Seconds that the function may take for a row, after which the row has failed; ours. Rows are
    given to it in batches, which are kept within the limit too. The import of its file is not
    counted: load there what takes long."""
    model: Model | None = None
    """A fixed judge: this model instead of the current one, the same in all iterations."""
    reward_model: Model | None = None
    """A sequence-classification model of `transformers` with one label, whose number is the score;
    there is no rubric, and one judgment an answer."""
    declared: str | None = Field(default=None, min_length=1)
    """The revision of a judge of which only a server has the weights, as whoever runs it declares
    it; nothing can verify it. Takes an openai engine of its own, whose `model` is its name."""
    engine: Engine | None = None
    """What runs the judge's own model, where it is not what `engine` says: a large judge takes
    several GPUs, where each of them holds a whole small model."""
    opponents: int = Field(default=2, ge=1)
    """Of a rubric that compares two answers: with how many of the current model's first answers to
    the prompt each other answer is compared, in both orders; ours."""

    @model_validator(mode="before")
    @classmethod
    def _scale_from_yaml(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("scale"), list):
            return {**value, "scale": tuple(value["scale"])}
        return value

    @model_validator(mode="after")
    def _scale_rises(self) -> "Judge":
        if self.scale is not None and self.scale[0] >= self.scale[1]:
            raise ValueError(f"scale is {list(self.scale)}, expected [lowest, highest]")
        return self

    @model_validator(mode="after")
    def _greedy_once(self) -> "Judge":
        if self.temperature == 0 and self.n_draws > 1:
            raise ValueError(
                f"temperature is 0 with {self.draws} draws, which are one judgment repeated: "
                "expected draws 1 or a temperature above 0"
            )
        return self

    @model_validator(mode="after")
    def _one_judge(self) -> "Judge":
        own = [field for field in OWN_JUDGES if getattr(self, field) is not None]
        if len(own) > 1:
            raise ValueError(
                f"{own[0]} and {own[1]} are both set, expected one judge: take one out"
            )
        if own and self.by != "current":
            raise ValueError(
                f"by is {self.by} and {own[0]} is set, expected one judge: take one out"
            )
        if self.engine is not None and (not own or own == ["function"]):
            raise ValueError(
                "engine is set and model is not: a judge that is the current model runs where it "
                "is sampled; name the judge's own model, or take the engine out"
            )
        if self.reward_model is not None and not isinstance(
            self.engine, TransformersEngine | NoneType
        ):
            raise ValueError("reward_model: takes the transformers engine; take the engine out")
        if self.declared is not None and not isinstance(self.engine, OpenaiEngine):
            raise ValueError(
                "declared: takes an openai engine in the same section, with the server's name for "
                "the judge"
            )
        return self

    @property
    def has_model(self) -> bool:
        """Whether it judges with a model of its own, the same in all iterations."""
        return self.function is None and any(
            getattr(self, field) is not None for field in OWN_JUDGES
        )

    @property
    def has_rubric(self) -> bool:
        """Whether it is asked for words, and not for a number."""
        return self.function is None and self.reward_model is None

    @property
    def n_draws(self) -> int:
        """Judgments of an answer; of a comparison, for each of the two orders."""
        return self.draws if self.has_rubric else 1


RESERVED = frozenset(
    (
        *(JUDGE, PROBE, "function", "mean", "expected"),
        *("iteration", "role", "name", "parser", "split", "prompt_id", "sample_id", "request_id"),
        *("draw", "model", "sampling", "text", "tool_calls", "reasoning", "finish_reason"),
        *("n_prompt_tokens", "n_cached_tokens", "n_tokens", "cumulative_logprob"),
        *("engine", "engine_version", "dtype", "error", "error_kind"),
        *("score", "expected_score", "spread", "n_judgments", "n_unparsed"),
    )
)
"""What no judge of `judges` can be called: in `pairs.score` these names mean something else."""


OWN_JUDGES = ("function", "model", "reward_model", "declared")
"""The fields of a judge that say who judges instead of a model of the loop."""


def in_scale(score: float, scale: tuple[float, float] | None) -> bool:
    """Whether a score is a finite number within a scale; without a scale, any finite number."""
    return math.isfinite(score) and (scale is None or scale[0] <= score <= scale[1])
