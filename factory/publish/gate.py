"""Pre-publish checks, which find rows in a dataset that should not be published.

If a check finds too many rows, nothing is published until the rows are removed or the user allows
the check by its name.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from factory.errors import Argument, PublishError, Refused
from factory.input_files import parse_json, read_text
from factory.lake import Value, Views, load_query, read_parquet_folder
from factory.publish.readings import plain
from factory.publish.repository import ANSWERS, CONFIGS, Config
from factory.publish.scan import SCANS, Hit, Scanner
from factory.publish.texts import Text, of_document, texts_in

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

MIN_WORDS = 3
"""Smallest number of words of a question of an evaluation set that is looked for inside prompts. A
shorter question is found only if it is an entire message. Our own choice, not validated."""

MIN_WORDS_OF_TEXT = 6
"""The same for texts that are no questions, such as answers. Our own choice, not validated."""

CONTROL_TOKENS = (
    "<start_of_turn>",
    "<end_of_turn>",
    "<bos>",
    "<eos>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[AVAILABLE_TOOLS]",
    "[TOOL_CALLS]",
    "[TOOL_RESULTS]",
    "[gMASK]",
    "[|system|]",
    "[|user|]",
    "[|assistant|]",
    "[|endofturn|]",
    "]~b]",
    "[e~[",
)
"""Control tokens of well-known chat templates, in addition to those of the recipe's models."""

CONTROL_PATTERN = r"<\|[A-Za-z][\w.:/-]*\|?>|<[A-Za-z][\w.:/-]*\|>"
"""Regular expression (RE2) of control tokens such as `<|im_start|>` and `<turn|>`, the form that
most chat templates use. Characters that look like `|` and `_` are replaced before."""


@dataclass(frozen=True)
class Check:
    """A pre-publish check of a dataset.

    Its query is `check_<name>.sql`, except for the checks of texts in SCANS.
    """

    name: str
    what: str
    """The rows that the check looks for, as a plural noun phrase."""
    most: float = 0
    """Largest allowed share of the pairs' answers; 0 allows no row."""
    of_answers: str = ""
    """What the check looks for in a dataset without rejected answers. Empty if it is the same."""
    compares: bool = False
    """Whether the check compares both answers of a pair, and so does not run without pairs."""


