"""Run an input of the campaign, and judge the outcome."""

import hashlib
import json
import os
import random
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from campaign.case import Case, Kind, small_toy
from campaign.forks import BUG, Ended, Forks, Order

WANTED = ("refused", "rows", "planned", "stopped", "done")
"""The right outcomes: a sentence and exit code 2 before any work, a finished run whose lake passes
all checks, an accepted plan that was not run, a run that ended with a sentence and exit code 1 or
3, and another command that worked."""

LONGEST, MOST_LINES = 2_000, 20
"""Largest number of characters in a line of an error message, and of its lines."""


@dataclass
class Verdict:
    """The outcome of an input."""

    outcome: str
    """One of WANTED, or the kind of a fault."""
    detail: str = ""
    notes: list[str] = field(default_factory=list)
    cpu: float = 0.0

    @property
    def is_right(self) -> bool:
        return self.outcome in WANTED

    def __str__(self) -> str:
        mutated = "\n  ".join(self.notes)
        text = f"{self.outcome}\n  {mutated}\n{self.detail}"
        return text.encode("utf-8", "backslashreplace").decode()


class _Fault(Exception):
    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(outcome, detail)
        self.outcome = outcome
        self.detail = detail


def check_input(
    kind: str, definition: Kind, number: int, seed: int, forks: Forks, base: Path
) -> Verdict:
    """Create an input in the new folder `base`, run it, and return its outcome."""
    case = make_case(kind, definition, number, seed, forks, base)
    trial = _Trial(case, forks)
    try:
        outcome = trial.run()
    except _Fault as fault:
        return Verdict(fault.outcome, fault.detail, case.notes, trial.cpu)
    return Verdict(outcome, trial.said, case.notes, trial.cpu)


def make_case(
    kind: str, definition: Kind, number: int, seed: int, forks: Forks, base: Path
) -> Case:
    for name in ("home", "tmp"):
        (base / name).mkdir(parents=True)
    (base / "home" / "notes.txt").write_text("a file of the user's\n")
    (base / "notes.txt").write_text("another file of the user's\n")
    rng = random.Random(f"{seed}/{kind}/{number}")
    toy = small_toy(base / "work")
    (toy.folder / "dataset.md").write_text("a file beside the recipe\n")
    case = Case(kind, number, rng, base, toy, forks.finished, definition.runs)
    definition.generate(case)
    return case


