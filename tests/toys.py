"""Small recipes for the tests, with the scripted engine or with the quickstart's model."""

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import yaml

from factory.lake import Lake
from factory.plan import read_state
from factory.progress import Silent
from factory.publish import Published, PublishOptions, write_folder
from factory.recipe import load_recipe
from factory.run import run_recipe

GOLD = "def grade(rows):\n    return [float(len(row['answer']) % 6) for row in rows]\n"


class Toy:
    """A recipe in its own folder, by default with the scripted engine and trainer."""

    finished_lakes: ClassVar[Path]
    """Where `finish` keeps the lakes that it copies. All workers of a test session share it."""

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
        """Set fields of the recipe, and write it. The fields of a section are merged into it."""
        for name, value in fields.items():
            held = self.fields.get(name)
            merge = isinstance(held, dict) and isinstance(value, dict)
            self.fields[name] = {**held, **value} if merge else value
        self.path.write_text(yaml.safe_dump(self.fields))

    def script(self, source: str) -> None:
        """Answer with the function `answer(messages, seed)` in the given source code."""
        (self.folder / "script.py").write_text(source)
        self.write(engine={"script": "script.py:answer"})

    def add_probe(self) -> None:
        probe = [json.dumps({"prompt": f"Probe {i}?", "reference": "x"}) for i in range(4)]
        (self.folder / "probe.jsonl").write_text("\n".join(probe))
        self.write(probe={"files": ["probe.jsonl"], "function": "gold.py:grade"})

    def recipe(self, *overrides: str):
        return load_recipe(self.path, list(overrides))

    def run(self, *overrides: str):
        return run_recipe(self.recipe(*overrides), Lake(self.lake), Silent())

    def finish(self, *overrides: str) -> None:
        """Fill the empty lake as `run` and `look` do, for tests about what is done with it later.

        The first call in a test session really runs the recipe. Calls with the same recipe,
        overrides, and files beside it copy that lake.
        """
        assert not self.lake.exists()
        key = hashlib.sha256(repr(overrides).encode())
        for file in sorted(self.folder.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                name = file.relative_to(self.folder).as_posix()
                key.update(repr((name, file.read_bytes())).encode())
        lake = self.finished_lakes / key.hexdigest()
        with lake.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not lake.exists():
                self.run(*overrides)
                self.look(*overrides)
                shutil.copytree(self.lake, lake.with_suffix(".new"))
                lake.with_suffix(".new").rename(lake)
                return
        shutil.copytree(lake, self.lake)

    def look(self, *overrides: str):
        return read_state(self.recipe(*overrides), Lake(self.lake))

    def query(self, text: str, *overrides: str) -> list[dict]:
        from factory.plan import all_views

        return all_views(self.look(*overrides)).con.sql(text).to_arrow_table().to_pylist()

    def to_do(self, *overrides: str) -> set[str]:
        """Return the stages that a run would execute."""
        return {step.stage for step, found in self.look(*overrides).steps.items() if not found.done}

    def shards(self, table: str) -> list[Path]:
        return sorted(self.lake.glob(f"{table}/*/*.parquet"))

    def process(self, *args: str, **options) -> subprocess.Popen:
        """Start the `factory` command in a separate process."""
        command = [sys.executable, "-m", "factory.cli", *args]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )


QUICKSTART = Path(__file__).parents[1] / "recipes" / "quickstart"


def small_recipe(folder: Path) -> Toy:
    """Create a recipe with the quickstart's model and trainer, and with 24 of its prompts."""
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


def publishable(folder, n_prompts=40):
    toy = Toy(folder, n_prompts)
    toy.write(
        prompts={"license": "Apache-2.0", "source": "made up"}, loop={"iterations": 1, "chunks": 2}
    )
    return toy


def write_published(toy, folder, *overrides, **asked):
    folder.mkdir()
    survey = read_state(toy.recipe(*overrides), Lake(toy.lake))
    write_folder(survey, folder, PublishOptions("org/toy", **asked), Published(), Silent())
    return folder