CHECKS = (
    Check("identical", "pairs with identical answers", compares=True),
    Check(
        "similar",
        f"pairs whose answers share at least {MOST_SIMILAR:.0%} of their words",
        compares=True,
    ),
    Check(
        "scores",
        "pairs with a missing score, or a chosen score that is not higher",
        of_answers="answers with a missing score",
    ),
    Check(
        "contradictions",
        "pairs and labels that contradict another pair or label of the same prompt and text",
        compares=True,
    ),
    Check("empty", "pairs with an empty answer", of_answers="empty answers"),
    Check(
        "template",
        "pairs with control tokens of a chat template in their texts",
        of_answers="prompts and answers with control tokens of a chat template",
    ),
    Check("splits", "prompts in both train and test (same id, or same words of the user)"),
    Check(
        "evaluation",
        f"prompts that share {RUN} consecutive words, or a short question, with an evaluation set",
    ),
    Check(
        "truncated",
        f"answers cut off by the token limit (at most {MOST_TRUNCATED:.0%} allowed)",
        MOST_TRUNCATED,
    ),
    Check("license", "prompts without a license"),
    Check("secrets", "texts with keys, tokens, or passwords"),
    Check(
        "personal",
        "texts with e-mail or IP addresses, or telephone, bank, card, or identity numbers",
    ),
    Check("paths", "texts with a local path of the publisher's machine, or a home folder"),
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


def examine(
    views: Views,
    folder: Path,
    control_tokens: Sequence[str] = (),
    evaluation: Sequence[Path] = (),
    places: Sequence[str] = (),
    documents: Mapping[str, Any] | None = None,
    configs: Sequence[Config] = CONFIGS,
) -> list[Finding]:
    """Run all pre-publish checks on a dataset folder, and return one result per check.

    `views` are the views of the folder (`open_views`), `control_tokens` the control tokens of the
    recipe's models, `evaluation` the files of evaluation sets, and `places` the local paths that no
    text may contain. `documents` has the content of files that are not in the folder yet, and
    `configs` the configurations that the dataset can have. Raises PublishError if an evaluation
    file cannot be read.
    """
    has_pairs = all(config.query != ANSWERS for config in configs)
    checks = [
        check if has_pairs else replace(check, what=check.of_answers or check.what)
        for check in CHECKS
        if has_pairs or not check.compares
    ]
    _prepare(views, folder, control_tokens, evaluation, configs)
    hits = _scan(folder, places, documents or {})
    hidden = {_bare(hit.value)[:_SHARED] for _, hit in hits}
    findings = []
    for check in checks:
        if check.name in SCANS:
            finding = _scan_finding(check, hits)
        else:
            looked = check.name != "evaluation" or len(evaluation) > 0
            finding = _finding(views, check, looked=looked)
        findings.append(replace(finding, rows=[_without(row, hidden) for row in finding.rows]))
    return findings


def _scan(
    folder: Path, places: Sequence[str], documents: Mapping[str, Any]
) -> list[tuple[Text, Hit]]:
    """Scan every text of the folder and of the documents, and return what was found where."""
    scanner = Scanner(places)
    texts = [texts_in(folder, {config.folder: config.name for config in CONFIGS})]
    texts += [of_document(name, content) for name, content in documents.items()]
    return [(text, hit) for each in texts for text in each for hit in scanner.scan(text.text)]


def _scan_finding(check: Check, hits: Sequence[tuple[Text, Hit]]) -> Finding:
    rows: dict[tuple[str, str, str], str] = {}
    for text, hit in hits:
        if hit.check == check.name:
            rows.setdefault((text.config, text.id, text.column), hit.masked)
    listed = [
        {"config": config, "id": id_, "what": f"{column}: {what}" if column else what}
        for (config, id_, column), what in sorted(rows.items())
    ]
    return Finding(check.name, check.what, len(rows), listed[:SHOWN], len(rows) > 0)


_SHARED = 10
"""Number of letters and digits that a shown text shares with a secret before it is hidden."""


def _bare(text: str) -> str:
    return re.sub(r"[\W_]+", "", plain(text).lower())


def _without(row: dict[str, Any], hidden: set[str]) -> dict[str, Any]:
    """Return a row without its text if it contains the start of a secret or of personal data."""
    if "… (" in row["what"] or not any(value in _bare(row["what"]) for value in hidden if value):
        return row
    return {**row, "what": "(a text with a secret, personal data, or a local path)"}


def _prepare(
    views: Views,
    folder: Path,
    control_tokens: Sequence[str],
    evaluation: Sequence[Path],
    configs: Sequence[Config],
) -> None:
    # Skip control tokens that are plain words, because ordinary texts contain them.
    marks = [token for token in control_tokens if len(token) > 2 and not token[0].isalnum()]
    tables = {
        "control_tokens": {"token": sorted({*CONTROL_TOKENS, *marks})},
        "evaluation": {"text": pa.array([*texts_of(evaluation)], pa.string())},
    }
    for name, columns in tables.items():
        views.register(name, pa.table(columns))
    rows = {"export/dataset": "publish/gate_pairs", ANSWERS: "publish/gate_answers"}
    (query,) = {rows[config.query] for config in configs if config.query in rows}
    files = " union all ".join(
        f"select '{config.name}' as config, *, "
        f"parse_filename(filename).split('-')[1] as split "
        f"from {read_parquet_folder(folder / config.folder, '*.parquet', 'filename = true')}"
        for config in configs
        if config.query in rows and any((folder / config.folder).glob("*.parquet"))
    )
    views.define("pair_files", files)
    # Materialize the texts, so that they are trimmed once for all checks.
    views.create_table("gate_pairs", load_query(query))
    views.create_table("gate_prompts", load_query("publish/gate_prompts"))
    labels = read_parquet_folder(folder / "kto", "*.parquet")
    has_labels = any((folder / "kto").glob("*.parquet"))
    views.define("kto_files", f"from {labels}" if has_labels else _NO_LABELS)


_NO_LABELS = (
    "select '' as prompt_id, '' as sample_id, [{'content': ''}] as completion, true as label "
    "limit 0"
)
"""The view `kto_files` of a dataset without labels."""

_PARAMETERS: dict[str, Value] = {
    "run": RUN,
    "most_similar": MOST_SIMILAR,
    "control_pattern": CONTROL_PATTERN,
    "min_words": MIN_WORDS,
    "min_words_of_text": MIN_WORDS_OF_TEXT,
}
"""Values of the parameters in the checks' queries."""


def _finding(views: Views, check: Check, *, looked: bool) -> Finding:
    query = load_query(f"publish/check_{check.name}")
    values = {name: value for name, value in _PARAMETERS.items() if name in query.parameters}
    views.create_table("found", query, **values)
    rows = views.all(f"from found limit {SHOWN}")
    n = views.all("select count(*) as n from found")[0]["n"]
    is_bad = n > 0
    if check.most:
        answers = "select count(chosen_id) + count(rejected_id) as n from gate_pairs"
        is_bad = n > check.most * views.all(answers)[0]["n"]
    return Finding(check.name, check.what, n, rows, is_bad, looked)


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
