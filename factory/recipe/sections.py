"""The sections of a recipe about models, prompts, the loop, pairs, and limits."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, model_validator

from factory.recipe.fields import HOW_RUN, OWN, ROW_COUNT, Decides, InvalidField, Section
from factory.recipe.generation import PAST_OFFSET

PROBE = "probe"
"""The name of the judge of the section `probe`."""


REFERENCE = "reference"
"""The role of the prompts' own reference answers, and the name that stands for a model there."""


class Model(Section):
    path: Annotated[str, Decides(OWN)]
    """A causal language model with a chat template: a folder (starting with `.`, `/`, or `~`, or
    relative to the recipe's folder), or a Hub repository `organization/name`. The model is
    identified by the digest of its files, wherever they are."""
    revision: Annotated[str | None, Decides(OWN)] = None
    """The Hub revision: a commit, tag, or branch. The digest covers the files that were
    downloaded."""
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], Decides(OWN)] = "auto"
    """Number type of the weights when the model runs; auto takes that of the model's
    config.json."""
    adapter: Annotated[str | None, Decides(OWN)] = None
    """Folder of a LoRA adapter in PEFT's format. If set, the model is this adapter on the model at
    `path`."""

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class Prompts(Section):
    files: Annotated[list[str], Decides("prompts")] = Field(min_length=1)
    """JSONL files. Each line is an object with a `prompt` string or a `messages` list, and
    optionally reference, tools, template_kwargs, criteria, source, license, and meta."""
    on_error: Annotated[Literal["stop", "skip"], Decides("prompts")] = "stop"
    """What to do about invalid lines: stop before anything is generated, or skip them (the run
    counts and lists them)."""
    test_fraction: Annotated[float, Decides("pairs")] = Field(default=0.1, ge=0, lt=1)
    """Share of the prompts that form the test split: sampled, judged, and paired, but never trained
    on."""
    source: Annotated[str | None, Decides("prompts")] = None
    """Default source, for lines without one."""
    license: Annotated[str | None, Decides("prompts")] = None
    """Default license, for lines without one."""
    language: Annotated[list[str], HOW_RUN] = Field(default_factory=list)
    """Languages of the prompts as ISO 639-1 codes (`en`), for the card of a published dataset."""


class Loop(Section):
    policy: Annotated[str, Decides("pairs")] = "temporal"
    """How pairs are selected: the name of a file in `factory/pairs/policies/`, or the path of your
    own file, relative to the recipe and ending in .sql."""
    iterations: Annotated[int, Decides("pairs")] = Field(default=2, ge=1)
    """Number of models to train, each from the one before: M_1 … M_n. The paper uses 2 for TSR."""
    chunks: Annotated[int | None, Decides("pairs")] = Field(default=None, ge=1)
    """Number of parts that the prompts are split into, one for each iteration; by default the
    number of iterations. Set it if you may add iterations later and want to keep the finished
    ones."""

    @model_validator(mode="after")
    def _enough_chunks(self) -> "Loop":
        if self.chunks is not None and self.chunks < self.iterations:
            raise InvalidField(
                "chunks",
                f"got {self.chunks}",
                f"expected at least {self.iterations}, the number of iterations",
            )
        return self

    @property
    def n_chunks(self) -> int:
        return self.chunks or self.iterations


