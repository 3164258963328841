"""Benchmark of the factory's overhead over raw offline vLLM.

    python tests/benchmarks/overhead.py [KIND] [PROMPTS]

The quickstart's model answers the same sampling and judging requests twice: with `LLM.chat` in a
separate process, and in the factory's steps, measured from the start of a step until its last shard
is on disk. The two alternate for three rounds, with engines loaded beforehand. A high temperature
makes the lengths of the answers vary.

KIND is `base`, `adapter` (every request uses a LoRA adapter of rank 16), or `merged` (the same
adapter, merged into the weights). With VLLM_CPU_OMP_THREADS_BIND=0 the engine uses only one core,
which leaves the others to the factory, as with an engine on a GPU.
"""

import json
import multiprocessing
import os
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

QUICKSTART = Path(__file__).resolve().parents[2] / "recipes" / "quickstart"
ARGUMENTS = {"enforce_eager": True, "max_model_len": 256, "max_num_seqs": 256}
LORA = {"enable_lora": True, "max_lora_rank": 16, "max_loras": 3}
ROUNDS = 3
DRAWS = 2
LONGEST = 96
SLICE = 256
"""Number of requests per call in the rounds that give raw vLLM one slice after the other."""
KINDS = ("base", "adapter", "merged")


def prompts(n: int) -> list[str]:
    """Return n different prompts. Each contains its own number, written in letters."""
    words = ("".join(chr(97 + n_th // 26**k % 26) for k in range(6)) for n_th in range(n))
    return [f"Copy the letters of {word}." for word in words]


def cpu_of_group(pid: int) -> float:
    """Return the CPU seconds that the processes of a process group have used."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == pid:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def make_adapter(folder: Path) -> tuple[Path, Path]:
    """Create a LoRA adapter with small weights, and a model with the adapter merged into it."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(QUICKSTART / "m0")
    config = peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
    adapted = peft.get_peft_model(model, config)
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.002)
    adapted.save_pretrained(folder / "adapter")
    adapted.merge_and_unload().save_pretrained(folder / "merged")
    AutoTokenizer.from_pretrained(QUICKSTART / "m0").save_pretrained(folder / "merged")
    return folder / "adapter", folder / "merged"


# Raw vLLM


def raw_vllm(connection: Any, model: str, adapter: str | None) -> None:
    """Answer lists of requests until the process is killed."""
    os.setsid()
    import vllm
    from vllm.lora.request import LoRARequest

    llm = vllm.LLM(
        model,
        dtype="float32",
        generation_config="vllm",
        enable_chunked_prefill=False,
        **ARGUMENTS,
        **(LORA if adapter else {}),
    )
    lora = LoRARequest("adapter", 1, adapter) if adapter else None
    connection.send(os.getpid())
    while True:
        requests, at_once = connection.recv()
        cpu, began, tokens = cpu_of_group(os.getpid()), time.monotonic(), 0
        for start in range(0, len(requests), at_once):
            part = requests[start : start + at_once]
            settings = [vllm.SamplingParams(**options) for _, options in part]
            conversations = [messages for messages, _ in part]
            outputs = llm.chat(conversations, settings, use_tqdm=False, lora_request=lora)
            tokens += sum(len(one.token_ids) for output in outputs for one in output.outputs)
        wall = time.monotonic() - began
        connection.send({"wall": wall, "cpu": cpu_of_group(os.getpid()) - cpu, "tokens": tokens})


class Raw:
    def __init__(self, model: Path, adapter: Path | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        given = (theirs, str(model), adapter and str(adapter))
        self._process = context.Process(target=raw_vllm, args=given)
        self._process.start()
        self._group: int = self._connection.recv()

    def ask(self, requests: list[Any], at_once: int) -> dict[str, float]:
        self._connection.send((requests, at_once))
        told: dict[str, float] = self._connection.recv()
        return told

    def close(self) -> None:
        os.killpg(self._group, signal.SIGKILL)  # vLLM's own processes survive an orderly exit
        self._process.join()


def as_raw(request: Any) -> tuple[list[Any], dict[str, Any]]:
    """Convert a request of the factory into messages and sampling parameters for `LLM.chat`."""
    generation = request.generation
    return list(request.messages), {
        "n": len(request.draws),
        "seed": request.seed + request.draws[0],
        "temperature": generation.temperature,
        "top_p": generation.top_p,
        "max_tokens": generation.max_tokens,
    }


# The factory


class Tap:
    """An engine that records its requests."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.name = engine.name
        self.asked: list[Any] = []

    @property
    def version(self) -> str:
        return str(self._engine.version)

    def generate(self, requests: Any) -> Iterator[Any]:
        def noted() -> Iterator[Any]:
            for request in requests:
                self.asked.append(as_raw(request))
                yield request

        return iter(self._engine.generate(noted()))


def write_recipe(folder: Path, model: Path, adapter: Path | None, n_prompts: int) -> Path:
    texts = prompts(n_prompts)
    (folder / "prompts.jsonl").write_text("\n".join(json.dumps({"prompt": t}) for t in texts))
    recipe = {
        "name": "overhead",
        "model": {"path": str(model), "adapter": adapter and str(adapter)},
        "prompts": {"files": ["prompts.jsonl"], "test_fraction": 0.0},
        "loop": {"iterations": 1, "policy": "self_rewarding"},
        "sampling": {"draws": DRAWS, "temperature": 1.5, "top_p": 1.0, "max_tokens": LONGEST},
        "judge": {"draws": 1, "rubric": str(QUICKSTART / "rubric.md"), "max_tokens": 32},
        "train": {"lora": {}},
        "engine": {"name": "vllm", **ARGUMENTS},
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    return path


STAGES = ("samples", "judgments")


def factory_round(recipe: Path, lake: Path, engine: Any, pid: int) -> dict[str, dict[str, float]]:
    """Run sampling and judging on an empty lake, and return the time and tokens of each step."""
    from factory.lake import Lake
    from factory.plan import RecipeState, Step, inspect_step, open_recipe
    from factory.progress import Silent
    from factory.recipe import load_recipe
    from factory.report import usage_of_step
    from factory.run.generate import generate
    from factory.run.tabular import make_prompts

    state = RecipeState.of(open_recipe(load_recipe(recipe), Lake(lake)))
    make_prompts(state, inspect_step(state, Step("prompts", role="loop")), Silent())
    inspect_step(state, Step("prompts", role="loop"))
    took = {}
    for stage in STAGES:
        judging = {"judge": "M_0", "judge_name": "judge"} if stage == "judgments" else {}
        step = Step(stage, 0, "current", "M_0", **judging)
        cpu, own, began = cpu_of_group(pid), time.process_time(), time.monotonic()
        generate(state, [inspect_step(state, step)], engine, Silent())
        wall, own = time.monotonic() - began, time.process_time() - own
        found = inspect_step(state, step)
        assert found.done, f"{step.label} is not done"
        took[stage] = {
            "wall": wall,
            "own": own,
            "cpu": cpu_of_group(pid) - cpu,
            "tokens": usage_of_step(found).tokens,
        }
    return took


def main() -> None:
    from factory.engines import open_engine
    from factory.lake import Lake
    from factory.plan import RecipeState, open_recipe
    from factory.recipe import load_recipe

    words = [word for word in sys.argv[1:] if not word.isdecimal()]
    kind = words[0] if words else "base"
    n_prompts = int(next((word for word in sys.argv[1:] if word.isdecimal()), "2000"))
    assert kind in KINDS, f"got {kind}, expected one of {KINDS}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, adapter = QUICKSTART / "m0", None
        if kind != "base":
            adapter, merged = make_adapter(folder)
            model, adapter = (merged, None) if kind == "merged" else (model, adapter)
        path = write_recipe(folder, model, adapter, n_prompts)
        recipe = load_recipe(path)
        state = RecipeState.of(open_recipe(recipe, Lake(folder / "lake")))
        rank = 16 if adapter else 0
        with open_engine(recipe, [state.models["M_0"]], rank, folder / "logs") as fleet:
            tap = Tap(fleet)
            pid = fleet._workers[0]._child.process.group
            factory_round(path, folder / "warm", tap, pid)
            n_samples = n_prompts
            asked = {"samples": tap.asked[:n_samples], "judgments": tap.asked[n_samples:]}
            raw = Raw(model, adapter)
            raw.ask(asked["samples"][:64], n_prompts)
            measure(path, folder, fleet, pid, raw, asked, kind)
            raw.close()


def measure(
    path: Path, folder: Path, fleet: Any, pid: int, raw: Raw, asked: dict[str, list[Any]], kind: str
) -> None:
    rounds: dict[tuple[str, str], list[dict[str, float]]] = {}
    for place in range(ROUNDS):
        for stage in STAGES:
            rounds.setdefault((stage, "raw"), []).append(raw.ask(asked[stage], len(asked[stage])))
        for stage, took in factory_round(path, folder / f"lake-{place}", fleet, pid).items():
            rounds.setdefault((stage, "factory"), []).append(took)
        if kind == "base":
            for stage in STAGES:
                rounds.setdefault((stage, "slices"), []).append(raw.ask(asked[stage], SLICE))
    print(f"{kind}, vLLM bound to {os.environ.get('VLLM_CPU_OMP_THREADS_BIND', 'all cores')}")
    for stage in STAGES:
        print(f"{stage}: {len(asked[stage]):,} requests, engines loaded, {ROUNDS} rounds")
        base = rate(rounds[stage, "raw"])
        for who in ("raw", "slices", "factory"):
            if (took := rounds.get((stage, who))) is None:
                continue
            walls = ", ".join(f"{one['wall']:.1f}" for one in took)
            cpu = median(one["cpu"] + one.get("own", 0.0) for one in took)
            print(
                f"  {who:<8} {rate(took):>7,.0f} tokens/s, wall time {base / rate(took):.3f} × raw "
                f"({walls} s), CPU time of all processes {cpu:.1f} s"
            )
        share = median(one["own"] / one["cpu"] for one in rounds[stage, "factory"])
        print(f"  the factory's process used {share:.1%} of the engine's CPU time")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the factory's process: {peak:,.0f} MB")


def rate(rounds: list[dict[str, float]]) -> float:
    """Return the median of the rounds' generated tokens per second."""
    return median(one["tokens"] / one["wall"] for one in rounds)


def median(values: Any) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    main()