class _Trial:
    def __init__(self, case: Case, forks: Forks) -> None:
        self.case = case
        self.forks = forks
        self.cpu = 0.0
        self.said = ""
        self.n_commands = 0

    def run(self) -> str:
        case = self.case
        before = self._snapshot()
        outcome = self._commands() if case.commands else self._recipe()
        if case.must_fail and outcome != "refused":
            raise _Fault("accepted", f"the invalid input was accepted\n{self.said}")
        after = self._snapshot()
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                change = "changed" if name in before and name in after else "appeared"
                change = "vanished" if name not in after else change
                raise _Fault("written outside", f"{name!r} {change}")
        return outcome

    def _commands(self) -> str:
        outcome = "done"
        for command in self.case.commands:
            ended = self._call(command)
            if ended.code == 2:
                outcome = "refused"
            elif ended.code:
                self._expect_stop()
                outcome = "stopped"
        return outcome

    def _recipe(self) -> str:
        case = self.case
        runs = case.rng.random() < case.runs
        recipe = [str(case.toy.path), "--lake", str(case.lake)]
        if self._call(["plan", *recipe]).code == 2:
            self._expect_no_work()
            return "refused"
        if not runs:
            return "planned"
        ended = self._call(["run", *recipe])
        if ended.code == 2:
            self._expect_no_work()
            return "refused"
        if ended.code:
            self._expect_stop()
            return "stopped"
        self._check_lake()
        return "rows"

    def _call(self, command: list[str]) -> Ended:
        """Run a command, and check how it ended."""
        ended = self._order(command)
        shown = " ".join(["factory", *command])[:300]
        said = f"{shown}: exit code {ended.code}\n{ended.err[-3000:]}"
        self.said = said
        if ended.code is None:
            raise _Fault("hang", said)
        if ended.code == BUG or "Traceback (most recent call last)" in ended.err:
            raise _Fault("traceback", said)
        if ended.code < 0:
            raise _Fault("killed", said)
        if ended.code not in (0, 1, 2, 3):
            raise _Fault("exit code", said)
        if ended.code:
            self._check_message(ended, said)
        return ended

    def _check_message(self, ended: Ended, said: str) -> None:
        message = ended.err[ended.err.rfind("factory: ") :] if "factory: " in ended.err else ""
        usage = re.search(r"^Error: (.+)", ended.err, re.MULTILINE)
        if usage and ended.code == 2:
            message = usage[0]
        if len(message.split()) < 5:
            raise _Fault("no sentence", said)
        lines = message.splitlines()
        if len(lines) > MOST_LINES or max(map(len, lines)) > LONGEST:
            raise _Fault("long message", f"{len(message)} characters: {said[:1000]}")
        if odd := [c for c in ended.err + ended.out if not c.isprintable() and c not in "\n\t\r"]:
            raise _Fault("control characters", f"{odd[0]!a} in {said!a}")

    def _expect_stop(self) -> None:
        if not self.case.may_stop:
            raise _Fault("stopped", self.said)

    def _expect_no_work(self) -> None:
        shards = sorted(self.case.lake.glob("samples/*/*.parquet")) if self.case.lake else []
        if shards:
            raise _Fault("late refusal", f"{len(shards)} shards of samples\n{self.said}")

    def _check_lake(self) -> None:
        """Check the invariants of the lake after a finished run."""
        case = self.case
        self._call(["verify", "--lake", str(case.lake)])
        generated = str(case.base / "generated.jsonl") if case.answers_are_words else ""
        prompts = json.dumps(case.toy.fields.get("prompts", {}).get("files", []))
        arguments = [str(case.toy.path), str(case.lake), generated, prompts]
        ended = self._order(arguments, call="campaign.lake_checks:check_lake")
        if ended.code:
            raise _Fault("wrong rows", f"{ended.out[-2000:]}{ended.err[-2000:]}\n{self.said}")

    def _order(self, arguments: list[str], call: str = "") -> Ended:
        case = self.case
        self.n_commands += 1
        environment = {
            "HOME": str(case.base / "home"),
            "TMPDIR": str(case.base / "tmp"),
            "CAMPAIGN_GENERATED": str(case.base / "generated.jsonl"),
            "COLUMNS": "120",
            **({} if call else case.environment),
        }
        order = Order(
            arguments,
            str(case.cwd),
            str(case.base.parent / f"{case.base.name}.{self.n_commands}"),
            environment,
            call,
            "" if call else case.around or "campaign.lake_checks:record_answers",
            {} if call else case.limits,
            case.is_fresh and not call,
            case.preload,
        )
        ended = self.forks.run(order)
        self.cpu += ended.cpu
        return ended

    def _snapshot(self) -> dict[str, object]:
        """Return what is in the folder of the input, except for the lake and the outputs."""
        case = self.case
        own = {os.path.abspath(path) for path in (case.lake, *case.outs) if path}  # noqa: PTH100
        own.add(str(case.base / "generated.jsonl"))
        found: dict[str, object] = {}

        def look(folder: str) -> None:
            for entry in os.scandir(folder):
                if entry.path in own or entry.name == "__pycache__":
                    continue
                name = os.path.relpath(entry.path, case.base)
                if entry.is_symlink():
                    found[name] = os.readlink(entry.path)  # noqa: PTH115
                elif entry.is_dir():
                    found[name] = "folder"
                    if os.access(entry.path, os.R_OK | os.X_OK):
                        look(entry.path)
                elif entry.is_file():
                    found[name] = _digest(Path(entry.path))
                else:
                    found[name] = "special"

        look(str(case.base))
        return found


def _digest(path: Path) -> str:
    if path.stat().st_size > 10_000_000 or not os.access(path, os.R_OK):
        return str(path.stat().st_size)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def remove(base: Path) -> None:
    """Remove the folder of an input, and the output of its commands."""
    for path in [base, *base.parent.glob(f"{base.name}.*")]:
        if path.is_dir():
            shutil.rmtree(path, onerror=lambda *_: None)
        else:
            path.unlink()
