"""The result classes of the Python API.

Each result is a table with `.rows`. It can be converted to Polars, pandas, and Arrow, and notebooks
display it. `to_dict()` returns what the command line prints with `--json`. This module does not
read the lake.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from factory.errors import MissingExtra
from factory.report import (
    PROBE_TITLE,
    WORK_TITLE,
    Rows,
    describe_totals,
    format_splits,
    html_table,
    iteration_tables,
    pair_texts,
    plan_table,
    status_table,
    text_table,
    work_table,
)
from factory.stages import JUDGE_REMEDY
from factory.texts import display_html, display_text

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

SHOWN_ROWS = 100
"""The maximum number of rows that a result displays; `.rows` has all rows."""


@dataclass(frozen=True, repr=False, eq=False)
class Table:
    """A table of results that can be converted to Polars, pandas, or Arrow.

    >>> table = factory.open("recipe.yaml").sql("select 1 as one, 'a' as letter")
    >>> table.rows
    [{'one': 1, 'letter': 'a'}]
    >>> table
    one  letter
    ───  ──────
      1  a
    """

    data: "Rows | pa.Table"
    """The rows, as dictionaries or as an Arrow table."""
    hint: str = ""
    """A remark about the rows, such as the likely reason if there are none. Empty without one."""

    @property
    def rows(self) -> Rows:
        """All rows, each as a dictionary of values by column name."""
        if isinstance(self.data, pa.Table):
            rows: Rows = self.data.to_pylist()
            return rows
        return self.data

    def to_arrow(self) -> pa.Table:
        """Return the rows as a PyArrow table."""
        return self.data if isinstance(self.data, pa.Table) else pa.Table.from_pylist(self.data)

    def to_polars(self) -> "pl.DataFrame":
        """Return the rows as a Polars DataFrame."""
        import polars as pl

        return pl.DataFrame(self.to_arrow())

    def to_pandas(self) -> "pd.DataFrame":
        """Return the rows as a pandas DataFrame. Raises MissingExtra if pandas is not installed."""
        try:
            import pandas  # noqa: F401
        except ImportError:
            raise MissingExtra("pandas", "notebook") from None
        return self.to_arrow().to_pandas()

    def to_dict(self) -> Any:
        """Return the data that the command line prints with `--json`.

        By default, returns the rows.
        """
        return self.rows

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def tables(self) -> list[tuple[str, Rows]]:
        """Return the titles and rows of the tables to display."""
        shown = self.data[:SHOWN_ROWS]
        return [("", shown.to_pylist() if isinstance(shown, pa.Table) else shown)]

    def notes(self) -> list[str]:
        """Return the lines of text to display below the tables."""
        if not len(self):
            return [f"No rows. {self.hint}".rstrip()]
        hidden = len(self) - SHOWN_ROWS
        return [f"… and {hidden:,} more rows"] if hidden > 0 else []

    def __repr__(self) -> str:
        parts = [
            f"{display_text(title)}\n{text_table(rows)}" if title else text_table(rows)
            for title, rows in self.tables()
            if rows
        ]
        notes = [display_text(note) for note in self.notes()]
        return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])])

    def _repr_html_(self) -> str:
        parts = [
            (f"<p><b>{display_html(title)}</b></p>" if title else "") + html_table(rows)
            for title, rows in self.tables()
            if rows
        ]
        return "".join(parts) + "".join(f"<p>{display_html(note)}</p>" for note in self.notes())


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Plan(Table):
    """The plan of a run: one row per step, and an estimate of the remaining work."""

    title: str
    """The names of the recipe and its pair policy."""
    totals: dict[str, Any]
    """The remaining steps, requests, tokens, trainings, model loads, seconds, and cost. Seconds and
    cost are None if they are unknown."""
    generation: list[str]
    """How samples and judgments are generated, one line per recipe section."""
    broken: list[str]
    """The broken shards in the lake, one line per shard."""
    missing_models: dict[str, str]
    """Messages that explain why M_0 or a judge's model is missing, by the name of the model."""
    missing_packages: dict[str, str]
    """The missing packages that the remaining steps need, with the commands that install them."""

    @property
    def is_done(self) -> bool:
        """Whether every step of the recipe is done."""
        return not self.totals["steps"]

    def to_dict(self) -> dict[str, Any]:
        return {
            "generation": self.generation,
            "missing_models": self.missing_models,
            "missing_packages": self.missing_packages,
            "steps": self.rows,
            "totals": self.totals,
        }

    def tables(self) -> list[tuple[str, Rows]]:
        return [(self.title, plan_table(self.rows))]

    def notes(self) -> list[str]:
        to_do = "Nothing to do." if self.is_done else f"To do: {describe_totals(self.totals)}."
        packages = [
            f"Not installed: {package} ({remedy})"
            for package, remedy in self.missing_packages.items()
        ]
        models = _describe_missing(self.missing_models)
        return [*self.generation, *self.broken, *packages, *models, to_do]


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Preview(Table):
    """The judged answers to a recipe's first prompts, with one row per answer."""

    scale: tuple[float, float] | None
    """The lowest and the highest score of the judge's rubric, or None without a rubric."""
    ranks_by: str
    """The column by which the recipe's pairs rank answers: `score` or `expected_score`."""
    remarks: list[str]
    """Sentences that describe weaknesses of the answers, with remedies."""

    def notes(self) -> list[str]:
        if self.scale is None:
            return self.remarks
        scale = f"Scale {self.scale[0]:g} to {self.scale[1]:g}; the rows are stored in the lake."
        return [scale, *self._judge_problem(), *self.remarks]

    def _judge_problem(self) -> list[str]:
        """Return a note if the judge's scores cannot rank the answers. A run would stop."""
        n = sum(len(row["judgments"] or []) for row in self.rows)
        each = (row[self.ranks_by] for row in self.rows)
        scores = {score for score in each if score is not None}
        if n and not scores:
            return [f"None of the {n:,} judgments has a score: {JUDGE_REMEDY}."]
        if len(self) > 1 and len(scores) == 1:
            return [f"Every answer has the score {scores.pop():g}: {JUDGE_REMEDY}."]
        return []


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Run(Table):
    """The result of a run: the number of pairs and the score gap of each iteration.

    There is one row per iteration and phase.
    """

    quality: Table
    """Figures that explain the score gap, one row per iteration and phase: the rows of the named
    query `pair_quality`."""
    remarks: list[str]
    """Sentences that describe these figures, with remedies."""
    probe: Table
    """The mean probe score of each model; empty if the recipe has no probe."""
    work: Table
    """Tokens, time, and cost of each stage, over all runs."""
    dataset: Path
    """The dataset folder, which `datasets.load_dataset` can read."""
    n_rows: dict[str, int]
    """The number of rows per split."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "gaps": self.rows,
            "quality": self.quality.rows,
            "remarks": self.remarks,
            "probe": self.probe.rows,
            "work": self.work.rows,
            "dataset": str(self.dataset),
            "rows": self.n_rows,
        }

    def tables(self) -> list[tuple[str, Rows]]:
        return [
            *iteration_tables(self.rows, self.quality.rows),
            *_probe_table(self.probe),
            (WORK_TITLE, work_table(self.work.rows)),
        ]

    def notes(self) -> list[str]:
        return [*self.remarks, _describe_dataset(self.dataset, self.n_rows)]


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Status(Table):
    """The progress of a recipe, as a table with one row per step."""

    title: str
    gaps: Table
    """Pairs and score gaps, one row per iteration and phase."""
    quality: Table
    """Figures that explain the score gap, one row per iteration and phase: the rows of the named
    query `pair_quality`."""
    remarks: list[str]
    """Sentences that describe these figures, with remedies."""
    probe: Table
    """The mean probe score of each model; empty if the recipe has no probe."""
    work: Table
    """Tokens, time, and cost of each stage, over all runs."""
    missing_models: dict[str, str]
    """Messages that explain why M_0 or a judge's model is missing, by the name of the model."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "missing_models": self.missing_models,
            "steps": self.rows,
            "work": self.work.rows,
            "gaps": self.gaps.rows,
            "quality": self.quality.rows,
            "remarks": self.remarks,
            "probe": self.probe.rows,
        }

    def tables(self) -> list[tuple[str, Rows]]:
        return [
            (self.title, status_table(self.rows)),
            (WORK_TITLE, work_table(self.work.rows)),
            *iteration_tables(self.gaps.rows, self.quality.rows),
            *_probe_table(self.probe),
        ]

    def notes(self) -> list[str]:
        hints = [self.hint] if self.hint else []
        return [*_describe_missing(self.missing_models), *self.remarks, *hints]