class Pairs(Section):
    """Which pairs are kept and how candidates are ranked, for every policy.

    A change calls no model. Inside the loop it selects other pairs to train on. Fields that compare
    two sides are refused with a policy that has no rejected side.
    """

    score: Annotated[str, Decides("pairs")] = Field(default="mean", min_length=1)
    """The score that ranks answers: `mean`, the mean of the valid judgments; `expected`, the mean
    of their `expected_score`; or an SQL expression over the names of judges, such as
    `0.5 * judge + 0.5 * honest`. In an expression, a name stands for the mean of that judge's
    judgments, and the name with `_expected` for the mean of their `expected_score`. The expression
    may also use the columns of `candidates`."""
    chosen_if: Annotated[str | None, Decides("pairs")] = Field(default=None, min_length=1)
    """An SQL condition that every chosen answer must meet, over the same names as `score`.
    `correct = 1` uses the judge `correct` as a gate."""
    rejected_if: Annotated[str | None, Decides("pairs")] = Field(default=None, min_length=1)
    """An SQL condition that every rejected answer must meet."""
    agree: Annotated[list[str], Decides("pairs")] = Field(default_factory=list)
    """Judges that must all score the chosen answer higher than the rejected one (as in CREAM, arXiv
    2410.12735, and SCIR, arXiv 2502.08922, which keep the pairs that two judges agree on)."""
    min_margin: Annotated[FiniteFloat, Decides("pairs")] = Field(default=0, ge=0)
    """Minimum difference of the two scores, on the judge's scale; 0 keeps every difference."""
    min_margin_to_noise: Annotated[FiniteFloat, Decides("pairs")] = Field(default=0, ge=0)
    """Minimum margin as a multiple of the pooled standard deviation of the two sides' judgments;
    requires judge.draws of at least 2."""
    length_control: Annotated[float | None, Decides("pairs")] = Field(default=None, ge=0, le=1)
    """ρ of Meta-Rewarding (arXiv 2407.19594, which uses up to 0.4). The chosen answer is the
    shortest in the top ρ of a role's range of scores, the rejected one the longest in the bottom
    ρ."""
    max_length_ratio: Annotated[float, Decides("pairs")] = Field(
        default=math.inf, ge=1, allow_inf_nan=True
    )
    """Maximum ratio of the two sides' token counts, the longer to the shorter."""
    max_similarity: Annotated[float, Decides("pairs")] = Field(default=1, ge=0, le=1)
    """Maximum share of words that the two sides have in common (Jaccard index of their sets of
    words)."""
    drop_truncated: Annotated[bool, Decides("pairs")] = False
    """Exclude answers that were cut off by max_tokens."""
    ties: Annotated[Literal["draw", "shorter", "longer", "hash"], Decides("pairs")] = "draw"
    """How to order answers with equal scores: by draw (lowest first), shorter or longer answers
    first, or by hash, which has no preference."""
    per_prompt: Annotated[int, Decides("pairs")] = Field(default=1, ge=1)
    """Maximum number of pairs per prompt: the best with the worst answer, the second best with the
    second worst, …"""


class Probe(Section):
    """Prompts and a judge that measure every model of the loop and never affect the pairs."""

    files: Annotated[list[str], Decides("prompts")] = Field(min_length=1)
    """JSONL files in the format of `prompts.files`."""
    function: Annotated[str, Decides("judgments")]
    """The judge: `file.py:function` or `module:function`."""
    timeout: Annotated[float, HOW_RUN] = Field(default=120, gt=0)
    """Seconds that the function may take per row, as in `judge.timeout`."""
    draws: Annotated[int, ROW_COUNT] = Field(default=1, ge=1, le=PAST_OFFSET)
    """Number of answers per model and probe prompt, sampled with the settings of `sampling`."""


class StopIf(Section):
    """Limits that stop a run early. None is on by default. Finished rows are kept."""

    truncated: Annotated[float | None, HOW_RUN] = Field(default=None, ge=0, le=1)
    """Maximum share of a step's answers that max_tokens cuts off."""
    unparsed: Annotated[float | None, HOW_RUN] = Field(default=None, ge=0, le=1)
    """Maximum share of a step's judgments without a score."""
    ties: Annotated[float | None, HOW_RUN] = Field(default=None, ge=0, le=1)
    """Maximum share of a step's candidate pairs that are ties."""
    probe_falls: Annotated[int | None, HOW_RUN] = Field(default=None, ge=1)
    """Number of falls of the probe's score in a row, from M_i to M_i+1, that stop the run."""

    @property
    def is_on(self) -> bool:
        return any(value is not None for _, value in self)


class Shards(Section):
    rows: Annotated[int, HOW_RUN] = Field(default=5000, ge=1)
    """Maximum number of rows in a shard."""
    seconds: Annotated[float, HOW_RUN] = Field(default=60, gt=0)
    """Maximum time that a finished row waits to be written: the most work that a kill can lose."""
