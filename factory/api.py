"""The Python API for running recipes and querying their results.

The API prints nothing. Long operations show a progress bar in notebooks and on terminals.
"""

import json
import os
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.checks import check_plan, examine_recipe
from factory.errors import Argument, QueryError, UserError
from factory.lake import (
    Lake,
    VerifyReport,
    Views,
    query_text,
    shipped_queries,
    verify_folders,
    verify_lake,
)
from factory.paths import folder_path, user_path
from factory.plan import PUBLIC_VIEWS, RecipeState, Wanted, all_views, doctor, read_state
from factory.progress import Progress, open_progress
from factory.recipe import JUDGE, Recipe, load_recipe, load_training, write_starter
from factory.report import (
    PairSet,
    broken_shard_lines,
    compare_pairs,
    dataset_pairs,
    draw_picture,
    gaps,
    generation_lines,
    iterations,
    missing_models,
    missing_packages,
    outcomes,
    plan_rows,
    plan_totals,
    preview_rows,
    quality,
    recipe_pairs,
    remarks,
    script,
    step_rows,
    trace_dataset,
    trace_lake,
    truncation,
    work_rows,
)
from factory.report import Trace as FoundPair
from factory.results import (
    Diagnosis,
    Diff,
    DryRun,
    Export,
    Pairs,
    Picture,
    Plan,
    Preview,
    Published,
    Run,
    Status,
    Table,
    Trace,
    Verification,
)

if TYPE_CHECKING:
    import polars as pl

    from factory.export import Source

VIEWS = PUBLIC_VIEWS
"""The names of the views that `Factory.sql` and `Factory.table` read."""

AnyPath = str | PathLike[str]

Overrides = Mapping[str, Any] | Sequence[str]
"""New values of recipe fields: a dictionary such as `{"sampling.draws": 4}`, or a list of texts
such as `sampling.draws=4`."""


def open(
    recipe: AnyPath,
    lake: AnyPath | None = None,
    set: Overrides | None = None,
    progress: bool | None = None,
) -> "Factory":
    """Open a recipe and the lake that stores its tables.

    >>> f = factory.open("recipe.yaml", lake="lake", set={"sampling.draws": 4})
    >>> f.recipe.sampling.draws
    4

    `lake` is the folder that stores all tables; by default FACTORY_LAKE, or `lake` in the current
    folder. It does not have to exist yet. `set` overrides recipe fields. `progress` is True to
    write plain lines where bars cannot be drawn, and False to show nothing.

    Raises RecipeError if the recipe or an override is not valid.
    """
    overrides = _override_lines(set or {})
    path = user_path(recipe, Argument("recipe", "RECIPE"))
    return Factory(path, load_recipe(path, overrides), _lake_path(lake), overrides, progress)


def init(folder: AnyPath, name: str = "starter") -> Path:
    """Create a folder with an example recipe, and return the path of the recipe.

    >>> factory.init("my-recipe").name
    'recipe.yaml'

    `name` is `starter`, for your own model and prompts, or `quickstart`, a complete example with a
    small model. Raises UserError if the folder has files.
    """
    return write_starter(name, user_path(folder, Argument("folder", "DIR")))


def open_dataset(folder: AnyPath, progress: bool | None = None) -> "Dataset":
    """Open a dataset folder that the factory has written.

    `Factory.run`, `Factory.pairs`, and `Factory.publish` write dataset folders.

    >>> f = factory.open("recipe.yaml")
    >>> d = factory.open_dataset(f.run().dataset)
    >>> d.export("axolotl", "for-axolotl").command
    'axolotl train dpo.yaml --base-model MODEL'
    """
    return Dataset(user_path(folder, Argument("folder")), open_progress(progress))


def verify(lake: AnyPath | None = None) -> Verification:
    """Check that no shard or trained model in a lake has changed.

    For each shard, checks the hash, the schema, and the row IDs.

    >>> factory.open("recipe.yaml").run().n_rows["train"] > 0
    True
    >>> factory.verify("lake").ok
    True

    Raises UserError if the lake does not exist.
    """
    return _verification(verify_lake(_existing_lake(_lake_path(lake))))


