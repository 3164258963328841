"""How long a person waits for the command itself: `--help`, `plan`, and a run with nothing to do.

    python tests/benchmarks/start.py

Prints the best and the median of several starts, each in a process of its own.
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
        f"(wanted: {limit})",
        flush=True,
    )


def main() -> None:
    bare = [sys.executable, "-c", "pass"]
    began = time.perf_counter()
    subprocess.run(bare, check=True)
    print(f"{'python itself':<42} {time.perf_counter() - began:10.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        lake = ["--lake", folder + "/lake"]
        show("factory --help", "under 0.4 s", "--help")
        show("factory plan, nothing held", "under 1.5 s", "plan", RECIPE, *lake)
        print("running the quickstart …", flush=True)
        show("factory run, everything to do", "under 120 s", "run", RECIPE, *lake, times=1)
        show("factory plan, everything held", "under 1.5 s", "plan", RECIPE, *lake)
        show("factory run, nothing to do", "under 2 s", "run", RECIPE, *lake)


if __name__ == "__main__":
    main()
