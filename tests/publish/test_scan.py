"""Tests of the scanner: it finds planted secrets, personal data, and paths, and no clean texts."""

import ast
import time
from pathlib import Path

import pytest
from planted import CLEAN, GITHUB, HERE, PATHS, PERSONAL, SECRETS

import factory
from factory.publish import Scanner

ROOT = Path(factory.__file__).parent
READINGS = "factory.publish.readings"

PLANTED = [
    pytest.param(check, text, id=f"{check}: {name}")
    for check, texts in (("secrets", SECRETS), ("personal", PERSONAL), ("paths", PATHS))
    for name, text in texts.items()
]
AROUND = ["{}", "so: {} .", "Sure! Here it is:\n{}\nTell me if you need more."]


@pytest.fixture(scope="module")
def scanner():
    return Scanner([HERE])


@pytest.mark.parametrize(("check", "text"), PLANTED)
def test_what_is_planted_is_found(scanner, check, text):
    for around in AROUND:
        hits = scanner.scan(around.replace("{}", text))
        assert check in {hit.check for hit in hits}
        for hit in hits:
            assert hit.value not in hit.masked
            assert hit.value not in repr(hit)


@pytest.mark.parametrize("text", CLEAN)
def test_clean_texts_pass(scanner, text):
    assert [hit.kind for hit in scanner.scan(text)] == []


def test_there_are_enough_texts():
    assert len(SECRETS) >= 70
    assert len(PERSONAL) + len(PATHS) >= 62
    assert len(set(CLEAN)) >= 100


def test_a_secret_is_reported_once(scanner):
    (hit,) = scanner.scan(f"{GITHUB} and again {GITHUB}")
    assert (hit.kind, hit.masked) == ("GitHub token", "GitHub token: ghp_… (40 characters)")


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", ["a", "1 ", "a_", "/home", "@a.", "a1-", "<b>", "%41", "://a:", "é"]
)
def test_long_texts_are_scanned_in_linear_time(scanner, part):
    times = []
    for size in (50_000, 200_000):
        started = time.process_time()
        scanner.scan(part * (size // len(part)))
        times.append(time.process_time() - started)
    assert times[1] < max(8 * times[0], 0.5)


LIBRARIES = {"detect_secrets", "phonenumbers", "stdnum", "confusable_homoglyphs"}
FINDERS = {f"factory.publish.{name}" for name in ("secrets", "personal", "places", "readings")}


def test_only_the_scanner_imports_the_finders_and_it_imports_the_libraries_when_it_scans():
    """So each text is scanned in all its readings, and commands start fast."""
    for file in ROOT.rglob("*.py"):
        content = file.read_text()
        if not any(name in content for name in LIBRARIES | FINDERS):
            continue
        tree = ast.parse(content)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in FINDERS - {READINGS}:
                assert file.name == "scan.py", file
            if isinstance(node, ast.Import):
                modules = {each.name.split(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules = {(node.module or "").split(".")[0]}
            else:
                continue
            if modules & LIBRARIES:
                assert file.name in ("secrets.py", "personal.py", "readings.py"), file
                assert node not in tree.body, file
