"""Pre-publish checks, which find rows in a dataset that should not be published.

If a check finds too many rows, nothing is published until the rows are removed or the user allows
the check by its name.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from factory.errors import Argument, PublishError, Refused
from factory.input_files import parse_json, read_text
from factory.lake import Value, Views, load_query, read_parquet_folder
from factory.publish.patterns import PERSONAL, SECRETS
from factory.publish.repository import CONFIGS

MOST_SIMILAR = 0.95
"""Smallest word overlap (Jaccard index of the sets of words) of two answers that counts as
near-identical. Our own choice, not validated."""

RUN = 13
"""Number of consecutive words that a contaminated prompt shares with an evaluation set, as in the
decontamination of GPT-3 (arXiv 2005.14165, appendix C)."""

MOST_TRUNCATED = 0.05
"""Largest allowed share of the pairs' answers that the token limit cut off. Our own choice, not
validated."""

SHOWN = 5
"""Number of example rows per finding."""

CONTROL_TOKENS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|end|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
)
"""Control tokens of well-known chat templates, in addition to those of the recipe's models."""


@dataclass(frozen=True)
class Check:
    """A pre-publish check of a dataset's rows.

    Its query is `check_<name>.sql`, or `check_patterns.sql` for checks by regular expressions.
    """

    name: str
    what: str
    """The rows that the check looks for, as a plural noun phrase."""
    most: float = 0
    """Largest allowed share of the pairs' answers; 0 allows no row."""


CHECKS = (
    Check("identical", "pairs with identical answers"),
    Check("similar", f"pairs whose answers share at least {MOST_SIMILAR:.0%} of their words"),
    Check("scores", "pairs with a missing score, or a chosen score that is not higher"),
    Check("empty", "pairs with an empty answer"),
    Check("template", "pairs with control tokens of a chat template in their texts"),
    Check("splits", "prompts in both train and test (same id or same words)"),
    Check("evaluation", f"prompts that share {RUN} consecutive words with an evaluation set"),
    Check(
        "truncated",
        f"answers cut off by the token limit (at most {MOST_TRUNCATED:.0%} allowed)",
        MOST_TRUNCATED,
    ),
    Check("license", "prompts without a license"),
    Check("secrets", "texts with keys, tokens, or passwords in well-known formats"),
    Check("personal", "texts with e-mail addresses, or bank, card, or social security numbers"),
    Check("paths", "texts with a local path of the publisher's machine"),
)


@dataclass(frozen=True)
class Finding:
    """The result of one pre-publish check."""

    name: str
    what: str
    n: int
    rows: list[dict[str, Any]]
    """The first rows, at most SHOWN, with the columns config, id, and what."""
    is_bad: bool
    """Whether the check found more rows than it allows."""
    looked: bool = True
    """Whether the check ran. Without an evaluation set, the check `evaluation` does not run."""


def place_pattern(place: str) -> str:
    """Return a regular expression that finds a local path in a text.

    The expression does not match inside a longer word.
    """
    return rf"(?:^|[^\w/.-]){re.escape(place)}(?:/|\b)"


def examine(
    views: Views,
    folder: Path,
    control_tokens: Sequence[str] = (),
    evaluation: Sequence[Path] = (),
    places: Sequence[str] = (),
) -> list[Finding]:
    """Run all pre-publish checks on a dataset folder, and return one result per check.

    `views` are the views of the folder (`open_views`), `control_tokens` the control tokens of the
    recipe's models, `evaluation` the files of evaluation sets, and `places` the local paths that no
    text may contain. Raises PublishError if an evaluation file cannot be read.
    """
    _prepare(views, folder, control_tokens, evaluation)
    patterns = {
        "secrets": SECRETS,
        "personal": PERSONAL,
        "paths": {place: place_pattern(place) for place in places},
    }
    _suspect(views, [pattern for each in patterns.values() for pattern in each.values()])
    return [
        _finding(
            views,
            check,
            patterns.get(check.name),
            looked=check.name != "evaluation" or len(evaluation) > 0,
        )
        for check in CHECKS
    ]


def _prepare(
    views: Views,
    folder: Path,
    control_tokens: Sequence[str],
    evaluation: Sequence[Path],
) -> None:
    # Skip control tokens that are plain words, because ordinary texts contain them.
    marks = [token for token in control_tokens if len(token) > 2 and not token[0].isalnum()]
    tables = {
        "control_tokens": {"token": sorted({*CONTROL_TOKENS, *marks})},
        "evaluation": {"text": pa.array([*texts_of(evaluation)], pa.string())},
    }
    for name, columns in tables.items():
        views.register(name, pa.table(columns))
    files = " union all ".join(
        f"select '{config.name}' as config, *, "
        f"parse_filename(filename).split('-')[1] as split "
        f"from {read_parquet_folder(folder / config.folder, '*.parquet', 'filename = true')}"
        for config in CONFIGS
        if config.query == "export/dataset" and any((folder / config.folder).glob("*.parquet"))
    )
    views.define("pair_files", files)
    # Materialize the texts, so that they are trimmed once for all checks.
    views.create_table("gate_pairs", load_query("publish/gate_pairs"))
    views.create_table("gate_prompts", load_query("publish/gate_prompts"))
    views.define("gate_texts", load_query("publish/gate_texts"))


