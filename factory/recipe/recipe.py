"""The whole recipe, and the checks that span its sections.

Reading it opens no model and no lake. Paths in a recipe are relative to the recipe's own folder.
"""

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from factory.recipe.engines import Engine, TransformersEngine
from factory.recipe.fields import HIDDEN, HOW_RUN, Decides, InvalidField, Section
from factory.recipe.generation import Sampling
from factory.recipe.judge import JUDGE, RESERVED, Judge
from factory.recipe.sections import Loop, Model, Pairs, Probe, Prompts, Shards, StopIf
from factory.recipe.train import Train


class _InFolder(Section):
    folder: Annotated[Path, HIDDEN] = Field(default=Path(), exclude=True)
    """The folder that paths are relative to; set by the loader, not by a recipe."""

    def resolve(self, path: str) -> Path:
        return (self.folder / Path(path).expanduser()).resolve()


class Training(_InFolder):
    """The sections for a training without a loop, as `factory train` reads them."""

    model: Annotated[Model, Decides("train")]
    seed: Annotated[int, Decides("train")] = Field(default=0, ge=0)
    train: Train = Train()


class Recipe(_InFolder):
    name: Annotated[str, HOW_RUN] = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)
    """Name of the dataset's folder: lower-case letters, digits, `-`, `_`, and `.`."""
    seed: Annotated[int, Decides("samples", "judgments", "train")] = Field(default=0, ge=0)
    """The seed of the run. The seed of each draw is a hash of this, the model, the sampling
    settings, and the prompt, plus the number of the draw."""
    model: Annotated[Model, Decides("samples", "judgments")]
    """M_0, the model that the loop starts from. It writes the answers of the past role."""
    prompts: Prompts
    loop: Loop = Loop()
    sampling: Annotated[Sampling, Decides("samples")] = Sampling()
    judge: Annotated[Judge, Decides("judgments")] = Judge()
    judges: Annotated[dict[str, Judge], Decides("judgments", "verdicts")] = Field(
        default_factory=dict
    )
    """More judges by name, each with the fields of `judge`, which decide the same stages as there.
    `pairs` may combine the judges, and `factory sql` compares them."""
    pairs: Pairs = Pairs()
    probe: Probe | None = None
    train: Train = Train()
    engine: Annotated[Engine, Decides("samples", "judgments")] = TransformersEngine()
    shards: Shards = Shards()
    max_failed: Annotated[float, HOW_RUN] = Field(default=0.05, ge=0, le=1)
    """Maximum share of a step's requests that may fail before the run stops."""
    stop_if: StopIf = StopIf()
    query_memory: Annotated[str | None, HOW_RUN] = Field(
        default=None, pattern=r"^[1-9][0-9]*(\.[0-9]+)? ?[KMGT]i?B$"
    )
    """Memory limit for queries over the lake, such as 4GB or 500MiB; by default 80 % of the
    machine's memory. Queries that need more use the system's temporary folder (TMPDIR), as far as
    DuckDB can (selecting pairs takes about 200 MB for 60,000 prompts). Engines and trainers are not
    limited."""

    @field_validator("judges")
    @classmethod
    def _judges_can_be_named(cls, value: dict[str, Judge]) -> dict[str, Judge]:
        for name in value:
            taken = name in RESERVED or name.endswith(("_expected", "_judgments"))
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or taken:
                raise InvalidField(
                    "",
                    f"got the name {name!r}",
                    "expected lower-case letters, digits, and _, and none of "
                    f"{', '.join(sorted(RESERVED))}",
                )
        return value

    @model_validator(mode="after")
    def _judges_are_served(self) -> "Recipe":
        for name, judge in self.all_judges.items():
            if judge.model is not None and judge.engine is None and self.engine.name == "openai":
                raise InvalidField(
                    f"{self.field_of(name)}.engine",
                    "missing, and engine.model is the server's name for M_0",
                    "give the judge its own engine, with the server's name for the judge",
                )
        return self

    @model_validator(mode="after")
    def _scores_exist(self) -> "Recipe":
        pairs, judge = self.pairs, self.judge
        if pairs.score == "expected" and not (judge.expected_score and judge.has_rubric):
            raise InvalidField(
                "pairs.score",
                "got expected, which needs the judge's expected_score",
                "set judge.expected_score: true, with a judge that is a model",
            )
        if pairs.min_margin_to_noise and judge.n_draws < 2:
            raise InvalidField(
                "pairs.min_margin_to_noise",
                "a single judgment has no spread",
                "set judge.draws to at least 2",
            )
        if pairs.min_margin_to_noise and pairs.score not in ("mean", "expected"):
            raise InvalidField(
                "pairs.min_margin_to_noise",
                "needs the spread of one judge's judgments",
                "set pairs.score to mean or expected",
            )
        if unknown := [name for name in pairs.agree if name not in self.all_judges]:
            raise InvalidField(
                "pairs.agree",
                f"got {unknown[0]!r}",
                f"expected names of judges: {', '.join(self.all_judges)}",
            )
        return self

    @property
    def all_judges(self) -> dict[str, Judge]:
        """Every judge that may choose pairs, by name."""
        return {JUDGE: self.judge, **self.judges}

    @staticmethod
    def field_of(judge: str) -> str:
        """Return the path of a judge's section in the recipe."""
        return judge if judge == JUDGE else f"judges.{judge}"

    def file_beside(self, word: str) -> Path | None:
        """Return the file that a word names, or None if there is none in the recipe's folder."""
        try:
            file = self.resolve(word)
            is_here = file.is_relative_to(self.folder.resolve()) and file.is_file()
        except (OSError, ValueError, RuntimeError):  # too long, or not a path
            return None
        return file if is_here else None

    def model_of_judge(self, name: str) -> str:
        """Return the name of the model of a judge that has its own model.

        Judges with the same model share the name of the first one, so that it is loaded once.
        """
        mine = self.all_judges[name]
        own = (mine.model, mine.reward_model, mine.declared, mine.engine)
        for other, judge in self.all_judges.items():
            if (judge.model, judge.reward_model, judge.declared, judge.engine) == own:
                return other
        raise AssertionError(f"{name} is one of the judges")

    def engine_of(self, name: str) -> Engine:
        """Return the engine of a model: a judge with its own model may have its own engine."""
        judge = self.all_judges.get(name)
        if judge is not None and judge.reward_model is not None:
            return judge.engine or TransformersEngine()
        return (judge and judge.engine) or self.engine

    @property
    def one_engine(self) -> bool:
        """Whether one engine runs every role, except judges with their own models. Trained models
        are then adapters that are requested by name."""
        return self.train.lora is not None and self.engine.name in ("vllm", "openai")