def trace(pair_id: str, lake: AnyPath | None = None) -> Trace:
    """Show where a preference pair in a lake comes from. The pair can belong to any recipe.

    Raises UserError if the lake does not exist, and QueryError if it does not contain the pair.
    """
    return _trace(trace_lake(_existing_lake(_lake_path(lake)), pair_id))


def named_queries() -> Table:
    """Return the named queries that `Factory.sql` accepts, with an explanation of each.

    >>> "score_gap" in {row["name"] for row in factory.named_queries()}
    True
    """
    queries = shipped_queries().values()
    return Table([{"name": query.name, "explanation": query.explanation} for query in queries])


class Factory:
    """A recipe and the lake that stores its tables, as returned by `factory.open`.

    Every method reads the lake again, so its results are never out of date. Methods raise
    `factory.FactoryError` for expected failures.
    """

    def __init__(
        self,
        path: Path,
        recipe: Recipe,
        lake: Path,
        overrides: Sequence[str] = (),
        progress: bool | None = None,
    ) -> None:
        self.path = path
        """The recipe file."""
        self.recipe = recipe
        """The fields of the recipe, with the overrides."""
        self.lake = lake
        """The folder that stores all tables."""
        self._overrides = list(overrides)
        self._show_progress = progress

    def __repr__(self) -> str:
        overrides = f", set={self._overrides}" if self._overrides else ""
        return f"factory.open({str(self.path)!r}, lake={str(self.lake)!r}{overrides})"

    def plan(self) -> Plan:
        """Show which steps will run and why, with an estimate of tokens and time. Changes nothing.

        Works without the models and the engines' packages, and names the missing ones.

        >>> f = factory.open("recipe.yaml", lake="new-lake")
        >>> f.plan().is_done
        False
        >>> f.plan().totals["trainings"]
        4

        Raises UserError if the recipe cannot be run on any machine.
        """
        state = self._state("here")
        check_plan(state)
        rows = plan_rows(state)
        return Plan(
            rows,
            title=f"{self.recipe.name}: {self.recipe.loop.policy}",
            totals=plan_totals(state, rows),
            generation=generation_lines(state),
            broken=broken_shard_lines(state),
            missing_models=missing_models(state),
            missing_packages=missing_packages(state),
        )

    def preview(self, first: int = 3) -> Preview:
        """Let the base model answer the recipe's first prompts, and judge the answers.

        Stores the answers and judgments, so that `run` reuses them.

        >>> f = factory.open("recipe.yaml")
        >>> len({row["prompt"] for row in f.preview(first=2)})
        2
        """
        from factory.run import preview_recipe

        state = preview_recipe(self.recipe, self._lake(), self._progress(), first)
        rubric, rows = state.opened.rubrics[JUDGE], preview_rows(state, first)
        ends = [row["finish_reason"] for row in rows if not row["error"]]
        return Preview(
            rows,
            scale=rubric.scale if rubric else None,
            ranks_by=state.opened.choice.ranks_by(JUDGE) or "score",
            remarks=list(truncation(ends.count("length"), len(ends), self.recipe)),
        )

    def run(self) -> Run:
        """Run every unfinished step of the recipe, and write the dataset.

        >>> f = factory.open("recipe.yaml")
        >>> [(row["iteration"], row["phase"]) for row in f.run()]
        [(0, 'D1'), (0, 'D2'), (1, 'D1'), (1, 'D2')]
        >>> f.plan().is_done
        True

        If a run is interrupted, call `run` again to continue: the lake stores all finished rows.
        """
        from factory.export import dataset_rows, write_dataset
        from factory.run import run_recipe

        state = run_recipe(self.recipe, self._lake(), self._progress())
        dataset = write_dataset(state, self.recipe.name)
        tables = iterations(state)
        return Run(
            tables["gaps"],
            quality=Table(tables["quality"]),
            remarks=remarks(state, tables["quality"]),
            probe=Table(tables["probe"]),
            work=Table(work_rows(state)),
            dataset=dataset,
            n_rows=dataset_rows(dataset),
        )

    def status(self) -> Status:
        """Show what each step of the recipe has produced so far. Changes nothing."""
        state = self._state("here")
        tables = iterations(state)
        return Status(
            step_rows(state),
            self._explain_no_rows(state),
            title=f"{self.recipe.name}: wanted = answered + failed + filtered when done",
            gaps=Table(tables["gaps"]),
            quality=Table(tables["quality"]),
            remarks=remarks(state, tables["quality"]),
            probe=Table(tables["probe"]),
            work=Table(work_rows(state)),
            missing_models=missing_models(state),
        )

    def pairs(self, name: str, set: Overrides | None = None) -> Pairs:
        """Select another set of pairs from the stored answers, and write it as a dataset.

        >>> f = factory.open("recipe.yaml")
        >>> all_pairs = f.run()
        >>> wide = f.pairs("wide", set={"pairs.min_margin": 2})
        >>> wide.n_rows["train"] <= all_pairs.n_rows["train"]
        True

        Calls no model. `set` overrides `loop.policy` and the fields of `pairs`. The loop's own
        pairs do not change.

        Raises RecipeError if the pairs need answers that the loop did not sample.
        """
        from factory.export import dataset_rows
        from factory.run import build_pairs, check_changes, write_build

        changes = _override_lines(set or {})
        check_changes(changes)
        changed = load_recipe(self.path, [*self._overrides, *changes])
        state = build_pairs(self.recipe, changed, self._lake(), name, self._progress())
        dataset = write_build(state, name)
        phase = state.policy.final_phase
        rows = [row for row in quality(state) if row["phase"] == phase]
        inside = read_state(changed, self._lake())
        return Pairs(
            [row for row in gaps(state) if row["phase"] == phase],
            quality=Table(rows),
            remarks=remarks(state, rows),
            outcomes=Table(outcomes(state)),
            dataset=dataset,
            n_rows=dataset_rows(dataset),
            inside_the_loop=plan_totals(inside, plan_rows(inside)),
            trains_models=self.recipe.loop.trains_models,
        )

    def sql(self, query: str) -> Table:
        """Run a SQL query or a named query on the recipe's views.

        `factory.named_queries` lists the named queries.

        >>> f = factory.open("recipe.yaml")
        >>> f.sql("select count(*) as prompts from prompts").rows
        [{'prompts': 12}]

        Raises QueryError if the query fails or would write.
        """
        state = self._state()
        rows = all_views(state).answer(query_text(query, VIEWS))
        return Table(rows, "" if rows.num_rows else self._explain_no_rows(state))

    def _explain_no_rows(self, state: RecipeState) -> str:
        """Explain why a query finds no rows if no step of the recipe has run."""
        folders = state.folders.values()
        if any(folder.shards() for folder in folders if folder.table == "samples"):
            return ""
        if not self._lake().folders("samples"):
            return "The recipe has not run yet."
        return (
            "The lake stores rows of other recipes or settings only. If the recipe ran with "
            "overrides (--set), use the same overrides here."
        )

    def table(self, name: str) -> "pl.LazyFrame":
        """Return a view as a Polars LazyFrame, which reads only the columns and rows that you use.

        >>> f = factory.open("recipe.yaml")
        >>> _ = f.run()
        >>> f.table("candidates").select("role").unique().collect().height
        3

        `factory.VIEWS` lists the views. Raises QueryError if there is no view of this name.
        """
        if name not in VIEWS:
            raise QueryError(name, "no such view", f"expected one of {', '.join(VIEWS)}")
        frame: pl.LazyFrame = self.views().con.sql(f"from {name}").pl(lazy=True)
        return frame

    def picture(self) -> Picture:
        """Draw charts of the score gap in each iteration and of the score distribution.

        A table below the charts has the figures that explain the gap.

        >>> f = factory.open("recipe.yaml")
        >>> _ = f.run()
        >>> f.picture().svg[:4]
        '<svg'
        """
        state = self._state()
        views = all_views(state)
        final_gaps = views.all(f"from gaps where phase = '{state.policy.final_phase}'")
        figures = views.all(query_text("pair_quality", VIEWS))
        scores = views.all(query_text("score_distribution", VIEWS))
        return Picture(draw_picture(final_gaps, figures, scores))

    def views(self) -> Views:
        """Create the recipe's SQL views once, so that several queries can use them.

        The views show the lake as it is now.
        """
        return all_views(self._state())

    def trace(self, pair_id: str) -> Trace:
        """Show a pair's prompt, samples, judgments, scores, pair policy, and models.

        >>> f = factory.open("recipe.yaml")
        >>> _ = f.run()
        >>> pair = f.sql("from pairs where outcome = 'kept' limit 1").rows[0]
        >>> f.trace(pair["pair_id"]).found["pair"]["chosen_id"] == pair["chosen_id"]
        True

        Raises QueryError if the lake does not contain the pair.
        """
        lake = _existing_lake(self.lake)
        folders = self._state().folders.values()
        builds = [folder.key for folder in folders if folder.table == "pairs"]
        traced = trace_lake(lake, pair_id, builds)
        is_own = traced["pair"]["build_key"] in builds
        return _trace(
            traced, "" if is_own else "The pair belongs to another recipe or other settings."
        )

    def diff(self, other: "Factory | Dataset | AnyPath", limit: int = 10) -> Diff:
        """Explain how the final pairs differ from those of another recipe or dataset.

        >>> f = factory.open("recipe.yaml")
        >>> _ = f.run()
        >>> wide = f.pairs("wide", set={"pairs.min_margin": 2})
        >>> {row["status"] for row in f.diff(wide.dataset)} <= {"same", "lost"}
        True

        A path is a dataset folder, or a recipe in the same lake. `limit` is the maximum
        number of examples. Raises QueryError if there are no pairs to compare.
        """
        return _diff(self._pair_set(), _pair_set_of(other, self.lake), limit)

    def diff_sql(self, other: "Factory | Dataset | AnyPath") -> str:
        """Return a SQL script that lists the pairs of both sets and how they differ.

        The script needs only DuckDB. Relative paths in it refer to the current folder.
        """
        return script(self._pair_set(), _pair_set_of(other, self.lake))

    def _pair_set(self) -> PairSet:
        return recipe_pairs(self.recipe, self.lake, self.path, self._overrides)

    def export(self, to: str, out: AnyPath) -> Export:
        """Write the pairs in the format that a trainer expects.

        Most formats include a config for the trainer.

        >>> f = factory.open("recipe.yaml")
        >>> _ = f.run()
        >>> f.export("llama-factory", "for-llama-factory").command
        'llamafactory-cli train dpo.yaml model_name_or_path=...'

        `out` is a new or empty folder. Raises ExportError if the trainer cannot read these pairs.
        """
        from factory.export import open_recipe_dataset, trainer_of

        trainer_of(to)
        return _export(open_recipe_dataset(self._state(), self.path), to, _out(out))

    def publish(
        self,
        repo: str,
        *,
        public: bool = False,
        private: bool = False,
        branch: str | None = None,
        pr: bool = False,
        tag: str | None = None,
        collection: str | None = None,
        evaluation: Sequence[AnyPath] = (),
        allow: Sequence[str] = (),
        dry_run: AnyPath | None = None,
    ) -> Published | DryRun:
        """Publish the dataset to the Hugging Face Hub in one commit.

        >>> f = factory.open("recipe.yaml")
        >>> _ = f.run()
        >>> checked = f.publish("org/name", dry_run="folder", allow=["license", "similar"])
        >>> (checked.folder / "README.md").is_file()
        True

        `dry_run` is a folder to write the files to instead of publishing them. `evaluation` names
        benchmark files that no prompt may overlap with. `allow` names checks that may fail. A new
        repository is private unless `public` is True; with `private`, an existing public one is
        refused. `branch` is created if necessary. `pr` opens a pull request, or updates the open
        one. `tag` names this version; an existing tag is never moved. `collection` is the slug of
        a collection to add the dataset to. The token is read from `hf auth login` or HF_TOKEN.

        Raises PublishError for a wrong option, Refused if a check fails, and HubError if the Hub
        refuses the push.
        """
        from factory.publish import PublishOptions, push_dataset, write_dry_run

        options = PublishOptions(
            repo,
            public=public,
            private=private,
            branch=branch,
            as_pull=pr,
            tag=tag,
            collection=collection,
            allowed=tuple(allow),
            evaluation=tuple(user_path(file, Argument("evaluation")) for file in evaluation),
        )
        state, progress = self._state(), self._progress()
        if dry_run is None:
            pushed = push_dataset(state, options, progress)
            return Published([vars(pushed)], url=pushed.url, changed=pushed.changed)
        folder = user_path(dry_run, Argument("dry_run"))
        tried = write_dry_run(state, options, folder, progress)
        rows = [vars(finding) for finding in tried.findings]
        return DryRun(rows, folder=folder, steps=tried.steps)

    def adopt(self, folder: AnyPath, iteration: int, role: str) -> str:
        """Add your own trained model to the loop, and return the model's digest.

        The recipe must have `train.with: manual`. `role` is `future`, or `current` from iteration 1
        on.

        Raises RecipeError if the loop does not wait for this model, and ModelError if the model
        does not match the one that it was trained from.
        """
        from factory.train import adopt_model

        return adopt_model(
            self.recipe,
            self._lake(),
            user_path(folder, "FOLDER"),
            iteration,
            role,
            self._progress(),
        )

    def verify(self) -> Verification:
        """Check that the recipe's shards and trained models have not changed.

        For each shard, checks the hash, the schema, and the row IDs.

        >>> f = factory.open("recipe.yaml")
        >>> _ = f.run()
        >>> f.verify().ok
        True

        `factory.verify` checks the whole lake. Raises UserError if the lake does not exist.
        """
        _existing_lake(self.lake)
        return _verification(verify_folders(self._state().folders.values()))

    def doctor(self) -> Diagnosis:
        """Check that this machine can run the recipe. Loads no model and changes nothing.

        >>> factory.open("recipe.yaml").doctor().ok
        True
        """
        checks = [*doctor.examine(self.recipe, self.lake), examine_recipe(self.recipe, self.lake)]
        return Diagnosis([vars(check) for check in checks])

    def _lake(self) -> Lake:
        return Lake(self.lake)

    def _state(self, models: Wanted = "all") -> RecipeState:
        return read_state(self.recipe, self._lake(), models)

    def _progress(self) -> Progress:
        return open_progress(self._show_progress)


