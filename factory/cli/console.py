"""An interactive SQL prompt that can also run queries from standard input."""

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from factory.api import VIEWS, named_queries
from factory.cli.tables import print_rows
from factory.errors import QueryError
from factory.files import open_to_append
from factory.lake import PART, Views, query_text, shipped_queries
from factory.texts import is_terminal, say

PROMPT, CONTINUED = "factory> ", "    ...> "

COMMANDS = (".help", ".list", ".exit")

HELP = """\
End a query with a semicolon; a query may span several lines. A named query needs no semicolon.
Tab completes views, columns, named queries, and keywords. Queries see the lake as it was when the
prompt started.
  .list   list the named queries and what each shows
  .help   show this help
  .exit   leave, like Ctrl-D; Ctrl-C clears the input or stops a query"""

BEGINNINGS = "describe explain from select summarize values with".split()

KEYWORDS = (
    "all and any_value as asc avg between by case cast corr count cross desc distinct else end "
    "except exclude exists filter from full group having if in inner intersect is join left like "
    "limit list max median min not null offset on or order over partition qualify quantile_cont "
    "replace round row_number select semi sum then union using values when where with"
).split()
"""The most common SQL keywords. Completing all of DuckDB's hundreds would hide the columns."""

HISTORY_LINES = 1000

# Without the dot, so that a view and its column are completed as one word.
_DELIMITERS = " \t\n\"'`@$><=;|&{}()[]+-*/%,:!?"


def run_console(views: Views, output: str) -> None:
    """Run SQL queries from the interactive prompt or from standard input.

    Raises QueryError if a query from standard input fails. On a terminal, prints the error and
    continues.
    """
    if not sys.stdin.isatty():
        _answer_all(views, sys.stdin.read(), output)
    elif not is_terminal():
        raise QueryError(
            "QUERY",
            "got no query, and the interactive prompt needs a terminal",
            "give a query as an argument or on standard input",
        )
    elif output == "parquet":
        raise QueryError(
            "--format",
            "a terminal cannot display Parquet",
            "give a query as an argument, and redirect the output to a file",
        )
    else:
        Prompt(views, output).run()


def _answer_all(views: Views, text: str, output: str) -> None:
    statements, rest = split(text)
    if rest:
        statements.append(rest)
    if not statements:
        raise QueryError(
            "QUERY", "got no query", "give a query as an argument or on standard input"
        )
    if output == "parquet" and len(statements) > 1:
        raise QueryError(
            "--format",
            f"got parquet for {len(statements)} queries",
            "expected a single query, because a Parquet file has one schema",
        )
    for place, statement in enumerate(statements):
        if place and output == "table":
            say()
        _print_answer(views, statement, output)


def _print_answer(views: Views, query: str, output: str) -> None:
    """Run a SQL query or a named query, and print its rows.

    Raises QueryError if the query fails or would write.
    """
    print_rows(views.answer(query_text(query, VIEWS)), output)


def split(text: str) -> tuple[list[str], str]:
    """Split SQL text into its complete statements and an incomplete remainder.

    The returned statements have no semicolons at the end. Semicolons in quotes and comments do not
    end a statement. If the remainder contains only comments, it is returned as an empty text.
    """
    statements: list[str] = []
    begin, is_empty = 0, True
    for part in PART.finditer(text):
        if part.lastgroup == "end":
            if not is_empty:
                statements.append(text[begin : part.start()].strip())
            begin, is_empty = part.end(), True
        elif part.lastgroup not in ("comment", "space"):
            is_empty = False
    return statements, "" if is_empty else text[begin:].lstrip()


class Prompt:
    """An interactive prompt that runs each SQL statement as soon as it is complete."""

    def __init__(self, views: Views, output: str) -> None:
        self._views = views
        self._output = output
        self._columns = {name: views.con.sql(f"from {name} limit 0").columns for name in VIEWS}
        self._begun = ""
        """The lines of a statement that is not complete yet."""
        self._offered: list[str] = []

    def run(self) -> None:
        """Read SQL statements and print their results until the user exits."""
        # Restore Ctrl-C: a command that a shell starts in the background ignores it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        save_history = self._edit_lines()
        say("End a query with a semicolon. Type .help for help, Ctrl-D to leave.")
        while True:
            try:
                line = input(CONTINUED if self._begun else PROMPT)
                if not self._begun and line.strip() == ".exit":
                    return
                self._take(line)
            except EOFError:
                say()
                return
            except KeyboardInterrupt:
                self._begun = ""
                say()
            finally:
                save_history()  # after every line, since closing the terminal kills the process

    def _take(self, line: str) -> None:
        word = line.strip()
        if not self._begun and word.startswith("."):
            _command(word)
            return
        if not self._begun and word in shipped_queries():
            statements = [word]
        else:
            statements, self._begun = split(f"{self._begun}{line}\n")
        for statement in statements:
            try:
                _print_answer(self._views, statement, self._output)
            except QueryError as error:
                say(f"factory: {error}", error=True)

    def completions(self, text: str, before: str) -> list[str]:
        """Return every word that can complete `text`. `before` is the line up to `text`."""
        view, point, _ = text.rpartition(".")
        words: set[str]
        if not self._begun and not before.strip():
            words = {*COMMANDS, *shipped_queries(), *BEGINNINGS}
        elif point:  # an unknown name may be an alias of any view
            found = self._columns.get(view, [*self._all_columns()])
            words = {f"{view}.{column}" for column in found}
        elif re.search(r"\b(from|join)\s+$", before, re.IGNORECASE):
            words = {*VIEWS}
        else:
            words = {*VIEWS, *self._all_columns(), *KEYWORDS}
        return sorted(word for word in words if word.lower().startswith(text.lower()))

    def _all_columns(self) -> set[str]:
        return {column for columns in self._columns.values() for column in columns}

    def _edit_lines(self) -> Callable[[], None]:
        """Set up line editing, completion, and history. Return a function to save the history."""
        try:
            import readline
        except ImportError:  # some builds of Python lack readline
            return lambda: None

        def complete(text: str, place: int) -> str | None:
            if place == 0:
                before = readline.get_line_buffer()[: readline.get_begidx()]
                self._offered = self.completions(text, before)
            return self._offered[place] if place < len(self._offered) else None

        readline.set_completer(complete)
        readline.set_completer_delims(_DELIMITERS)
        is_libedit = "libedit" in (readline.__doc__ or "")  # on macOS; its commands differ
        readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
        try:
            file = history_file()
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            open_to_append(file, "ab", permissions=0o600).close()
            readline.read_history_file(file)
        except (OSError, RuntimeError) as error:
            say(f"factory: the history is not saved: {error}", error=True)
            return lambda: None
        readline.set_history_length(HISTORY_LINES)
        return lambda: readline.write_history_file(file)


def _command(word: str) -> None:
    match word:
        case ".help":
            say(HELP)
            say(f"Views: {', '.join(VIEWS)}.")
        case ".list":
            print_rows(named_queries().to_arrow(), "table", shorten=False)
        case _:
            say(f"factory: {word}: expected {', '.join(COMMANDS)}", error=True)


def history_file() -> Path:
    """Return the path of the file that stores the history of SQL queries.

    It is in the user's state folder (XDG Base Directory Specification), never in the lake.
    """
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        state = Path.home() / ".local" / "state"
    return state / "preference-factory" / "sql_history"
