"""What the verbs print: tables for people, JSON and data formats for programs.

Results go to standard output, progress and errors to standard error.
"""

import dataclasses
import json
import re
import shlex
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from factory.export import dataset_rows
from factory.lake import ROW_ID, VerifyReport, Views, shipped_queries
from factory.pairs import SECOND
from factory.plan import RecipeState
from factory.plan.doctor import Check
from factory.progress import duration
from factory.recipe import JUDGE, REFERENCE
from factory.report import SIDES, Diff, Trace, summary
from factory.stages import transcript

if TYPE_CHECKING:
    import pyarrow as pa

    from factory.export import Exported
    from factory.publish import Finding, Pushed

FORMATS = ("table", "csv", "json", "parquet")


def table(rows: list[dict[str, Any]], title: str | None = None) -> None:
    """Rows as a plain table, as wide as it needs to be where nobody reads it on a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 1000, highlight=False)
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, collapse_padding=True, pad_edge=False)
    columns = list(rows[0]) if rows else []
    for column in columns:
        numeric = all(isinstance(row[column], int | float | None) for row in rows)
        justify: Literal["left", "right"] = "right" if numeric else "left"
        # Words may go on in the next line, numbers may not.
        drawn.add_column(
            column.replace("_", " "), justify=justify, overflow="fold", no_wrap=numeric
        )
    for row in rows:
        drawn.add_row(*(_cell(row[column]) for column in columns))
    if title:
        console.print(f"\n{title}", style="bold")
    console.print(drawn)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | dict):
        return _escape(json.dumps(value, ensure_ascii=False))
    return _escape(str(value))


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def run_end(survey: RecipeState, dataset: Path, recipe: Path, lake: Path, *, as_json: bool) -> None:
    """The table that a run ends with, the dataset's folder, and what to do next."""
    came = summary.iterations(survey)
    rows = dataset_rows(dataset)
    if as_json:
        work = summary.work_rows(survey)
        _json({**came, "work": work, "dataset": str(dataset), "rows": rows})
        return
    _iterations(came)
    _work(survey)
    where = "" if lake == Path("lake") else f" --lake {shlex.quote(str(lake))}"
    print(f"\nThe dataset, {_counted(rows)}: {dataset}")
    factory, python = _typed()
    print("\nNext:")
    print(f"  {factory} preview {recipe}{where} --first 1")
    print(f'  {factory} sql {recipe}{where} "from gaps"')
    print(f"  {factory} status {recipe}{where}")
    print(f"  {python} -c \"import datasets; print(datasets.load_dataset('{dataset}'))\"")


def _counted(rows: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in rows.items()) or "no pairs"


def _typed() -> tuple[str, str]:
    """How this command, and the Python beside it, are called from the person's shell."""
    command = Path(sys.argv[0])
    if command.name != "factory" or shutil.which("factory") == str(command):
        return "factory", "python"
    return str(command), str(command.with_name("python"))


_SHORT = {
    "iteration": "it",
    "phase": "phase",
    "prompts": "prompts",
    "kept": "kept",
    "ties": "ties",
    "failures": "failed",
    "gap": "gap",
    "score_chosen": "chosen",
    "score_rejected": "rejected",
    "chosen_from_future": "future",
    "rejected_from_past": "past",
}
"""The columns of `gaps` as they fit a terminal of 80 columns."""


def _iterations(came: dict[str, summary.Rows]) -> None:
    _pairs(came["gaps"])
    if came["probe"]:
        table(came["probe"], "Probe (mean score of each model, by a check that chose no pair)")


def build(survey: RecipeState, dataset: Path, inside: RecipeState, *, as_json: bool) -> None:
    """The pairs of a build, and what the same change would cost inside the loop."""
    gaps = [row for row in summary.gaps(survey) if row["phase"] == SECOND]
    rows = dataset_rows(dataset)
    totals = summary.plan_totals(inside, summary.plan_rows(inside))
    if as_json:
        _json({"gaps": gaps, "dataset": str(dataset), "rows": rows, "inside_the_loop": totals})
        return
    _pairs(gaps)
    outcomes = summary.outcomes(survey)
    table(outcomes, "What came of the pairs that were considered")
    print(f"\nThe dataset, {_counted(rows)}: {dataset}")
    if not totals["steps"]:
        print("The loop was trained on these pairs.")
        return
    print(f"Inside the loop the same change would train again: {_to_do(totals)}")


