"""Settings of a judge, in the recipe's `judge` section and in each entry of `judges`."""

import math
from types import NoneType
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, model_validator

from factory.recipe.engines import Engine, OpenaiEngine, TransformersEngine
from factory.recipe.fields import HOW_RUN, OWN, ROW_COUNT, Decides, InvalidField
from factory.recipe.generation import Generation
from factory.recipe.sections import PROBE, Model

JUDGE = "judge"
"""The name of the judge in the section `judge`. The model of a judge with its own model is named
after the judge."""


class Judge(Generation):
    """Settings of a judge that scores every answer.

    By default, the current model M_i judges with a rubric. The fields `function`, `model`,
    `reward_model`, and `declared` replace that model; set at most one of them.
    """

    rubric: Annotated[str, Decides("judgments", "verdicts")] = "additive"
    """Rubric: a file with the judge prompt, the parser, and the scale, or the name of a rubric in
    `factory/stages/rubrics/`. Changing the prompt reruns the judge. Changing the parser or scale
    only parses the stored judgments again. The default follows the additive rubric of
    Self-Rewarding (arXiv 2401.10020), because the TSR paper does not give its judge prompt."""
    parser: Annotated[str | None, Decides("verdicts")] = None
    """Regular expression whose only group matches the score in a judgment. Default from the
    rubric."""
    scale: Annotated[tuple[FiniteFloat, FiniteFloat] | None, Decides("verdicts")] = None
    """Lowest and highest valid score. Default from the rubric. A function or reward model may
    return any finite number by default."""
    draws: Annotated[int, ROW_COUNT] = Field(default=3, ge=1, le=10_000)
    """Number of judgments per answer; the answer's score is their mean. Default from Self-Rewarding
    (arXiv 2401.10020). The TSR paper does not give its number."""
    expected_score: Annotated[bool, Decides(OWN)] = False
    """Whether to also compute the expected score of each judgment. It is the mean of the rubric's
    labels, weighted by their probabilities at the position of the score. A label can have several
    tokens, such as 10 or `excellent`. Only the openai engine needs labels that are single tokens.
    If this field is true, changing the parser or the scale reruns the judge."""
    constrained: Annotated[bool, Decides(OWN)] = False
    """Whether the judge may generate only one of the rubric's labels. Use it with a rubric that
    asks for nothing but a score."""
    function: Annotated[str | None, Decides(OWN)] = None
    """Python function that judges instead of a model, as `file.py:function` or `module:function`.
    It takes a list of rows and returns one number per row. A function uses no rubric and gives one
    judgment per answer."""
    by: Annotated[Literal["current", "previous"], Decides(OWN)] = "current"
    """Model of the loop that judges: the current model M_i, or the previous model. In iteration 0,
    both are M_0 and share their judgments. Default as in the TSR paper. CREAM (arXiv 2410.12735)
    compares the two."""
    timeout: Annotated[float, HOW_RUN] = Field(default=120, gt=0, le=1_000_000)
    """Seconds that the function may take for a row, or for a batch of rows. If a single row takes
    longer, it fails. Importing the function's file does not count, so load slow resources there.
    The default is our choice, untested."""
    model: Annotated[Model | None, Decides(OWN)] = None
    """Fixed model that judges in every iteration instead of the current model."""
    reward_model: Annotated[Model | None, Decides(OWN)] = None
    """Reward model that judges in every iteration: a sequence-classification model of
    `transformers` with one label. Its logit is the score. A reward model uses no rubric and gives
    one judgment per answer."""
    declared: Annotated[str | None, Decides(OWN)] = Field(default=None, min_length=1)
    """Revision of a judge whose weights are only on a server, as declared by the server's operator.
    The factory cannot verify the revision. Requires an openai engine in the judge's own `engine`
    section."""
    engine: Annotated[Engine | None, Decides(OWN)] = None
    """Engine of the judge's own model, if it differs from the recipe's `engine`. For example, a
    large judge may need several GPUs while M_0 needs one."""
    opponents: Annotated[int, ROW_COUNT] = Field(default=2, ge=1, le=10_000)
    """Number of opponents per answer, for a rubric that compares two answers. The opponents are the
    current model's first answers to the same prompt. The judge compares each pair in both orders.
    The default is our choice, untested."""

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
                f"at temperature 0, all {self.draws} draws would give the same judgment",
                "set draws to 1, or set temperature above 0",
            )
        return self

    @model_validator(mode="after")
    def _one_judge(self) -> "Judge":
        own = [field for field in OWN_JUDGES if getattr(self, field) is not None]
        if len(own) > 1:
            raise InvalidField(
                "", f"{own[0]} and {own[1]} are both set", f"remove {own[0]} or {own[1]}"
            )
        if own and self.by != "current":
            raise InvalidField(
                "", f"`by` cannot be {self.by} if `{own[0]}` is set", f"remove `by` or `{own[0]}`"
            )
        return self

    @model_validator(mode="after")
    def _model_has_files(self) -> "Judge":
        for field, model in (("model", self.model), ("reward_model", self.reward_model)):
            if model is not None and model.declared is not None:
                raise InvalidField(
                    f"{field}.declared",
                    "only the recipe's model can have this field",
                    "set declared in the judge's section instead",
                )
        return self

    @model_validator(mode="after")
    def _engine_fits(self) -> "Judge":
        if self.engine is not None and not self.has_model:
            raise InvalidField(
                "engine",
                "the judge has an engine but no separate model",
                "set the judge's model, or remove the judge's engine",
            )
        if self.reward_model and not isinstance(self.engine, TransformersEngine | NoneType):
            raise InvalidField(
                "reward_model",
                "a reward model needs the transformers engine, but the judge's engine is "
                f"{self.engine.name}",
                "remove the judge's engine",
            )
        if self.declared is not None and not isinstance(self.engine, OpenaiEngine):
            raise InvalidField(
                "declared",
                "a judge with a declared revision needs a separate openai engine",
                "add an openai engine to the judge's section, and set engine.model to the name "
                "that the server uses for the judge",
            )
        return self

    @property
    def has_model(self) -> bool:
        """Whether the judge has its own model, which is the same in all iterations."""
        return self.function is None and any(
            getattr(self, field) is not None for field in OWN_JUDGES
        )

    @property
    def has_rubric(self) -> bool:
        """Whether the judge follows a rubric and writes text, instead of returning a number."""
        return self.function is None and self.reward_model is None

    @property
    def n_draws(self) -> int:
        """The number of judgments that each answer receives.

        If the rubric compares two answers, each order of the pair receives this number.
        """
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
"""Names that a judge in `judges` may not have, because they have another meaning in SQL."""


OWN_JUDGES = ("function", "model", "reward_model", "declared")
"""The fields of a judge that replace the current model as the judge."""


def in_scale(score: float, scale: tuple[float, float] | None) -> bool:
    """Return whether a score is finite and, if a scale is given, within the scale."""
    return math.isfinite(score) and (scale is None or scale[0] <= score <= scale[1])