class Dataset:
    """A dataset folder, as returned by `factory.open_dataset`."""

    def __init__(self, folder: Path, progress: Progress | None = None) -> None:
        self.folder = folder
        self._progress = progress or open_progress()

    def __repr__(self) -> str:
        return f"factory.open_dataset({str(self.folder)!r})"

    def export(self, to: str, out: AnyPath) -> Export:
        """Write the pairs in the format that a trainer expects.

        Most formats include a config for the trainer.

        `out` is a new or empty folder. Raises ExportError if the trainer cannot read these pairs.
        """
        from factory.export import open_dataset as open_source
        from factory.export import trainer_of

        trainer_of(to)
        return _export(open_source(self.folder), to, _out(out))

    def train(self, model: AnyPath, out: AnyPath, set: Overrides | None = None) -> Path:
        """Train a model with DPO on the dataset's pairs, and return the trained model's folder.

        TRL does the training. `model` is a folder or a repository on the Hub, and `set` overrides
        fields of a recipe's `train` section. After an interruption, call it again to continue from
        the last checkpoint.

        Raises ExportError if `out` contains other files, and TrainError if the training fails.
        """
        from factory.train import fit_dataset

        training = load_training(str(model), _override_lines(set or {}))
        return fit_dataset(self.folder, training, _out(out), self._progress)

    def trace(self, pair_id: str) -> Trace:
        """Show the dataset row that contains a pair.

        Raises QueryError if the dataset has no such pair.
        """
        return Trace([], found=trace_dataset(self.folder, pair_id))

    def diff(self, other: "Factory | Dataset | AnyPath", limit: int = 10) -> Diff:
        """Compare the dataset's pairs with those of a recipe or another dataset.

        See `Factory.diff`.
        """
        return _diff(self._pair_set(), _pair_set_of(other, None), limit)

    def diff_sql(self, other: "Factory | Dataset | AnyPath") -> str:
        """Return a SQL script that lists the pairs of both sets and how they differ.

        The script needs only DuckDB. Relative paths in it refer to the current folder.
        """
        return script(self._pair_set(), _pair_set_of(other, None))

    def _pair_set(self) -> PairSet:
        return dataset_pairs(self.folder)