def exported(done: "Exported", *, as_json: bool) -> None:
    """What was written for a trainer, and the command that starts it."""
    if as_json:
        said = dataclasses.asdict(done)
        _json({**said, "out": str(done.out)})
        return
    if done.left_out:
        print(f"Not in it, since their pairs were not made yet: {', '.join(done.left_out)}")
    print(f"Written for {done.trainer}, {_counted(done.rows)}: {done.out}")
    print(f"\nNext:\n  cd {shlex.quote(str(done.out))} && {done.command}")


def _work(survey: RecipeState) -> None:
    """What the stages took that models work in."""
    rows = [
        {
            "stage": row["stage"],
            "made": row["made"],
            "read": row["prompt_tokens"] or None,
            "cached": _share(row["cached_tokens"], row["prompt_tokens"]),
            "written": row["tokens"] or None,
            "read/s": _whole(row["prompt_tokens_per_second"]),
            "written/s": _whole(row["tokens_per_second"]),
            "time": duration(row["seconds"]),
            "cost": _money(row["cost"]),
        }
        for row in summary.work_rows(survey)
    ]
    table(
        _without(rows, "cached", "cost"),
        "Work of all runs (read and written: tokens of prompts and of answers)",
    )


def _whole(rate: float | None) -> int | None:
    return None if rate is None else round(rate)


def _money(cost: float | None) -> str:
    return "" if cost is None else f"{cost:,.2f}" if cost >= 0.1 else f"{cost:.2g}"


def _pairs(gaps: summary.Rows) -> None:
    table(
        [{short: row[name] for name, short in _SHORT.items()} for row in gaps],
        "Pairs (gap: mean margin of the kept, on the judge's own scale;\n"
        "future: chosen from the future model; past: rejected from M_0)",
    )


def preview(survey: RecipeState, first: int, *, as_json: bool) -> None:
    """The first prompts with their answers, judgments and scores."""
    views = survey.views(survey.everything)
    prompts = views.con.sql(
        "select prompt_id, messages from prompts "
        f"where iteration = 0 and split = 'train' limit {first}"
    )
    views.register("shown", prompts.to_arrow_table())
    rows = (
        views.con.sql(
            "select shown.messages[-1].content as prompt, role, draw, text as answer, score, "
            "coalesce(candidates.error, '') as error, "
            "(select list(judgments.text order by judgments.draw) from judgments "
            " where judgments.sample_id = candidates.sample_id) as judgments, "
            "(select list(reason) from verdicts where verdicts.sample_id = "
            " candidates.sample_id and reason is not null) as unscored "
            "from candidates join shown using (prompt_id) order by prompt_id, role, draw"
        )
        .to_arrow_table()
        .to_pylist()
    )
    if as_json:
        _json(rows)
        return
    for prompt in dict.fromkeys(row["prompt"] for row in rows):
        print(f"\n{prompt}")
        for row in rows:
            if row["prompt"] == prompt:
                _previewed(row)
    if rubric := survey.opened.rubrics[JUDGE]:
        print(f"\nScale {rubric.scale[0]:g} to {rubric.scale[1]:g}; kept in the lake.")


def _previewed(row: dict[str, Any]) -> None:
    score = "no score" if row["score"] is None else f"{row['score']:.2f}"
    print(f"  {row['role']} {row['draw']}  [{score}]  {row['error'] or row['answer']}")
    said = [
        text.strip().splitlines()[-1] for text in row["judgments"] or [] if text and text.strip()
    ]
    print("      judged: " + " | ".join(said))
    for reason in dict.fromkeys(row["unscored"] or []):
        print(f"      no score from a judgment: {reason}")


