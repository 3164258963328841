"""Recipe sections for models, prompts, the loop, pairs, the probe, limits, and shards."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, model_validator

from factory.recipe.fields import (
    ADVANCED,
    HOW_RUN,
    OWN,
    ROW_COUNT,
    Advanced,
    Decides,
    InvalidField,
    Section,
)
from factory.recipe.generation import PAST_OFFSET

PROBE = "probe"
"""The name of the judge in the section `probe`."""


REFERENCE = "reference"
"""The role of the reference answers in the prompt files, also used in place of a model name."""


class Model(Section):
    """Settings of a model: its folder or Hub repository, and an optional LoRA adapter.

    Instead of a section, a recipe may give only the path as a string: `model: ./m0`.
    """

    path: Annotated[str, Decides(OWN)] = ""
    """Folder of the model, relative to the recipe's folder, or a Hub repository
    `organization/name`. The model needs a chat template. A digest of its files identifies the
    model, so moving the folder reruns nothing. Required, except with `declared`."""
    revision: Annotated[str | None, Decides(OWN)] = None
    """Hub revision: a commit, tag, or branch. By default, the main branch."""
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], Decides(OWN)] = "auto"
    """Number type of the weights when the model runs. `auto` takes the type from the model's
    config.json."""
    adapter: Annotated[str | None, Decides(OWN)] = None
    """Folder of a LoRA adapter in PEFT's format, relative to the recipe's folder. The model at
    `path` is its base model."""
    declared: Annotated[str | None, Decides(OWN)] = Field(default=None, min_length=1)
    """Revision of a model whose weights are only on a server, as declared by the server's operator.
    Use it instead of `path`. The factory cannot verify the revision. Only M_0 can have this field,
    with the openai engine and `loop.iterations: 0`. A judge has its own field `declared`."""

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_origin(self) -> "Model":
        others = [name for name in self.model_fields_set if name != "declared"]
        if self.declared is None and not self.path:
            raise InvalidField("path", "the field is required", "add it to the recipe")
        if self.declared is not None and others:
            raise InvalidField(
                "declared",
                f"{others[0]} and declared are both set, but a declared model has no files",
                f"remove {others[0]} or declared",
            )
        return self


class Prompts(Section):
    """Settings of the prompts: their files, test split, source, and license."""

    files: Annotated[list[str], Decides("prompts")] = Field(min_length=1)
    """JSONL files, relative to the recipe's folder. Each line is an object with a `prompt` string
    or a `messages` list. It may also contain `reference`, `tools`, `template_kwargs`, `criteria`,
    `source`, `license`, and `meta`."""
    on_error: Annotated[Literal["stop", "skip"], Decides("prompts")] = "stop"
    """What to do about invalid lines. `stop` ends the run before any model runs. `skip` ignores the
    invalid lines, and the run counts and lists them."""
    test_fraction: Annotated[float, Decides("pairs")] = Field(default=0.1, ge=0, lt=1)
    """Share of the prompts in the test split. Their answers are judged and paired like all others,
    but no model is trained on them. The default is our choice, untested."""
    source: Annotated[str | None, Decides("prompts")] = None
    """Source of the prompts on lines that do not name their own source."""
    license: Annotated[str | None, Decides("prompts")] = None
    """License of the prompts on lines that do not name their own license."""
    language: Annotated[list[str], HOW_RUN] = Field(default_factory=list)
    """Languages of the prompts as ISO 639-1 codes, such as `en`, for the card of a published
    dataset."""


class Loop(Section):
    """Settings of the loop: the number of iterations and the pair policy."""

    policy: Annotated[str, Decides("pairs")] = "temporal"
    """Pair policy, which selects the pairs: the name of a file in `factory/pairs/policies/`, or the
    path of your own `.sql` file, relative to the recipe's folder. `temporal` is the method of the
    TSR paper."""
    iterations: Annotated[int, Decides("pairs")] = Field(default=2, ge=0, le=100)
    """Number of iterations. Iteration i trains the model M_{i+1} from M_i. With 0, the run trains
    no model and ignores the section `train`. The dataset then consists of the first pairs of
    iteration 0, which are chosen from answers of M_0. Default as in the TSR paper."""
    chunks: Annotated[int | None, Decides("pairs")] = Field(default=None, ge=1, le=1_000_000)
    """Number of parts that the prompts are split into. Each iteration uses one part. The default is
    the number of iterations, or 1 with 0 iterations. Set a larger number if you want to add
    iterations later without rerunning the finished ones. The TSR paper uses 5 parts of 4,000
    prompts."""

    @model_validator(mode="after")
    def _enough_chunks(self) -> "Loop":
        if self.chunks is not None and self.chunks < self.iterations:
            raise InvalidField(
                "chunks",
                f"got {self.chunks} chunks, but there are {self.iterations} iterations",
                f"set loop.chunks to at least {self.iterations}",
            )
        return self

    @property
    def n_chunks(self) -> int:
        """The number of parts into which the prompts are split."""
        return self.chunks or max(1, self.iterations)

    @property
    def trains_models(self) -> bool:
        """Whether the loop trains models. With 0 iterations, it only chooses pairs."""
        return self.iterations > 0

    @property
    def numbers(self) -> range:
        """The numbers of the iterations that choose pairs. With 0 iterations, pairs are chosen in
        iteration 0."""
        return range(max(1, self.iterations))


class Pairs(Section):
    """Settings for ranking answers and filtering pairs, which apply to every pair policy.

    Changing a field selects other pairs from the stored scores, and retrains the models. A policy
    without a rejected side does not accept the fields that compare two sides.
    """

    score: Annotated[str, Decides("pairs")] = Field(default="mean", min_length=1)
    """Score that ranks the answers. `mean` is the mean of the valid judgments of `judge`.
    `expected` is the mean of their expected scores. Any other text is a SQL expression over the
    names of judges, such as `0.5 * judge + 0.5 * honest`. In it, a judge's name means the mean of
    its judgments, and the name with `_expected` means the mean of its expected scores. The
    expression may also use the columns of the view `candidates`. The default, `mean`, follows
    Self-Rewarding (arXiv 2401.10020)."""
    chosen_if: Annotated[str | None, Decides("pairs")] = Field(default=None, min_length=1)
    """SQL condition that every chosen answer must meet. It may use the same names as `score`. For
    example, `correct = 1` requires the judge `correct` to give a score of 1."""
    rejected_if: Annotated[str | None, Decides("pairs")] = Field(default=None, min_length=1)
    """SQL condition that every rejected answer must meet. It may use the same names as `score`."""
    agree: Annotated[list[str], Decides("pairs")] = Field(default_factory=list)
    """Judges that must all score the chosen answer higher than the rejected answer. SCIR (arXiv
    2502.08922) keeps only pairs on which two judges agree. CREAM (arXiv 2410.12735) measures the
    agreement of two judges."""
    min_margin: Annotated[FiniteFloat, Decides("pairs")] = Field(default=0, ge=0, le=1_000_000_000)
    """Minimum difference of the two scores, in points of the judge's scale. With 0, any difference
    is enough, as in the TSR paper."""
    min_margin_to_noise: Annotated[FiniteFloat, Decides("pairs")] = Field(
        default=0, ge=0, le=1_000_000_000
    )
    """Minimum difference of the two scores, as a multiple of the pooled standard deviation of the
    two answers' judgments. Requires `judge.draws` of at least 2."""
    length_control: Annotated[float | None, Decides("pairs")] = Field(default=None, ge=0, le=1)
    """ρ of the length control in Meta-Rewarding (arXiv 2407.19594), which uses up to 0.4. The
    chosen answer is the shortest in the top share ρ of the score range of a role. The rejected
    answer is the longest in the bottom share ρ. By default, off, as in the TSR paper."""
    max_length_ratio: Annotated[float, Decides("pairs")] = Field(
        default=math.inf, ge=1, allow_inf_nan=True
    )
    """Maximum ratio of the two answers' token counts, the longer to the shorter. By default, there
    is no limit."""
    max_similarity: Annotated[float, Decides("pairs")] = Field(default=1, ge=0, le=1)
    """Maximum similarity of the two answers: the Jaccard index of their sets of words. With 1,
    there is no limit."""
    drop_truncated: Annotated[bool, Decides("pairs")] = False
    """Whether to exclude answers that `max_tokens` cut off."""
    ties: Annotated[
        Literal["draw", "shorter", "longer", "hash"],
        Advanced(hash="Order by a hash of the answer's ID, which prefers no draw and no length."),
        Decides("pairs"),
    ] = "draw"
    """Order of answers with equal scores: by the number of the draw (lowest first), `shorter`
    answers first, or `longer` answers first. The default is our choice, untested."""
    per_prompt: Annotated[int, Decides("pairs")] = Field(default=1, ge=1, le=10_000)
    """Maximum number of pairs per prompt. The first pair consists of the best and the worst answer,
    the second pair of the second best and the second worst answer, and so on. Default as in the TSR
    paper."""


