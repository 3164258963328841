"""What the pre-publish scanner misses, what it reports in real texts, and how fast it is.

    python tests/benchmarks/scan.py [FOLDER]

FOLDER has `.jsonl` and `.jsonl.gz` files. Each string in them is a text. The script lists what it
reports there, masked, so that a person can judge which reports are false. With `--show`, it prints
the text around each report.
"""

import gzip
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from planted import CLEAN, HERE, PATHS, PERSONAL, SECRETS

from factory.publish import Scanner


def strings(value: Any) -> Iterator[str]:
    """Yield all strings in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def real_texts(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the name of the file and the text of each string in the folder."""
    for file in sorted(folder.iterdir()):
        if file.name.endswith((".jsonl", ".jsonl.gz")):
            opened = gzip.open if file.suffix == ".gz" else open
            with opened(file, "rt", encoding="utf-8") as lines:
                for line in lines:
                    for text in strings(json.loads(line)):
                        yield file.name, text


def measure_planted(scanner: Scanner) -> None:
    """Print how many planted texts pass, and how many clean texts are reported."""
    for check, planted in (("secrets", SECRETS), ("personal", PERSONAL), ("paths", PATHS)):
        missed = [
            name
            for name, text in planted.items()
            if check not in {hit.check for hit in scanner.scan(f"so: {text} .")}
        ]
        print(f"{check:9} {len(planted)} planted, {len(missed)} pass {', '.join(missed)}".rstrip())
    reported = sum(len(scanner.scan(text)) > 0 for text in CLEAN)
    print(f"clean     {len(CLEAN)} texts, {reported} reported")


def measure_real(folder: Path, show: bool) -> None:
    """Print what is reported in the texts of a folder, and the time that it takes."""
    texts = list(real_texts(folder))
    scanner = Scanner([HERE])
    scanner.scan("mailto:a@b.org +1 415 555 2671 token=abcdefgh12345678 é")  # loads the libraries
    started = time.process_time()
    hits = [(name, text, scanner.scan(text)) for name, text in texts]
    seconds = time.process_time() - started
    for name, text, found in hits:
        for hit in found:
            place = text.find(hit.value)
            print(f"  {name}  {hit.masked}", repr(text[max(0, place - 40) :][:90]) if show else "")
    n = sum(len(found) > 0 for _, _, found in hits)
    size = sum(len(text) for _, text in texts)
    print(f"{n} of {len(texts):,} texts reported, {1000 * n / len(texts):.2f} per 1,000")
    print(
        f"{len(texts) / seconds:,.0f} texts/s on one core ({size / len(texts):.0f} characters each)"
    )


if __name__ == "__main__":
    folders = [each for each in sys.argv[1:] if each != "--show"]
    measure_planted(Scanner([HERE]))
    for each in folders:
        measure_real(Path(each), "--show" in sys.argv)