def plan(survey: RecipeState, *, as_json: bool) -> None:
    """Every step with what is held and why it will run, and what it all comes to."""
    rows = summary.plan_rows(survey)
    totals = summary.plan_totals(survey, rows)
    drawn = summary.generation_lines(survey)
    if as_json:
        _json({"generation": drawn, "steps": rows, "totals": totals})
        return
    shown = [
        {
            "it": row["iteration"],
            "step": _brief(row["step"]),
            "state": row["state"],
            "held": row["answered"],
            "to do": row["missing"] - row["carried"],
            "tokens": _tokens(row),
            "time": duration(seconds) if (seconds := row["expected_seconds"]) else "",
        }
        for row in rows
    ]
    table(shown, f"{survey.recipe.name}: {survey.recipe.loop.policy}")
    print()
    for line in drawn:
        print(line)
    for step, found in survey.steps.items():
        folder = found.folder if step.stage in ROW_ID else None
        for shard in folder.broken(content=False) if folder else []:
            print(f"broken shard {survey.lake.relative(shard.path)}: {shard.why}")
    if not totals["steps"]:
        print("Nothing to do.")
        return
    print(f"To do: {_to_do(totals)}")


def _to_do(totals: dict[str, Any]) -> str:
    took = f", about {duration(totals['seconds'])}" if totals["seconds"] else ""
    cost = f", cost about {_money(totals['cost'])}" if totals["cost"] else ""
    return (
        f"{totals['steps']} steps, {totals['requests']:,} answers, about "
        f"{totals['tokens']:,} tokens, {totals['trainings']} trainings, "
        f"{totals['loads']} loads of a model{took}{cost}."
    )


def _tokens(row: dict[str, Any]) -> str:
    if not row["expected_tokens"]:
        return ""
    about = "at most " if row["tokens_are"] == "at most" else "about "
    return f"{about}{row['expected_tokens']:,}"


def status(survey: RecipeState, *, as_json: bool) -> None:
    """What each step has made, and the iterations so far."""
    rows, came = summary.step_rows(survey), summary.iterations(survey)
    if as_json:
        _json({"steps": rows, "work": summary.work_rows(survey), **came})
        return
    shown = [
        {
            "it": row["iteration"],
            "step": _brief(row["step"]),
            "state": row["state"],
            "wanted": row["wanted"],
            "answered": row["answered"],
            "failed": row["failed"] + row["failed_for_now"],
            "filtered": row["filtered"],
            "unparsed": row["unparsed"],
            "written": row["tokens"] or None,
            "/s": _whole(row["tokens_per_second"]),
            "cached": _share(row["cached_tokens"], row["prompt_tokens"]),
            "time": duration(row["seconds"]) if row["seconds"] else "",
        }
        for row in rows
    ]
    table(
        _without(shown, "failed", "filtered", "unparsed", "cached"),
        f"{survey.recipe.name}: wanted = answered + failed + filtered when done",
    )
    _work(survey)
    _iterations(came)


def _brief(title: str) -> str:
    """A step's title as it fits a table: judgments M_0 past by M_1."""
    return re.sub(r" (of the|on the|of|as|on) ", " ", title)


def _without(rows: summary.Rows, *columns: str) -> summary.Rows:
    """The rows without those of the columns that say nothing anywhere."""
    silent = {column for column in columns if not any(row[column] for row in rows)}
    return [{name: row[name] for name in row if name not in silent} for row in rows]


def _share(part: int, whole: int) -> str:
    """How much of the prompts' tokens the engine had in its cache, where it says so."""
    return f"{part / whole:.0%}" if part and whole else ""


def answer(views: Views, text: str, output: str) -> None:
    """The rows of a user's query. Raises QueryError where it fails, or does more than read."""
    _rows(views.answer(text), output)


def list_queries(output: str) -> None:
    """The named queries, with what each shows."""
    import pyarrow as pa

    rows = [
        {"name": query.name, "explanation": query.explanation}
        for query in shipped_queries().values()
    ]
    _rows(pa.Table.from_pylist(rows), output)


def _rows(found: "pa.Table", output: str) -> None:
    if output == "parquet":
        import pyarrow.parquet as pq

        pq.write_table(found, sys.stdout.buffer)
    elif output == "csv":
        import pyarrow as pa
        import pyarrow.csv

        nested = [pa.types.is_nested(column.type) for column in found.schema]
        for place, is_nested in enumerate(nested):
            if is_nested:
                texts = [
                    json.dumps(value, ensure_ascii=False) for value in found[place].to_pylist()
                ]
                found = found.set_column(place, found.schema.names[place], pa.array(texts))
        pyarrow.csv.write_csv(found, sys.stdout.buffer)
    elif output == "json":
        _json(found.to_pylist())
    elif found.num_rows:
        table(found.to_pylist())
    else:
        print("no rows: " + ", ".join(found.schema.names))


