"""Benchmark of the command's start: `--help`, `plan`, the quickstart, and an up-to-date run.

    python tests/benchmarks/start.py

It prints the best and the median wall time of several processes.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPE = "recipes/quickstart/recipe.yaml"
FACTORY = [sys.executable, "-m", "factory.cli"]


def seconds(*args: str) -> float:
    began = time.perf_counter()
    subprocess.run([*FACTORY, *args], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - began


def show(title: str, limit: str, *args: str, times: int = 7) -> None:
    taken = [seconds(*args) for _ in range(times)]
    print(
        f"{title:<42} best {min(taken):5.2f} s, median {statistics.median(taken):5.2f} s "
        f"(target: {limit})",
        flush=True,
    )


def main() -> None:
    bare = [sys.executable, "-c", "pass"]
    began = time.perf_counter()
    subprocess.run(bare, check=True)
    print(f"{'python -c pass':<42} {time.perf_counter() - began:10.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        lake = ["--lake", folder + "/lake"]
        show("factory --help", "under 0.4 s", "--help")
        show("factory plan, empty lake", "under 1.5 s", "plan", RECIPE, *lake)
        print("running the quickstart …", flush=True)
        show("factory run, empty lake", "under 120 s", "run", RECIPE, *lake, times=1)
        show("factory plan, up to date", "under 1.5 s", "plan", RECIPE, *lake)
        show("factory run, up to date", "under 2 s", "run", RECIPE, *lake)


if __name__ == "__main__":
    main()
