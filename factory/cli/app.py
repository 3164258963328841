"""The `factory` command and its subcommands.

Commands import everything heavy inside their functions, so that `factory --help` is fast.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from factory import __version__, check_files

try:
    check_files()
except ImportError as error:
    raise SystemExit(f"factory: {error}") from None

from factory import errors
from factory.cli.check import doctor, verify
from factory.cli.diff import diff
from factory.cli.ending import (
    allow_many_files,
    exit_interrupted,
    exit_with,
    interrupted,
    machine_errors,
    say_traceback,
)
from factory.cli.export import export
from factory.cli.init import init
from factory.cli.pairs import pairs
from factory.cli.plan import plan, status
from factory.cli.publish import publish
from factory.cli.run import preview, run
from factory.cli.schema import schema
from factory.cli.sql import sql
from factory.cli.trace import trace
from factory.cli.train import adopt, train
from factory.paths import user_path
from factory.texts import display_text, replace_unencodable, say

GROUPS: dict[str, tuple[Callable[..., None], ...]] = {
    "Make": (init, preview, run, pairs, adopt, train),
    "Inspect": (plan, status, sql, trace, diff),
    "Publish": (export, publish),
    "Maintain": (doctor, verify, schema),
}


# Typer exports this class only as the base of another.
_UsageError: Any = typer.BadParameter.__base__


class Command(TyperCommand):
    """A subcommand that reports a FactoryError in one sentence.

    With `--json`, it also prints the error as JSON.
    """

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces = super().collect_usage_pieces(ctx)  # Typer writes arguments as {RECIPE}
        return [piece.removesuffix("...").strip("{}") for piece in pieces]

    def invoke(self, ctx: Any) -> Any:
        try:
            for param in self.params:
                if isinstance(value := ctx.params.get(param.name), Path):
                    ctx.params[param.name] = user_path(value, _name(param))
            with machine_errors():
                return super().invoke(ctx)
        except errors.FactoryError as error:
            if interrupted.is_set():
                raise
            exit_with(error, as_json=bool(ctx.params.get("as_json")))


def _name(param: Any) -> str:
    option = next((option for option in param.opts if option.startswith("--")), None)
    return option or str(param.metavar).strip("{}")


class Groups(TyperGroup):
    """A command group whose help lists the subcommands by topic."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        with _displayed_usage_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        with _displayed_usage_errors():
            return super().invoke(ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, commands in GROUPS.items():
            rows = []
            for command in commands:
                found = self.get_command(ctx, command.__name__)
                if found is not None:
                    rows.append((command.__name__, found.get_short_help_str(limit=60)))
            with formatter.section(title):
                formatter.write_dl(rows)


@contextmanager
def _displayed_usage_errors() -> Iterator[None]:
    """Display the user's arguments in a usage error, which Typer prints, like other texts."""
    try:
        yield
    except _UsageError as error:
        message = display_text(error.format_message())
        error.__dict__["format_message"] = lambda: message
        raise


app = typer.Typer(
    name="factory",
    cls=Groups,
    help="Turn prompts and a model into preference datasets whose learning signal does not fade.",
    epilog="Example: factory run recipes/quickstart/recipe.yaml",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for commands in GROUPS.values():
    for command in commands:
        app.command(cls=Command)(command)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        say(f"preference-factory {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version"
    ),
) -> None:
    """Turn prompts and a model into preference datasets whose learning signal does not fade."""


def main() -> None:
    """Run the `factory` command."""
    replace_unencodable()
    _warn_of_factory_boy()
    allow_many_files()
    try:
        app()
    except BaseException:
        if interrupted.is_set():
            exit_interrupted()
        sys.excepthook = say_traceback
        raise


def _warn_of_factory_boy() -> None:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution("factory_boy")
    except PackageNotFoundError:
        return
    say(
        "factory: factory_boy is also installed in this environment. Both packages are imported "
        "as `factory`, so only one of them works: install the two packages in separate "
        "environments",
        error=True,
    )