class Probe(Section):
    """Settings of the probe, which measures every model in the loop and never affects the pairs.

    The probe has its own prompts and its own judge.
    """

    files: Annotated[list[str], Decides("prompts")] = Field(min_length=1)
    """JSONL files with the probe prompts, in the same format as `prompts.files`."""
    function: Annotated[str, Decides("judgments")]
    """Python function that scores the answers, as `file.py:function` or `module:function`. It works
    like `judge.function`."""
    timeout: Annotated[float, HOW_RUN] = Field(default=120, gt=0, le=1_000_000)
    """Seconds that the function may take per row, as in `judge.timeout`. The default is our choice,
    untested."""
    draws: Annotated[int, ROW_COUNT] = Field(default=1, ge=1, le=PAST_OFFSET)
    """Number of answers per model and probe prompt. The models answer with the settings of
    `sampling`. The default is our choice, untested."""


class StopIf(Section):
    """Limits that stop a run early.

    By default, a run stops only if a judge model's scores cannot select pairs. The factory keeps
    the finished rows of a stopped run.
    """

    truncated: Annotated[float | None, HOW_RUN] = Field(default=None, ge=0, le=1)
    """Largest allowed share of a step's answers that `max_tokens` cuts off."""
    unparsed: Annotated[float | None, HOW_RUN] = Field(default=None, ge=0, le=1)
    """Largest allowed share of a step's judgments without a valid score. By default, a run stops if
    more than 95% of a judge model's judgments have no score and the scores select pairs. Set 1 to
    never stop. The default is our choice, untested."""
    equal_scores: Annotated[bool, HOW_RUN] = True
    """Whether to stop in iteration 0 if a judge model gives all answers of M_0 the same score: in
    the first 200 judgments of a step, or in all judgments of a smaller step. Judges whose scores
    select no pairs, and policies with references, are not checked."""
    ties: Annotated[float | None, HOW_RUN] = Field(default=None, ge=0, le=1)
    """Largest allowed share of a step's candidate pairs whose two scores are equal."""
    probe_falls: Annotated[int | None, HOW_RUN] = Field(default=None, ge=1, le=10_000)
    """Number of consecutive falls in the probe score after which the run stops. A score falls if it
    is lower than that of the previous model."""


class Shards(Section):
    """Settings for writing finished rows to Parquet shards."""

    rows: Annotated[int, HOW_RUN, ADVANCED] = Field(default=5000, ge=1, le=10_000_000)
    """Maximum number of rows per shard. The default is our choice, untested."""
    seconds: Annotated[float, HOW_RUN, ADVANCED] = Field(default=60, gt=0, le=3600)
    """Maximum number of seconds before finished rows are written as a shard. Until then, a journal
    keeps them on disk. The default is our choice, untested."""