def _describe_missing(models: Mapping[str, str]) -> list[str]:
    """Return lines that list the missing models and the facts that are unknown without them."""
    if not models:
        return []
    unknown = (
        f"Unknown without {' and '.join(models)}: the rows in the lake (their folder names depend "
        "on the model's files), token lengths, prompts that are too long, memory, and time. "
        "`factory run` checks the model before any work."
    )
    return [*models.values(), unknown]


def _probe_table(probe: Table) -> list[tuple[str, Rows]]:
    return [(PROBE_TITLE, probe.rows)] if len(probe) else []


def _describe_dataset(folder: Path, n_rows: dict[str, int]) -> str:
    return f"Dataset with {format_splits(n_rows)}: {folder}"


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Pairs(Table):
    """A set of pairs selected from stored answers, summarized in one row per iteration."""

    quality: Table
    """Figures that explain the score gap, one row per iteration: the rows of the named query
    `pair_quality`."""
    remarks: list[str]
    """Sentences that describe these figures, with remedies."""
    outcomes: Table
    """The number of considered pairs by iteration and outcome."""
    dataset: Path
    """The dataset folder, which `datasets.load_dataset` can read."""
    n_rows: dict[str, int]
    """The number of rows per split."""
    inside_the_loop: dict[str, Any]
    """The work that it would take to train the loop on these pairs, as in `Plan.totals`."""
    trains_models: bool
    """Whether the loop trains models."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "gaps": self.rows,
            "quality": self.quality.rows,
            "remarks": self.remarks,
            "dataset": str(self.dataset),
            "rows": self.n_rows,
            "inside_the_loop": self.inside_the_loop,
        }

    def tables(self) -> list[tuple[str, Rows]]:
        return [
            *iteration_tables(self.rows, self.quality.rows),
            ("Outcomes of the considered pairs", self.outcomes.rows),
        ]

    def notes(self) -> list[str]:
        dataset = _describe_dataset(self.dataset, self.n_rows)
        if not self.trains_models:
            return [*self.remarks, dataset]
        if self.inside_the_loop["steps"]:
            cost = f"To train the loop on these pairs: {describe_totals(self.inside_the_loop)}."
        else:
            cost = "The loop was trained on these pairs."
        return [*self.remarks, dataset, cost]


@dataclass(frozen=True)
class Picture:
    """An SVG drawing that notebooks display as an image."""

    svg: str
    """The drawing as SVG."""

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<Picture: {len(self.svg):,} characters of SVG>"


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Trace(Table):
    """The history of a pair, with one row per judgment of its two answers."""

    found: dict[str, Any]
    """The pair, its prompt, and for each side the sample, its model, judgments, and verdicts. For a
    pair from a dataset folder, its row in the dataset."""

    def to_dict(self) -> dict[str, Any]:
        return self.found

    def tables(self) -> list[tuple[str, Rows]]:
        pair = self.found.get("pair", self.found)
        texts = pair_texts(self.found)
        facts = [
            {"field": name, "value": value} for name, value in pair.items() if name not in texts
        ]
        shown = [{"part": name, "text": text} for name, text in texts.items()]
        return [("Texts", shown), ("Pair", facts), ("Judgments", self.rows)]

    def notes(self) -> list[str]:
        return [self.hint] if self.hint else []


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Diff(Table):
    """A comparison of two sets of pairs, with a count for each kind of difference."""

    sets: tuple[Mapping[str, Any], Mapping[str, Any]]
    """Summaries of the sets A and B, with `pairs` (the title), `kept`, `considered`, and
    `has_candidates`."""
    examples: Rows
    """Examples of pairs that differ."""

    def to_dict(self) -> dict[str, Any]:
        sets = dict(zip("ab", self.sets, strict=True))
        return {**sets, "counts": self.rows, "examples": self.examples}

    def notes(self) -> list[str]:
        return [
            f"{name}: {pairs['pairs']}, {pairs['kept']:,} kept pairs"
            for name, pairs in zip("AB", self.sets, strict=True)
        ]


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Export(Table):
    """The result of an export for a trainer, with one row per dataset split."""

    out: Path
    """The folder of the export."""
    trainer: str
    command: str
    """The command that starts the training. Run it in the folder of the export."""
    left_out: list[str]
    """Steps of the recipe whose pairs do not exist yet."""
    n_contradicting: int
    """Number of pairs that were left out because another pair of the same prompt prefers the other
    answer."""

    @property
    def n_rows(self) -> dict[str, int]:
        """The number of exported rows in each dataset split."""
        return {row["split"]: row["rows"] for row in self.rows}

    def to_dict(self) -> dict[str, Any]:
        return {
            "out": str(self.out),
            "trainer": self.trainer,
            "rows": self.n_rows,
            "command": self.command,
            "left_out": self.left_out,
            "contradicting": self.n_contradicting,
        }

    def notes(self) -> list[str]:
        return [f"Train with: cd {self.out} && {self.command}"]


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class DryRun(Table):
    """The result of a dry run of publishing, with one row per pre-publish check."""

    folder: Path
    """The folder that would be pushed."""
    steps: list[str]
    """What a push would do. Empty if the Hub could not be read."""

    def to_dict(self) -> dict[str, Any]:
        return {"folder": str(self.folder), "checks": self.rows, "steps": self.steps}

    def tables(self) -> list[tuple[str, Rows]]:
        shown = [
            {"check": row["name"], "looked for": row["what"], "found": row["n"]}
            for row in self.rows
            if row["looked"]
        ]
        return [("Pre-publish checks", shown)]

    def notes(self) -> list[str]:
        steps = [f"A push would {step}." for step in self.steps]
        return [*steps, f"Nothing was sent. The folder to publish: {self.folder}"]


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Published(Table):
    """The result of publishing a dataset on the Hugging Face Hub."""

    url: str
    """The address of the commit or the pull request."""
    changed: bool
    """Whether there was anything to commit."""

    def to_dict(self) -> dict[str, Any]:
        return self.rows[0]


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Verification(Table):
    """The files in a lake that have changed since the factory wrote them."""

    n_shards: int
    n_rows: int
    n_models: int

    @property
    def ok(self) -> bool:
        """Whether all checked files are unchanged."""
        return not len(self)

    def to_dict(self) -> dict[str, Any]:
        counts = {"shards": self.n_shards, "rows": self.n_rows, "models": self.n_models}
        return {**counts, "faults": self.rows}

    def notes(self) -> list[str]:
        changed = "1 file has changed" if len(self) == 1 else f"{len(self)} files have changed"
        result = "no file has changed" if self.ok else changed
        checked = f"{self.n_shards:,} shards with {self.n_rows:,} rows, and {self.n_models} models"
        return [f"Checked {checked}: {result}"]


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Diagnosis(Table):
    """A report on whether this machine can run a recipe, with one row per check."""

    @property
    def n_problems(self) -> int:
        """The number of problems that would stop a run."""
        return sum(row["mark"] == "stop" for row in self.rows)

    @property
    def ok(self) -> bool:
        """Whether this machine can run the recipe."""
        return not self.n_problems

    def to_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, "checks": self.rows}

    def notes(self) -> list[str]:
        if self.ok:
            return ["This machine can run the recipe."]
        n = self.n_problems
        return [f"{n} problem{'s' * (n > 1)} would stop a run."]
