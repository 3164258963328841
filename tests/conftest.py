"""What the tests share: toy recipes with the scripted engine, and the command line in-process."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# Before torch is imported, here or in the processes that tests start: threads of tests that run
# beside each other would wait for one another most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import yaml

from factory import cli
from factory.lake import Lake
from factory.progress import Silent
from factory.recipe import load_recipe
from factory.run import look_at_all, run

GOLD = "def grade(rows):\n    return [float(len(row['answer']) % 6) for row in rows]\n"


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    def json(self):
        return json.loads(self.out)


class Toy:
    """A recipe in a folder of its own: the scripted engine and trainer unless it says otherwise."""

    def __init__(self, folder: Path, n_prompts: int = 12) -> None:
        self.folder = folder
        self.path = folder / "recipe.yaml"
        self.lake = folder / "lake"
        self.prompts = folder / "prompts.jsonl"
        self.fields = {
            "name": "toy",
            "model": "m0",
            "prompts": {"files": ["prompts.jsonl"], "test_fraction": 0.2},
            "sampling": {"draws": 3, "max_tokens": 64},
            "judge": {"draws": 2, "max_tokens": 64},
            "train": {"with": "scripted"},
            "engine": {"name": "scripted"},
        }
        (folder / "m0").mkdir(parents=True)
        (folder / "m0" / "scripted.json").write_text("{}")
        (folder / "gold.py").write_text(GOLD)
        self.write_prompts(n_prompts)
        self.write()

    def write_prompts(self, n: int) -> None:
        lines = [json.dumps({"prompt": f"Say number {i}.", "reference": str(i)}) for i in range(n)]
        self.prompts.write_text("\n".join(lines) + "\n")

    def write(self, **fields) -> None:
        """Sets fields of the recipe: a section's fields are merged into it."""
        for name, value in fields.items():
            held = self.fields.get(name)
            merge = isinstance(held, dict) and isinstance(value, dict)
            self.fields[name] = {**held, **value} if merge else value
        self.path.write_text(yaml.safe_dump(self.fields))

    def script(self, source: str) -> None:
        """Answers by a function `answer(messages, seed)`."""
        (self.folder / "script.py").write_text(source)
        self.write(engine={"script": "script.py:answer"})

    def add_probe(self) -> None:
        probe = [json.dumps({"prompt": f"Probe {i}?", "reference": "x"}) for i in range(4)]
        (self.folder / "probe.jsonl").write_text("\n".join(probe))
        self.write(probe={"files": ["probe.jsonl"], "function": "gold.py:grade"})

    def recipe(self, *overrides: str):
        return load_recipe(self.path, list(overrides))

    def run(self, *overrides: str):
        return run(self.recipe(*overrides), Lake(self.lake), Silent())

    def look(self, *overrides: str):
        return look_at_all(self.recipe(*overrides), Lake(self.lake))

    def query(self, text: str, *overrides: str) -> list[dict]:
        from factory.export import all_views

        return all_views(self.look(*overrides)).con.sql(text).to_arrow_table().to_pylist()

    def to_do(self, *overrides: str) -> set[str]:
        """The stages that would run."""
        return {step.stage for step, found in self.look(*overrides).found.items() if not found.done}

    def shards(self, table: str) -> list[Path]:
        return sorted(self.lake.glob(f"{table}/*/*.parquet"))

    def process(self, *args: str, **options) -> subprocess.Popen:
        """The real command, in a process of its own."""
        command = [sys.executable, "-m", "factory.cli", *args]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )


@pytest.fixture
def toy(tmp_path) -> Toy:
    return Toy(tmp_path / "toy")


@pytest.fixture
def factory(monkeypatch, capsys):
    """The command line: factory("run", path, …) → its code and what it printed."""

    def call(*args: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["factory", *map(str, args)])
        monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return call


QUICKSTART = Path(__file__).parent.parent / "recipes" / "quickstart"


def small_recipe(folder: Path) -> Toy:
    """The quickstart's real model, engine and trainer on a few of its prompts."""
    toy = Toy(folder / "small")
    prompts = (QUICKSTART / "prompts.jsonl").read_text().splitlines()[:24]
    toy.prompts.write_text("\n".join(prompts))
    quickstart = yaml.safe_load((QUICKSTART / "recipe.yaml").read_text())
    toy.fields = {
        **quickstart,
        "name": "small",
        "model": str(QUICKSTART / "m0"),
        "prompts": {"files": ["prompts.jsonl"], "test_fraction": 0.2},
        "loop": {"iterations": 1},
    }
    toy.fields["judge"]["rubric"] = str(QUICKSTART / "rubric.md")
    toy.fields["sampling"]["draws"] = 3
    toy.fields["probe"] = {
        "files": [str(QUICKSTART / "probe.jsonl")],
        "function": f"{QUICKSTART / 'gold.py'}:grade",
    }
    toy.write()
    return toy


def made_small(folder: Path) -> Toy:
    """The same, run to its end."""
    toy = small_recipe(folder)
    toy.run()
    return toy


@pytest.fixture
def small(tmp_path) -> Toy:
    return small_recipe(tmp_path)
