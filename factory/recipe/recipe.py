"""Define the structure of a recipe, and check fields across its sections.

Validating a recipe opens no model and no lake. Paths in a recipe are relative to its folder.
"""

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from factory.errors import UserError
from factory.paths import user_path
from factory.recipe.engines import Engine, TransformersEngine
from factory.recipe.fields import HIDDEN, HOW_RUN, Decides, InvalidField, Section
from factory.recipe.generation import Sampling
from factory.recipe.judge import JUDGE, RESERVED, Judge
from factory.recipe.sections import Loop, Model, Pairs, Probe, Prompts, Shards, StopIf
from factory.recipe.train import Train

MOST_SEED = 2**63 - 1
"""Largest seed: seeds are stored as 64-bit integers."""


class _InFolder(Section):
    """Base class of recipes and of the settings of `factory train`."""

    folder: Annotated[Path, HIDDEN] = Field(default=Path(), exclude=True)
    """The folder that paths are relative to. The loader sets it; a recipe cannot."""

    def resolve(self, path: str) -> Path:
        """Convert a path in the recipe to an absolute path. Raises UserError for unusable paths."""
        return user_path(path, base=self.folder).resolve()


class Training(_InFolder):
    """Settings of `factory train`, which trains a single model outside the loop."""

    model: Annotated[Model, Decides("train")]
    """The model to train."""
    seed: Annotated[int, Decides("train")] = Field(default=0, ge=0, le=MOST_SEED)
    """Seed of the training."""
    train: Train = Train()
    """Settings of the trainer."""


