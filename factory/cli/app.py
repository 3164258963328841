"""The `factory` command: its verbs, in the order in which its help lists them.

Verbs import everything heavy inside their functions, so that help is printed at once.
"""

import sys
from typing import Any

import typer
from typer.core import TyperCommand

from factory import errors

if not hasattr(errors, "UserError"):  # factory_boy has a module factory.errors too
    raise SystemExit(
        "factory: the package factory_boy, which is imported as `factory` too, has overwritten "
        "files of preference-factory: install them in separate environments"
    )

from factory.cli.check import doctor, verify
from factory.cli.diff import diff
from factory.cli.ending import exit_interrupted, exit_with, interrupted
from factory.cli.export import export
from factory.cli.pairs import pairs
from factory.cli.plan import plan, status
from factory.cli.publish import publish
from factory.cli.run import preview, run
from factory.cli.sql import sql
from factory.cli.trace import trace
from factory.cli.train import adopt, train

app = typer.Typer(
    name="factory",
    help="Turn prompts and a model into preference datasets whose learning signal does not fade.",
    epilog="Begin with: factory run recipes/quickstart/recipe.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

VERBS = (
    *(run, preview, plan, status),
    *(pairs, sql, diff, trace),
    *(export, train, adopt, publish),
    *(verify, doctor),
)


class Verb(TyperCommand):
    """A command that prints a FactoryError as a sentence, and with --json also as JSON."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except errors.FactoryError as error:
            if interrupted.is_set():
                raise
            exit_with(error, as_json=bool(ctx.params.get("as_json")))


for verb in VERBS:
    app.command(cls=Verb)(verb)


def main() -> None:
    """Run the `factory` command."""
    _warn_of_factory_boy()
    try:
        app()
    except BaseException:
        if interrupted.is_set():
            exit_interrupted()
        raise


def _warn_of_factory_boy() -> None:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution("factory_boy")
    except PackageNotFoundError:
        return
    print(
        "factory: factory_boy is installed here too. Both packages are imported as `factory`, so "
        "one of them is broken: install them in separate environments",
        file=sys.stderr,
    )
