"""The whole recipe, and the checks that span its sections.

Reading it touches no model and no lake. Paths in a recipe are relative to the recipe's own folder.
"""

import re
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from factory.recipe.engines import Engine, TransformersEngine
from factory.recipe.judge import RESERVED, Judge
from factory.recipe.sections import (
    JUDGE,
    Loop,
    Model,
    Pairs,
    Probe,
    Prompts,
    Sampling,
    Section,
    Shards,
    StopIf,
    Train,
)


class Recipe(Section):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)
    """Names the dataset's folder: lower-case letters, digits, `-`, `_`, `.`."""
    seed: int = Field(default=0, ge=0)
    """Every draw's seed is a hash of this, the model, the sampling and the prompt, plus the
    draw."""
    model: Model
    """M_0: the model that the loop starts from, and that every rejected answer is anchored to."""
    prompts: Prompts
    loop: Loop = Loop()
    sampling: Sampling = Sampling()
    judge: Judge = Judge()
    judges: dict[str, Judge] = Field(default_factory=dict)
    """More judges, by names of their own, each with the fields of `judge`: `pairs` may combine
    them, `factory sql` compares them."""
    pairs: Pairs = Pairs()
    probe: Probe | None = None
    train: Train = Train()
    engine: Engine = TransformersEngine()
    shards: Shards = Shards()
    max_failed: float = Field(default=0.05, ge=0, le=1)
    """The share of a step's requests that may fail before the run stops."""
    stop_if: StopIf = StopIf()
    query_memory: str | None = Field(default=None, pattern=r"^[1-9][0-9]*(\.[0-9]+)? ?[KMGT]i?B$")
    """The most memory that queries over the lake hold, as 4GB or 500MiB: what is more goes to files
    in the system's temporary folder (TMPDIR), as far as DuckDB can (a choice of pairs needs some
    200 MB for 60,000 prompts). Where it is silent, DuckDB takes up to 80 % of the machine's. It
    limits no engine and no trainer."""
    folder: Path = Field(default=Path(), exclude=True)
    """Where the recipe lies; set by `load_recipe`."""

    @field_validator("judges")
    @classmethod
    def _judges_can_be_named(cls, value: dict[str, Judge]) -> dict[str, Judge]:
        for name in value:
            taken = name in RESERVED or name.endswith(("_expected", "_judgments"))
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or taken:
                raise ValueError(
                    f"got the name {name!r}, expected lower-case letters, digits and _ and none "
                    f"of {', '.join(sorted(RESERVED))}"
                )
        return value

    @model_validator(mode="after")
    def _judges_are_served(self) -> "Recipe":
        for name, judge in self.all_judges.items():
            if judge.model is not None and judge.engine is None and self.engine.name == "openai":
                raise ValueError(
                    f"{self.field_of(name)}.engine: missing, and engine.model is the server's name "
                    "for M_0: give the judge an engine of its own, with the server's name for it"
                )
        return self

    @model_validator(mode="after")
    def _scores_are_there(self) -> "Recipe":
        if self.pairs.score == "expected" and not (
            self.judge.expected_score and self.judge.has_rubric
        ):
            raise ValueError(
                "pairs.score: got expected, which takes judge.expected_score: true and a judge "
                "that is a model"
            )
        if self.pairs.min_margin_to_noise and self.judge.n_draws < 2:
            raise ValueError(
                "pairs.min_margin_to_noise: takes judge.draws of 2 and more: a single judgment "
                "has no spread"
            )
        if self.pairs.min_margin_to_noise and self.pairs.score not in ("mean", "expected"):
            raise ValueError(
                "pairs.min_margin_to_noise: takes pairs.score mean or expected: the spread is that "
                "of one judge's judgments"
            )
        if unknown := [name for name in self.pairs.agree if name not in self.all_judges]:
            raise ValueError(
                f"pairs.agree: got {unknown[0]!r}, expected names of {', '.join(self.all_judges)}"
            )
        return self

    @property
    def all_judges(self) -> dict[str, Judge]:
        """Every judge that may choose pairs, by name."""
        return {JUDGE: self.judge, **self.judges}

    @staticmethod
    def field_of(judge: str) -> str:
        """The section of a judge, as people write it."""
        return judge if judge == JUDGE else f"judges.{judge}"

    def beside(self, word: str) -> Path | None:
        """The file that a word names, if it lies in the recipe's folder."""
        try:
            file = self.resolve(word)
            is_here = file.is_relative_to(self.folder.resolve()) and file.is_file()
        except (OSError, ValueError, RuntimeError):  # too long, or no word of a path
            return None
        return file if is_here else None

    def model_of_judge(self, name: str) -> str:
        """The name of the model that a judge with a model of its own is: that of the first judge
        with the same one, which is then loaded once for both."""
        mine = self.all_judges[name]
        own = (mine.model, mine.reward_model, mine.declared, mine.engine)
        for other, judge in self.all_judges.items():
            if (judge.model, judge.reward_model, judge.declared, judge.engine) == own:
                return other
        raise AssertionError(f"{name} is one of the judges")

    def engine_of(self, name: str) -> Engine:
        """What runs a model: a judge's own may have an engine of its own."""
        judge = self.all_judges.get(name)
        if judge is not None and judge.reward_model is not None:
            return judge.engine or TransformersEngine()
        return (judge and judge.engine) or self.engine

    @property
    def one_engine(self) -> bool:
        """Whether one engine holds every role but judges with models of their own: trained models
        are adapters, asked for by name."""
        return self.train.lora is not None and self.engine.name in ("vllm", "openai")

    def resolve(self, path: str) -> Path:
        return (self.folder / Path(path).expanduser()).resolve()