def default_lake() -> Path:
    """Return the default lake folder: the value of FACTORY_LAKE, or `lake`."""
    return Path(os.environ.get("FACTORY_LAKE") or "lake")


def _lake_path(lake: AnyPath | None) -> Path:
    return folder_path(lake or default_lake(), Argument("lake"))


def _out(folder: AnyPath) -> Path:
    return user_path(folder, Argument("out"))


def _existing_lake(path: Path) -> Lake:
    if not path.is_dir():
        raise UserError(
            Argument("lake"), f"no such lake: {path}", "choose a lake that `factory run` created"
        )
    return Lake(path)


def _override_lines(overrides: Overrides) -> list[str]:
    """Return overrides as a list of `field=value` texts, with each value as YAML."""
    if not isinstance(overrides, Mapping):
        return list(overrides)
    lines = []
    for field, value in overrides.items():
        try:
            lines.append(f"{field}={json.dumps(value, default=os.fspath)}")
        except TypeError:
            kind = type(value).__name__
            fault = (
                f"{field} is a value of type {kind}, or contains a value that YAML cannot express"
            )
            raise UserError(
                Argument("set"), fault, "use numbers, texts, paths, lists, and dictionaries"
            ) from None
    return lines


def _verification(report: VerifyReport) -> Verification:
    return Verification(
        [vars(fault) for fault in report.faults],
        n_shards=report.shards,
        n_rows=report.rows,
        n_models=report.models,
    )


