"""The section of a judge."""

import math
from types import NoneType
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, model_validator

from factory.recipe.engines import Engine, OpenaiEngine, TransformersEngine
from factory.recipe.fields import HOW_RUN, OWN, ROW_COUNT, Decides, InvalidField
from factory.recipe.generation import Generation
from factory.recipe.sections import PROBE, Model

JUDGE = "judge"
"""The name of the judge of the section `judge`, beside those of `judges`. A judge with its own
model is a model of the judge's name, beside M_0, F_0, M_1, …"""


class Judge(Generation):
    rubric: Annotated[str, Decides("judgments", "verdicts")] = "additive"
    """The judge prompt with its parser and scale: a file, or the name of one in
    `factory/stages/rubrics/`. Another prompt makes new judgments; another parser or scale only
    makes new verdicts."""
    parser: Annotated[str | None, Decides("verdicts")] = None
    """A regular expression with one group, the score; by default that of the rubric."""
    scale: Annotated[tuple[FiniteFloat, FiniteFloat] | None, Decides("verdicts")] = None
    """Lowest and highest score; by default those of the rubric (for a function: any number)."""
    draws: Annotated[int, ROW_COUNT] = Field(default=3, ge=1)
    """Number of judgments per answer, which are averaged: 3 in SR (arXiv 2401.10020); TSR publishes
    none."""
    expected_score: Annotated[bool, Decides(OWN)] = False
    """Store the log-probabilities of the rubric's labels at the position of the score, and compute
    `expected_score` from them in addition to the sampled score."""
    constrained: Annotated[bool, Decides(OWN)] = False
    """Restrict the judgment to one of the rubric's labels; for rubrics that ask for a number
    only."""
    function: Annotated[str | None, Decides(OWN)] = None
    """`file.py:function` or `module:function` to use instead of a model. It takes rows and returns
    one number per row. The judge's model and rubric are not used, and there is one judgment per
    answer."""
    by: Annotated[Literal["current", "previous"], Decides(OWN)] = "current"
    """Which model of the loop judges, unless the judge has its own: M_i, or the model before it. In
    iteration 0 both are M_0, whose judgments serve for both. CREAM compares the two (arXiv
    2410.12735)."""
    timeout: Annotated[float, HOW_RUN] = Field(default=120, gt=0)
    """Seconds that the function may take per row before the row fails. The default is ours. The
    function receives rows in batches, which are kept within the limit too. The import of its file
    is not counted, so load slow resources there."""
    model: Annotated[Model | None, Decides(OWN)] = None
    """A fixed judge: this model judges in every iteration, instead of the current one."""
    reward_model: Annotated[Model | None, Decides(OWN)] = None
    """A sequence-classification model of `transformers` with one label, whose logit is the score.
    It takes no rubric and gives one judgment per answer."""
    declared: Annotated[str | None, Decides(OWN)] = Field(default=None, min_length=1)
    """The revision of a judge whose weights only a server has, as declared by whoever runs it;
    nothing can verify it. Requires an openai engine in the judge's own section, whose `model` is
    the server's name for the judge."""
    engine: Annotated[Engine | None, Decides(OWN)] = None
    """The engine of the judge's own model, if it differs from `engine`: a large judge may need
    several GPUs, where a small model needs one."""
    opponents: Annotated[int, ROW_COUNT] = Field(default=2, ge=1)
    """For a rubric that compares two answers: how many of the current model's first answers to the
    prompt each other answer is compared with, in both orders. The default is ours."""

    @model_validator(mode="before")
    @classmethod
    def _scale_from_yaml(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("scale"), list):
            return {**value, "scale": tuple(value["scale"])}
        return value

    @model_validator(mode="after")
    def _scale_rises(self) -> "Judge":
        if self.scale is not None and self.scale[0] >= self.scale[1]:
            raise InvalidField("scale", f"got {list(self.scale)}", "expected [lowest, highest]")
        return self

    @model_validator(mode="after")
    def _greedy_once(self) -> "Judge":
        if self.temperature == 0 and self.n_draws > 1:
            raise InvalidField(
                "",
                f"temperature is 0 with {self.draws} draws, which repeat one judgment",
                "expected draws 1 or a temperature above 0",
            )
        return self

    @model_validator(mode="after")
    def _one_judge(self) -> "Judge":
        own = [field for field in OWN_JUDGES if getattr(self, field) is not None]
        if len(own) > 1:
            raise InvalidField("", f"{own[0]} and {own[1]} are both set", "remove one of them")
        if own and self.by != "current":
            raise InvalidField("", f"by is {self.by} and {own[0]} is set", "remove one of them")
        return self

    @model_validator(mode="after")
    def _engine_fits(self) -> "Judge":
        if self.engine is not None and not self.has_model:
            raise InvalidField(
                "engine",
                "is set, and the judge has no model of its own",
                "set the judge's model, or remove the engine (the current model judges on the "
                "engine that samples it)",
            )
        if self.reward_model and not isinstance(self.engine, TransformersEngine | NoneType):
            raise InvalidField(
                "reward_model",
                f"runs on transformers, and engine.name is {self.engine.name}",
                "remove the engine",
            )
        if self.declared is not None and not isinstance(self.engine, OpenaiEngine):
            raise InvalidField(
                "declared",
                "needs an openai engine in the judge's own section",
                "add one, with the server's name for the judge as its model",
            )
        return self

    @property
    def has_model(self) -> bool:
        """Whether the judge has its own model, the same in all iterations."""
        return self.function is None and any(
            getattr(self, field) is not None for field in OWN_JUDGES
        )

    @property
    def has_rubric(self) -> bool:
        """Whether the judge writes a judgment by a rubric, instead of returning a number."""
        return self.function is None and self.reward_model is None

    @property
    def n_draws(self) -> int:
        """Number of judgments per answer, or per order of a comparison."""
        return self.draws if self.has_rubric else 1


RESERVED = frozenset(
    (
        *(JUDGE, PROBE, "function", "mean", "expected"),
        *("iteration", "role", "name", "parser", "split", "prompt_id", "sample_id", "request_id"),
        *("parser_key", "sampling_key"),
        *("draw", "model", "sampling", "text", "tool_calls", "reasoning", "finish_reason"),
        *("n_prompt_tokens", "n_cached_tokens", "n_tokens", "cumulative_logprob"),
        *("engine", "engine_version", "dtype", "error", "error_kind"),
        *("score", "expected_score", "spread", "n_judgments", "n_unparsed"),
    )
)
"""Names that no judge of `judges` may have, since they mean something else in `pairs.score`."""


OWN_JUDGES = ("function", "model", "reward_model", "declared")
"""The fields of a judge that replace the model of the loop."""


def in_scale(score: float, scale: tuple[float, float] | None) -> bool:
    """Return whether a score is finite and within the scale, if there is one."""
    return math.isfinite(score) and (scale is None or scale[0] <= score <= scale[1])