class Recipe(_InFolder):
    """All settings of a run: the model, prompts, judges, pairs, and training."""

    name: Annotated[str, HOW_RUN] = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)
    """Name of the dataset's folder. It consists of lowercase letters, digits, `-`, `_`, and `.`,
    and starts with a letter or digit."""
    seed: Annotated[int, Decides("samples", "judgments", "train")] = Field(
        default=0, ge=0, le=MOST_SEED
    )
    """Seed of the run. The seed of each draw is a hash of this seed, the model, the sampling
    settings, and the prompt, plus the number of the draw. The TSR paper does not give its seeds."""
    model: Annotated[Model, Decides("samples", "judgments")]
    """M_0, the model that the loop starts from. It also writes the answers of the past role."""
    prompts: Prompts
    """The prompts that the models answer."""
    loop: Loop = Loop()
    """Number of iterations, and the pair policy."""
    sampling: Annotated[Sampling, Decides("samples")] = Sampling()
    """Sampling settings for the answers."""
    judge: Annotated[Judge, Decides("judgments")] = Judge()
    """The judge that scores the answers."""
    judges: Annotated[dict[str, Judge], Decides("judgments", "verdicts")] = Field(
        default_factory=dict, max_length=20
    )
    """At most 20 more judges by name, each with the same fields as `judge`. The section `pairs` may
    combine their scores, and `factory sql` compares them."""
    pairs: Pairs = Pairs()
    """Settings for ranking answers and filtering pairs."""
    probe: Probe | None = None
    """Prompts and a judge that measure the progress of the models. Without this section, the run
    measures no progress."""
    train: Train = Train()
    """Settings of the trainer."""
    engine: Annotated[Engine, Decides("samples", "judgments")] = TransformersEngine()
    """The engine that runs the models."""
    shards: Shards = Shards()
    """Settings for writing finished rows to disk."""
    max_failed: Annotated[float, HOW_RUN] = Field(default=0.05, ge=0, le=1)
    """Largest share of a step's requests that may fail. The run stops if more fail. The default is
    our choice, untested."""
    stop_if: StopIf = StopIf()
    """Limits that stop a run early."""
    query_memory: Annotated[str | None, HOW_RUN] = Field(
        default=None, pattern=r"^[1-9][0-9]*(\.[0-9]+)? ?[KMGT]i?B$"
    )
    """Memory limit for queries over the lake, such as `4GB` or `500MiB`. By default, DuckDB may use
    80% of the machine's memory. A query that needs more spills to the system's temporary folder
    (TMPDIR) where DuckDB supports it. Selecting pairs takes about 200 MB for 60,000 prompts. The
    limit does not apply to engines and trainers."""

    @field_validator("judges")
    @classmethod
    def _judges_can_be_named(cls, value: dict[str, Judge]) -> dict[str, Judge]:
        for name in value:
            taken = name in RESERVED or name.endswith(("_expected", "_judgments"))
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or taken:
                raise InvalidField(
                    "",
                    f"a judge cannot be named {name!r}",
                    "use only lowercase letters, digits, and _; start with a letter, and avoid the "
                    "endings _expected and _judgments and the names "
                    f"{', '.join(sorted(RESERVED))}",
                )
        return value

    @model_validator(mode="after")
    def _declared_model_is_served(self) -> "Recipe":
        if self.model.declared is None:
            return self
        if self.engine.name != "openai":
            raise InvalidField(
                "model.declared",
                f"the model's weights are only on a server, but the engine is {self.engine.name}",
                "set engine.name to openai, or set model.path instead",
            )
        if self.loop.trains_models:
            raise InvalidField(
                "model.declared",
                "a model whose weights are only on a server cannot be trained",
                "set loop.iterations to 0, or set model.path instead",
            )
        return self

    @model_validator(mode="after")
    def _judges_are_served(self) -> "Recipe":
        for name, judge in self.all_judges.items():
            if judge.model is not None and judge.engine is None and self.engine.name == "openai":
                raise InvalidField(
                    f"{self.field_of(name)}.engine",
                    "the judge has a separate model, but the recipe's openai engine names only M_0",
                    "add an openai engine to the judge's section, and set engine.model to the name "
                    "that the server uses for the judge",
                )
        return self

    @model_validator(mode="after")
    def _scores_exist(self) -> "Recipe":
        pairs, judge = self.pairs, self.judge
        if pairs.score == "expected" and not (judge.expected_score and judge.has_rubric):
            raise InvalidField(
                "pairs.score",
                "got 'expected', but the judge does not compute expected scores",
                "set judge.expected_score to true, and use a judge with a rubric",
            )
        if pairs.min_margin_to_noise and judge.n_draws < 2:
            raise InvalidField(
                "pairs.min_margin_to_noise",
                "the noise cannot be estimated from a single judgment per answer",
                "set judge.draws to at least 2",
            )
        if pairs.min_margin_to_noise and pairs.score not in ("mean", "expected"):
            raise InvalidField(
                "pairs.min_margin_to_noise",
                "the noise cannot be estimated for a score that combines several judges",
                "set pairs.score to mean or expected",
            )
        if unknown := [name for name in pairs.agree if name not in self.all_judges]:
            raise InvalidField(
                "pairs.agree",
                f"no judge is named {unknown[0]!r}",
                f"use only these judge names: {', '.join(self.all_judges)}",
            )
        return self

    @property
    def all_judges(self) -> dict[str, Judge]:
        """All judges by name, without the probe's judge."""
        return {JUDGE: self.judge, **self.judges}

    @staticmethod
    def field_of(judge: str) -> str:
        """Return the field path of a judge's section in the recipe, such as `judges.honest`."""
        return judge if judge == JUDGE else f"judges.{judge}"

    def file_beside(self, word: str) -> Path | None:
        """Return the path of a file in the recipe's folder, or None if there is no such file.

        `word` is a word of a command line, which may or may not be a path.
        """
        try:
            file = self.resolve(word)
            is_here = file.is_relative_to(self.folder.resolve()) and file.is_file()
        except (OSError, UserError):  # the word is too long, or not a path
            return None
        return file if is_here else None

    def model_of_judge(self, name: str) -> str:
        """Return the name of a judge's own model.

        Judges with the same model and engine share the name of the first judge, so that the
        factory loads the model once.
        """
        mine = self.all_judges[name]
        own = (mine.model, mine.reward_model, mine.declared, mine.engine)
        for other, judge in self.all_judges.items():
            if (judge.model, judge.reward_model, judge.declared, judge.engine) == own:
                return other
        raise AssertionError(f"the recipe has no judge named {name}")

    def first_model_of_judge(self, name: str) -> str:
        """Return the name of the judge's model in iteration 0: its own model, or M_0."""
        return self.model_of_judge(name) if self.all_judges[name].has_model else "M_0"

    def engine_of(self, name: str) -> Engine:
        """Return the engine settings for a model, such as M_0 or a judge's model.

        `name` is M_0, M_1, …, or the name of a judge. A judge with its own model may have its own
        engine.
        """
        judge = self.all_judges.get(name)
        if judge is not None and judge.reward_model is not None:
            return judge.engine or TransformersEngine()
        return (judge and judge.engine) or self.engine

    @property
    def one_engine(self) -> bool:
        """Whether a single engine runs the models of all roles as LoRA adapters.

        Only a vllm or openai engine can do so. Judges with their own models are an exception.
        """
        lora = self.loop.trains_models and self.train.lora is not None
        return lora and self.engine.name in ("vllm", "openai")