def traced(found: Trace, *, as_json: bool) -> None:
    """How a pair came about."""
    if as_json:
        _json(found)
        return
    pair, prompt, build = found["pair"], found["prompt"], found["build"]
    _traced_head(pair)
    others = len(found["builds"]) - 1
    print(f"  build pairs/{pair['build']}" + (f", and {others} more have it" if others else ""))
    if prompt:
        origin = [f"{name} {prompt[name]}" for name in ("source", "license") if prompt[name]]
        print(f"\nPrompt {pair['prompt_id']}" + (f" ({', '.join(origin)})" if origin else ""))
        _indented(transcript(prompt["messages"]))
    for side in SIDES:
        _traced_side(side, pair, found[side])
    for judge in found["judges"]:
        print(f"\nJudge {_traced_model(judge)}")
    if build:
        changed = json.dumps(build["pairs"]) if "pairs" in build else "none"
        print(f"\nPolicy (parameters that differ from the defaults: {changed})")
        _indented(build["policy"])


def _traced_head(pair: Trace) -> None:
    margin = "" if pair.get("margin") is None else f", margin {pair['margin']:.3g}"
    place = [f"iteration {pair['iteration']}"]
    place += [str(pair[name]) for name in ("phase", "split") if name in pair]
    print(f"Pair {pair['pair_id']}: {pair.get('outcome', 'kept')}{margin}; {', '.join(place)}")


def _traced_side(side: str, pair: Trace, found: Trace | None) -> None:
    if found is None:
        named = pair[f"{side}_id"]
        print(
            f"\n{side.capitalize()}: " + (f"{named}, which the lake has not" if named else "none")
        )
        return
    sample, role = found["sample"], pair[f"{side}_role"]
    print(f"\n{side.capitalize()} {sample['sample_id']}: draw {sample['draw']} of {role}")
    if role != REFERENCE:
        print(f"  by model {_traced_model(found['model'])}")
    print(f"  samples/{sample['sampling']}, {sample['engine']} {sample['engine_version']}")
    _indented(sample["text"] or "", "    ")
    score, n_judgments = pair[f"score_{side}"], pair[f"n_judgments_{side}"]
    shown = "no score" if score is None else f"score {score:.3g}, of {n_judgments} valid judgments"
    print(f"  {shown}")
    for judgment in found["judgments"]:
        verdict = "failed" if judgment["error"] else judgment["reason"] or "no verdict"
        if judgment["score"] is not None:
            verdict = f"{judgment['score']:g}"
        place = f"judgments/{judgment['judge']}"
        place += f", verdicts/{judgment['parser']}" if judgment["parser"] else ""
        print(f"  judgment {judgment['draw']}: {verdict} ({place})")
        _indented(judgment["text"] or judgment["error"] or "", "    ")


def _traced_model(model: Trace) -> str:
    if model["key"] is None:
        return f"{model['digest']}, which was not trained in this lake"
    return (
        f"{model['digest']} (models/{model['key']}: trained on {model['n_pairs']:,} pairs of "
        f"pairs/{model['build']}, from {model['parent']})"
    )


def _indented(text: str, by: str = "  ") -> None:
    print(textwrap.indent(text.rstrip(), by))


def traced_row(row: Trace, *, as_json: bool) -> None:
    """What a published dataset says of a pair."""
    if as_json:
        _json(row)
        return
    _traced_head(row)
    print(f"\nPrompt {row['prompt_id']}")
    _indented(transcript(row["prompt"]))
    if "completion" in row:
        print(f"\nChosen {row['sample_id']}: of {row['role']}")
        print(f"  by model {row['model']}; score {row['score']:.3g}")
        _indented(row["completion"][-1]["content"], "    ")
        print(f"\nJudge: model {row['judge_model']}, {row['n_judgments']} valid judgments")
        return
    for side in SIDES:
        print(f"\n{side.capitalize()} {row[f'{side}_id']}: of {row[f'{side}_role']}")
        print(f"  by model {row[f'{side}_model']}; score {row[f'score_{side}']:.3g}")
        _indented(row[side][-1]["content"], "    ")
    print(f"\nJudge: model {row['judge_model']}, {row['n_judgments']} valid judgments a side")


