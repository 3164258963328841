"""The `factory trace` command."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.cli.options import LAKE, Json, LakePath, Overrides, open_recipe
from factory.errors import QueryError
from factory.texts import display_line, json_text, say, say_json

if TYPE_CHECKING:
    from factory.report import Trace


def trace(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="[RECIPE] PAIR_ID", help="Pair ID, optionally preceded by a recipe"),
    ],
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    dataset: Annotated[
        Path | None,
        typer.Option("--dataset", help="Read a dataset folder instead of a lake"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show where a preference pair comes from.

    Prints the pair's prompt, samples, judgments, scores, policy, and models. The recipe is
    optional, because pair IDs are unique in a lake.

    Example: factory trace recipes/quickstart/recipe.yaml 41b6e2a09c5d7f83e1a2b3c4
    """
    from factory import api

    *recipes, pair_id = arguments
    pair_id = pair_id.strip("'\"")  # `factory sql --format csv` quotes IDs
    if len(recipes) > 1:
        raise QueryError(
            "PAIR_ID", f"got {len(arguments)} arguments", "expected a recipe and a pair ID"
        )
    if dataset is not None:
        found = api.open_dataset(dataset).trace(pair_id).found
    elif recipes:
        found = open_recipe(Path(recipes[0]), lake, overrides).trace(pair_id).found
    else:
        found = api.trace(pair_id, lake).found
    if as_json:
        say_json(found)
    elif dataset is None:
        print_trace(found)
    else:
        print_dataset_row(found)


def print_trace(trace: "Trace") -> None:
    """Print everything that the lake stores about a pair."""
    from factory.report import SIDES
    from factory.stages import transcript

    pair, prompt, build = trace["pair"], trace["prompt"], trace["build"]
    _print_head(pair)
    others = len(trace["builds"]) - 1
    say(f"  build pairs/{pair['build_key']}" + (f", and {others} more have it" if others else ""))
    if prompt:
        origin = [
            f"{name} {display_line(prompt[name])}" for name in ("source", "license") if prompt[name]
        ]
        say(f"\nPrompt {pair['prompt_id']}" + (f" ({', '.join(origin)})" if origin else ""))
        _print_indented(transcript(prompt["messages"]))
    for side in SIDES:
        _print_side(side, pair, trace[side])
    for judge in trace["judges"]:
        say(f"\nJudge {_describe_model(judge)}")
    if build:
        changed = json_text(build["pairs"]) if "pairs" in build else "none"
        say(f"\nPolicy (parameters that differ from the defaults: {changed})")
        _print_indented(build["policy"])


def _print_head(pair: "Trace") -> None:
    margin = "" if pair.get("margin") is None else f", margin {pair['margin']:.3g}"
    place = [f"iteration {pair['iteration']}"]
    place += [str(pair[name]) for name in ("phase", "split") if name in pair]
    say(f"Pair {pair['pair_id']}: {pair.get('outcome', 'kept')}{margin}; {', '.join(place)}")


def _print_side(side: str, pair: "Trace", found: "Trace | None") -> None:
    from factory.recipe import REFERENCE

    if found is None:
        sample_id = pair[f"{side}_id"]
        missing = f"{sample_id} (not in this lake)" if sample_id else "none"
        say(f"\n{side.capitalize()}: {missing}")
        return
    sample, role = found["sample"], pair[f"{side}_role"]
    say(f"\n{side.capitalize()} {sample['sample_id']}: draw {sample['draw']} of {role}")
    if role != REFERENCE:
        say(f"  by model {_describe_model(found['model'])}")
    say(f"  samples/{sample['sampling_key']}, {sample['engine']} {sample['engine_version']}")
    _print_indented(sample["text"] or "", "    ")
    score, n_judgments = pair[f"score_{side}"], pair[f"n_judgments_{side}"]
    scored = "no score" if score is None else f"score {score:.3g}, of {n_judgments} valid judgments"
    say(f"  {scored}")
    for judgment in found["judgments"]:
        _print_judgment(judgment)


def _print_judgment(judgment: "Trace") -> None:
    verdict = "failed" if judgment["error"] else display_line(judgment["reason"] or "no verdict")
    if judgment["score"] is not None:
        verdict = f"{judgment['score']:g}"
        if judgment["expected_score"] is not None:
            verdict += f", expected {judgment['expected_score']:.3g}"
    folders = f"judgments/{judgment['judge_key']}"
    folders += f", verdicts/{judgment['parser_key']}" if judgment["parser_key"] else ""
    say(f"  judgment {judgment['draw']}: {verdict} ({folders})")
    _print_indented(judgment["text"] or judgment["error"] or "", "    ")


def _describe_model(model: "Trace") -> str:
    shown = f"{model['name']}, {model['digest']}" if model["name"] else model["digest"]
    if model["model_key"] is None:
        return f"{shown}, which was not trained in this lake"
    return (
        f"{shown} (models/{model['model_key']}: trained on {model['n_pairs']:,} pairs of "
        f"pairs/{model['build_key']}, from {model['parent_name'] or model['parent']})"
    )


def _print_indented(text: str, prefix: str = "  ") -> None:
    say(textwrap.indent(text.rstrip(), prefix))


def print_dataset_row(row: "Trace") -> None:
    """Print the prompt, answers, scores, and judge of a pair in a dataset."""
    from factory.report import SIDES, name_in_loop
    from factory.stages import transcript

    _print_head(row)
    say(f"\nPrompt {row['prompt_id']}")
    _print_indented(transcript(row["prompt"]))
    if "completion" in row:
        say(f"\nChosen {row['sample_id']}: of {row['role']}")
        model = name_in_loop(row["role"], row["iteration"]) or row["model"]
        say(f"  by model {model}; score {row['score']:.3g}")
        _print_indented(row["completion"][-1]["content"], "    ")
        say(f"\nJudge: model {row['judge_model']}, {row['n_judgments']} valid judgments")
        return
    for side in SIDES:
        say(f"\n{side.capitalize()} {row[f'{side}_id']}: of {row[f'{side}_role']}")
        model = name_in_loop(row[f"{side}_role"], row["iteration"]) or row[f"{side}_model"]
        say(f"  by model {model}; score {row[f'score_{side}']:.3g}")
        _print_indented(row[side][-1]["content"], "    ")
    say(f"\nJudge: model {row['judge_model']}, {row['n_judgments']} valid judgments per side")
