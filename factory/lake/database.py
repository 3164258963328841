"""Open a DuckDB database that shows no progress bar."""

from duckdb import DuckDBPyConnection, connect


def open_database() -> DuckDBPyConnection:
    """Open an empty in-memory DuckDB database that shows no progress bar.

    A bar would mix with the output of a command. In a notebook without ipywidgets, DuckDB draws no
    bar, and raises an error if the setting changes, so this function leaves the setting alone.
    """
    con = connect()
    (is_on,) = con.execute("select current_setting('enable_progress_bar')").fetchall()[0]
    if is_on:
        con.execute("set enable_progress_bar = false")
    return con