def script(sql: str, *, as_json: bool) -> None:
    """SQL for a person to run elsewhere."""
    if as_json:
        _json({"sql": sql})
        return
    print(sql, end="")


def diff(found: Diff, *, as_json: bool) -> None:
    """How two sets of pairs differ: counts by status and reason, then examples."""
    if as_json:
        _json(
            {
                "a": found.sets[0],
                "b": found.sets[1],
                "counts": found.counts,
                "examples": found.examples,
            }
        )
        return
    for name, held in zip("AB", found.sets, strict=True):
        considered = held["considered"]
        of = "" if considered is None else f" of {considered:,} considered"
        facts = {"outcomes": considered is not None, "candidates": held["has_candidates"]}
        unknown = " and ".join(fact for fact, is_known in facts.items() if not is_known)
        said = f"; {unknown} unknown" if unknown else ""
        print(f"{name}  {held['pairs']}: {held['kept']:,} kept{of}{said}")
    print()
    table(found.counts)
    for row in found.examples:
        print(f"\n{row['status']}: {row['reason']}")
        print(f"  prompt {row['prompt_id']}, iteration {row['iteration']}")
        for name in "ab":
            if pair := row[f"{name}_pair_id"]:
                print(f"  pair {pair} in {name.upper()}")
        if row["detail"]:
            print(f"  {row['detail']}")


def dry_run(findings: "list[Finding]", folder: Path, *, as_json: bool) -> None:
    """The folder that would be pushed, and what the gate found in it."""
    if as_json:
        _json({"folder": str(folder), "checks": [vars(finding) for finding in findings]})
        return
    _checks(findings)
    print(f"\nThe folder that would be pushed; nothing was sent: {folder}")


def _checks(findings: "list[Finding]") -> None:
    rows = [
        {"check": finding.name, "looked for": finding.what, "found": finding.n}
        for finding in findings
        if finding.looked
    ]
    table(rows, "The gate")


def published(pushed: "Pushed", *, as_json: bool) -> None:
    """What came of a push."""
    if as_json:
        _json(vars(pushed))
        return
    if not pushed.changed:
        print(f"Nothing has changed, so there is no commit: {pushed.url}")
        return
    seen = "private" if pushed.private else "public"
    what = f"a new {seen} repository" if pushed.made else f"a {seen} repository"
    deleted = f", {pushed.deleted:,} taken out" if pushed.deleted else ""
    print(
        f"Published in {what}, one commit: {pushed.files:,} files with {pushed.size:,} bytes"
        f"{deleted}\n{pushed.url}"
    )


def verified(report: VerifyReport, *, as_json: bool) -> bool:
    """Whether the lake is whole; prints the files that are not."""
    faults = [{"file": fault.file, "why": fault.why} for fault in report.faults]
    if as_json:
        counts = {"shards": report.shards, "rows": report.rows, "models": report.models}
        _json({**counts, "faults": faults})
    else:
        for fault in faults:
            print(f"{fault['file']}: {fault['why']}")
        print(
            f"{report.shards:,} shards with {report.rows:,} rows and {report.models} models read; "
            + (f"{len(faults)} not as they were written" if faults else "all as they were written"),
            file=sys.stderr,
        )
    return not faults


def doctor(checks: list[Check], *, as_json: bool) -> bool:
    """Whether nothing would stop a run; prints what was looked at, a line each."""
    stops = sum(check.mark == "stop" for check in checks)
    if as_json:
        _json({"ok": not stops, "checks": [vars(check) for check in checks]})
        return not stops
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{check.mark:<4}  {check.name:<{width}}  {check.said}")
    verdict = f"{stops} of these would stop a run" if stops else "this machine can run it"
    print(verdict, file=sys.stderr)
    return not stops
