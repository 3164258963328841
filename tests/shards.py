"""Shards with rows that tests write by hand, and DuckDB views over them."""

import pyarrow as pa
import pyarrow.parquet as pq

from factory.lake import TABLES


class HandWritten:
    """The shards in a folder, and the views over them."""

    def __init__(self, views, folder):
        self.views, self.folder = views, folder

    def shards(self, table, **shards):
        """Write shards, and register them in reverse order of their names.

        The results of the views must not depend on the order of registration.
        """
        paths = []
        for name, rows in shards.items():
            paths.append(self.folder / f"{table}-{name}.parquet")
            pq.write_table(pa.Table.from_pylist(rows, TABLES[table]), paths[-1])
        self.views.register_shards(table, table, sorted(paths, reverse=True))

    def judged(self, *rows, n_judge_draws=3):
        """Register verdicts, with a judgment for each."""
        judgments = {row["judgment_id"]: judgment(row["judgment_id"]) for row in rows}
        self.shards("judgments", a=list(judgments.values()))
        self.shards("verdicts", a=list(rows))
        self.roles(role("current", n_judge_draws=n_judge_draws))

    def roles(self, *rows):
        for table in ("roles", "panel"):
            self.views.register(table, pa.Table.from_pylist(list(rows), TABLES[table]))

    def rows(self, view):
        return self.views.con.sql(f"from {view}").to_arrow_table().to_pylist()

    def scores(self):
        return {row["sample_id"]: row for row in self.rows("scores")}


def role(name, n_judge_draws=3, parser="parser"):
    return {"role": name, "iteration": 0, "parser_key": parser, "n_judge_draws": n_judge_draws}


def sample(text, error_kind=None, request="r", draw=0, sampling="s"):
    return {
        "sample_id": f"{request}{draw}{text}",
        "request_id": request,
        "draw": draw,
        "sampling": sampling,
        "text": text,
        "error": error_kind and "it failed",
        "error_kind": error_kind,
    }


def judgment(name, text="fine", error_kind=None, draw=0, judge="judge"):
    """Return a judgment that is the only one of its request."""
    return {
        "judgment_id": name,
        "request_id": f"request of {name.partition('=')[0]}",
        "context": "",
        "draw": draw,
        "judge": judge,
        "text": text,
        "error": error_kind and "it failed",
        "error_kind": error_kind,
    }


def verdict(sample_id, draw, score, parser="parser"):
    return {
        "judgment_id": f"{sample_id}.{draw}",
        "sample_id": sample_id,
        "draw": draw,
        "parser": parser,
        "score": score,
        "reason": None if score is not None else "no score",
    }
