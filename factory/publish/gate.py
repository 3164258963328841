"""The gate before a dataset: what must not be published, looked for in the very files that would
be.

A check finds rows; where it finds too many, nothing is published until they are gone, or until the
person says by its name that they may pass. Knows files and texts, and no Hub.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from factory.errors import PublishError, Refused
from factory.lake import Value, Views, literal, load_query
from factory.publish.patterns import PERSONAL, SECRETS
from factory.publish.repository import CONFIGS

MOST_SIMILAR = 0.95
"""Near-identical: the words that both sides share as a share of all their words. Ours, untested."""

RUN = 13
"""Words in a row that a prompt and an evaluation set have in common: as GPT-3 was cleaned (arXiv
2005.14165, appendix C)."""

MOST_TRUNCATED = 0.05
"""The share of the pairs' sides that the limit on tokens may cut off. Ours, untested."""

SHOWN = 5
"""Rows that are listed of each finding."""

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
"""Marks of the chat templates of well-known models, added to those of the models that wrote."""


@dataclass(frozen=True)
class Check:
    name: str
    what: str
    """What it looks for, as it follows "are" and "looked for"."""
    most: float = 0
    """The share of what is looked at that may be so."""


CHECKS = (
    Check("identical", "pairs with identical sides"),
    Check("similar", f"pairs whose sides share {MOST_SIMILAR:.0%} of their words and more"),
    Check("scores", "pairs with a missing score, or a chosen score that is not the higher one"),
    Check("empty", "pairs with an empty side"),
    Check("template", "pairs with a chat template's control tokens in their texts"),
    Check("splits", "prompts that are in train and in test, by id or by their words"),
    Check("evaluation", f"prompts that share {RUN} words in a row with an evaluation set"),
    Check(
        "truncated",
        f"sides cut off at the limit on tokens ({MOST_TRUNCATED:.0%} of them may be)",
        MOST_TRUNCATED,
    ),
    Check("license", "prompts without a license"),
    Check("secrets", "texts with keys, tokens, or passwords of well-known forms"),
    Check("personal", "texts with e-mail addresses, bank numbers, or card numbers"),
    Check("paths", "texts that name a folder of the machine that made them"),
)


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    what: str
    n: int
    rows: list[dict[str, Any]]
    """The first few: config, id and what was found."""
    is_bad: bool
    """Whether there are more than may be."""
    looked: bool = True
    """Whether there was anything to look for: no evaluation set, no check against it."""


def place_pattern(place: str) -> str:
    """A regular expression that finds a folder's name where no longer one begins or goes on."""
    return rf"(?:^|[^\w/.-]){re.escape(place)}(?:/|\b)"


def examine(
    views: Views,
    folder: Path,
    control_tokens: Sequence[str] = (),
    evaluation: Sequence[Path] = (),
    places: Sequence[str] = (),
) -> list[Finding]:
    """Looks at the files of a folder, whose views `views` has.

    `control_tokens` are those of the models that wrote, `places` the folders of this machine that
    no text should name; `evaluation` are files whose texts the prompts must not share. Raises
    PublishError where such a file cannot be read.
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
    # Marks and no words: a control token that is plain text is found everywhere.
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
        f"from read_parquet({literal(f'{folder}/{config.folder}/*.parquet')}, filename = true)"
        for config in CONFIGS
        if config.query == "export/dataset" and any((folder / config.folder).glob("*.parquet"))
    )
    views.define("pair_files", files)
    # Tables: the texts are trimmed once, for all checks.
    views.create_table("gate_pairs", load_query("publish/gate_pairs"))
    views.create_table("gate_prompts", load_query("publish/gate_prompts"))
    views.define("gate_texts", load_query("publish/gate_texts"))


_PARAMETERS: dict[str, Value] = {"run": RUN, "most_similar": MOST_SIMILAR}
"""The parameters of the checks' queries."""


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
    """Looks for all patterns at once first: one that comes from a column is compiled anew for each
    row."""
    views.create_table(
        "suspects",
        load_query("publish/gate_suspects"),
        any_pattern="|".join(f"(?:{pattern})" for pattern in patterns),
    )


def check_names(allowed: Sequence[str]) -> None:
    """Raises PublishError unless all are names of checks."""
    names = [check.name for check in CHECKS]
    for name in allowed:
        if name not in names:
            raise PublishError("--allow", f"got {name}", f"expected one of {', '.join(names)}")


def pass_gate(findings: Sequence[Finding], allowed: Sequence[str]) -> None:
    """Raises Refused, with rows, where a check found more than may be and was not allowed."""
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
    names = " ".join(f"--allow {finding.name}" for finding in bad)
    raise Refused(
        "publish",
        f"nothing was published, because these checks found rows:\n{listed}\n  ",
        f"remove these rows, or let them pass with {names}, which the card then tells",
    )


def texts_of(files: Sequence[Path]) -> Iterator[str]:
    """The texts of evaluation sets: every string of the rows of JSON lines or Parquet, or every
    line of a text file. Raises PublishError where one cannot be read."""
    for file in files:
        try:
            yield from _texts(file)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise PublishError(
                "--evaluation",
                f"{file} cannot be read ({type(error).__name__})",
                "expected JSON lines (.jsonl), Parquet (.parquet), or text with one entry per "
                "line (.txt)",
            ) from None


def _texts(file: Path) -> Iterator[str]:
    if file.suffix == ".parquet":
        for batch in pq.ParquetFile(file).iter_batches():
            yield from _strings(batch.to_pylist())
        return
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip():
            yield from _strings(json.loads(line)) if file.suffix == ".jsonl" else [line]


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
    """The findings as a card tells them: what was not allowed did not pass."""
    return [
        replace(finding, is_bad=finding.is_bad and finding.name in allowed) for finding in findings
    ]