def _trace(found: FoundPair, hint: str = "") -> Trace:
    columns = ("draw", "score", "expected_score", "reason", "error", "text")
    rows = [
        {
            "side": side,
            "role": found["pair"][f"{side}_role"],
            "sample_id": found["pair"][f"{side}_id"],
            **{name: judgment[name] for name in columns},
        }
        for side in ("chosen", "rejected")
        for judgment in (found[side] or {}).get("judgments", [])
    ]
    return Trace(rows, hint, found=found)


def _pair_set_of(source: Factory | Dataset | AnyPath, lake: Path | None) -> PairSet:
    if isinstance(source, Factory | Dataset):
        return source._pair_set()
    path = user_path(source, Argument("other"))
    opened = Dataset(path) if path.is_dir() else open(path, lake)
    return opened._pair_set()


def _diff(a: PairSet, b: PairSet, limit: int) -> Diff:
    compared = compare_pairs(a, b, limit)
    return Diff(compared.counts, sets=compared.sets, examples=compared.examples)


def _export(source: "Source", to: str, out: Path) -> Export:
    from factory.export import export_dataset

    done = export_dataset(source, to, out)
    return Export(
        [{"split": split, "rows": n} for split, n in done.rows.items()],
        out=done.out,
        trainer=done.trainer,
        command=done.command,
        left_out=done.left_out,
        n_contradicting=done.n_contradicting,
    )