_PARAMETERS: dict[str, Value] = {"run": RUN, "most_similar": MOST_SIMILAR}
"""Values of the parameters in the checks' queries."""


def _finding(
    views: Views,
    check: Check,
    patterns: Mapping[str, str] | None,
    *,
    looked: bool,
) -> Finding:
    if patterns is not None:
        schema = pa.schema([("kind", pa.string()), ("pattern", pa.string())])
        rows = [{"kind": kind, "pattern": pattern} for kind, pattern in patterns.items()]
        views.register("patterns", pa.Table.from_pylist(rows, schema))
    name = "patterns" if patterns is not None else check.name
    query = load_query(f"publish/check_{name}")
    values = {name: value for name, value in _PARAMETERS.items() if name in query.parameters}
    views.create_table("found", query, **values)
    rows = views.all(f"from found limit {SHOWN}")
    n = views.all("select count(*) as n from found")[0]["n"]
    is_bad = n > 0
    if check.most:
        is_bad = n > check.most * views.all("select 2 * count(*) as n from gate_pairs")[0]["n"]
    return Finding(check.name, check.what, n, rows, is_bad, looked)


def _suspect(views: Views, patterns: Iterable[str]) -> None:
    """Collect the texts that match any pattern into the table `suspects`.

    DuckDB recompiles a pattern from a column for every row, so matching the single patterns against
    all texts would be slow.
    """
    views.create_table(
        "suspects",
        load_query("publish/gate_suspects"),
        any_pattern="|".join(f"(?:{pattern})" for pattern in patterns),
    )


def check_names(allowed: Sequence[str]) -> None:
    """Raise PublishError if an allowed pre-publish check does not exist."""
    names = [check.name for check in CHECKS]
    for name in allowed:
        if name not in names:
            raise PublishError(Argument("allow"), f"got {name}", f"use one of {', '.join(names)}")


def pass_gate(findings: Sequence[Finding], allowed: Sequence[str]) -> None:
    """Raise Refused if a pre-publish check failed and the user did not allow the failure.

    The error lists example rows.
    """
    bad = [finding for finding in findings if finding.is_bad and finding.name not in allowed]
    if not bad:
        return
    lines = []
    for finding in bad:
        lines.append(f"  {finding.name}: {finding.n:,} {finding.what}")
        lines += [f"    {row['config']} {row['id']}: {row['what']}" for row in finding.rows]
        if finding.n > len(finding.rows):
            lines.append(f"    … and {finding.n - len(finding.rows):,} more")
    listed = "\n".join(lines)
    options = " ".join(f"--allow {finding.name}" for finding in bad)
    argument = json.dumps([finding.name for finding in bad])
    raise Refused(
        "publish",
        f"nothing was published, because these pre-publish checks failed:\n{listed}\n  ",
        f"remove these rows, or publish them anyway with `{options}` (in Python, "
        f"`allow={argument}`); the dataset card lists each allowed check",
    )


def texts_of(files: Sequence[Path]) -> Iterator[str]:
    """Yield all texts in a list of evaluation files.

    The texts are all strings in the rows of a JSONL or Parquet file, or the lines of a text file.
    Raises PublishError if a file cannot be read, or if none of its texts has a word.
    """
    for file in files:
        has_words = False
        try:
            for text in _texts(file):
                has_words = has_words or any(map(str.isalnum, text))
                yield text
        except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
            raise PublishError(
                Argument("evaluation"),
                f"cannot read {file} ({type(error).__name__})",
                "give a .jsonl file, a .parquet file, or a .txt file with one text per line",
            ) from None
        if not has_words:
            raise PublishError(
                Argument("evaluation"),
                f"{file} contains no text, so no prompt would be compared with it",
                "give a file with the texts of an evaluation set",
            )


def _texts(file: Path) -> Iterator[str]:
    if file.suffix == ".parquet" and file.is_file():
        for batch in pq.ParquetFile(file).iter_batches():
            yield from _strings(batch.to_pylist())
        return
    for line in read_text(file, None).splitlines():
        if line.strip():
            yield from _strings(parse_json(line)) if file.suffix == ".jsonl" else [line]


def _strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from _strings(item)
        case list():
            for item in value:
                yield from _strings(item)


def allowed_findings(findings: Sequence[Finding], allowed: Sequence[str]) -> list[Finding]:
    """Return the findings of the pre-publish checks as the dataset card shows them.

    Only allowed checks are marked as failed: if any other check fails, no card is published.
    """
    return [
        replace(finding, is_bad=finding.is_bad and finding.name in allowed) for finding in findings
    ]
