"""`factory verify` and `factory doctor`."""

import sys
from typing import TYPE_CHECKING

import typer

from factory.cli.options import LAKE, Json, LakePath, Overrides, RecipePath, open_lake, open_recipe
from factory.cli.tables import print_json

if TYPE_CHECKING:
    from factory.lake import VerifyReport
    from factory.plan import doctor as machine


def verify(lake: LakePath = LAKE, as_json: Json = False) -> None:
    """Check that no file of the lake has changed

    Checks the hash, schema, and ids of every shard, and every trained model. Prints the names of
    the files that have changed, and exits with code 1 if there are any.

    Example: factory verify --lake lake
    """
    from factory.lake import verify_lake

    report = verify_lake(open_lake(lake))
    if as_json:
        counts = {"shards": report.shards, "rows": report.rows, "models": report.models}
        print_json({**counts, "faults": [vars(fault) for fault in report.faults]})
    else:
        print_verify(report)
    if report.faults:
        raise typer.Exit(1)


def doctor(
    recipe: RecipePath,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Check that this machine can run a recipe

    Checks packages, GPUs, memory, disk, and keys, and prints what to do about each problem. Loads
    no model and changes nothing. Exits with code 1 if a problem would stop a run.

    Example: factory doctor recipes/quickstart/recipe.yaml
    """
    from factory.plan import doctor as machine

    opened, opened_lake = open_recipe(recipe, lake, overrides)
    checks = machine.examine(opened, opened_lake.root)
    n_stops = sum(check.mark == "stop" for check in checks)
    if as_json:
        print_json({"ok": not n_stops, "checks": [vars(check) for check in checks]})
    else:
        print_doctor(checks, n_stops)
    if n_stops:
        raise typer.Exit(1)


def print_verify(report: "VerifyReport") -> None:
    """Print the files that have changed, and how much was read."""
    for fault in report.faults:
        print(f"{fault.file}: {fault.why}")
    result = f"{len(report.faults)} faults" if report.faults else "all unchanged"
    print(
        f"{report.shards:,} shards with {report.rows:,} rows and {report.models} models read; "
        + result,
        file=sys.stderr,
    )


def print_doctor(checks: "list[machine.Check]", n_stops: int) -> None:
    """Print one line per check, and whether a run is possible."""
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{check.mark:<4}  {check.name:<{width}}  {check.message}")
    verdict = f"{n_stops} of these would stop a run" if n_stops else "this machine can run it"
    print(verdict, file=sys.stderr)
