"""Benchmark of memory and time per request for increasing numbers of prompts.

    python tests/benchmarks/growth.py

It runs sampling and judging with the scripted engine on 1,000, 10,000, and 25,000 prompts (4,000,
40,000, and 100,000 answers, with one judgment each) in separate processes. It prints peak memory
and the time per request, including the start of the process.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

CHILD = """
import resource, sys, time
from pathlib import Path
from factory.lake import Lake
from factory.progress import Silent
from factory.recipe import load_recipe
from factory.plan import open_recipe, steps
from factory.run.loop import _run

folder = Path(sys.argv[1])
recipe = load_recipe(folder / "recipe.yaml")
until = {"samples": ("prompts", "samples"), "judgments": ("prompts", "samples", "judgments")}
for stage, before in until.items():
    wanted = [step for step in steps(recipe) if step.stage in before and step.name in ("", "M_0")]
    began = time.perf_counter()
    state = _run(open_recipe(recipe, Lake(folder / "lake")), wanted, None, Silent())
    seconds = time.perf_counter() - began
    done = sum(found.answered for step, found in state.steps.items() if step.stage == stage)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(done, seconds, peak)
"""

RECIPE = """
name: growth
model: m0
prompts: {files: [prompts.jsonl], test_fraction: 0}
loop: {policy: self_rewarding, iterations: 1}
sampling: {draws: 4, max_tokens: 64}
judge: {draws: 1, max_tokens: 64}
train: {with: scripted}
engine: {name: scripted}
"""


def measure(n_prompts: int) -> list[tuple[int, float, float]]:
    """Return answers, seconds, and peak memory so far in MB, for sampling and for judging."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "m0").mkdir()
        (folder / "m0" / "scripted.json").write_text("{}")
        (folder / "recipe.yaml").write_text(RECIPE)
        with (folder / "prompts.jsonl").open("w") as file:
            for i in range(n_prompts):
                prompt = f"Question {i}: " + "tell me about rivers and hills. " * 10
                file.write(json.dumps({"prompt": prompt}) + "\n")
        command = [sys.executable, "-c", CHILD, name]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
    stages = [line.split() for line in ran.stdout.splitlines()]
    return [(int(done), float(seconds), float(peak)) for done, seconds, peak in stages]


def main() -> None:
    print("prompts   stage       requests     µs/request   peak memory   relative to 1,000 prompts")
    first: list[tuple[int, float, float]] = []
    for n_prompts in (1_000, 10_000, 25_000):
        stages = measure(n_prompts)
        first = first or stages
        for name, now, then in zip(("sampling", "judging"), stages, first, strict=True):
            (done, seconds, peak), (done_1, seconds_1, peak_1) = now, then
            print(
                f"{n_prompts:7,}   {name:<9} {done:10,} {seconds / done * 1e6:14.0f} "
                f"{peak:10.0f} MB   memory {peak / peak_1:.2f}, "
                f"cost {seconds / done * done_1 / seconds_1:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
