"""The factory's cost over raw offline vLLM: `python tests/benchmarks/overhead.py [REQUESTS]`.

The quickstart's model answers the same requests twice: by `LLM.chat`, given one batch of
everything, and by a `samples` step of the factory, from its start to its last shard on disk.
Alternating, three times each, engines already loaded. Limits on the answers vary a lot by
themselves: the model is asked at a high temperature. Prints the wall ratio, and the factory's own
CPU time (this process's, during the step) as a share of the engine's.
"""

import json
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart"
ARGUMENTS = {"enforce_eager": True, "max_model_len": 256, "max_num_seqs": 256}
ROUNDS = 3
LONGEST = 96


def prompts(n: int) -> list[str]:
    """Prompts that differ: the number of each, in letters."""
    words = ("".join(chr(97 + n_th // 26**k % 26) for k in range(6)) for n_th in range(n))
    return [f"Copy the letters of {word}." for word in words]


def cpu_of_group(pid: int) -> float:
    """CPU seconds of the processes of a group so far."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == pid:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def factory_round(folder: Path, texts: list[str], fleet_of, seed: int) -> dict[str, float]:
    from factory.lake import Lake
    from factory.plan import Step
    from factory.progress import Silent
    from factory.recipe import load_recipe
    from factory.survey import Survey
    from factory.work import generate, make_prompts

    (folder / "prompts.jsonl").write_text("\n".join(json.dumps({"prompt": t}) for t in texts))
    recipe = {
        "name": "bench",
        "seed": seed,
        "model": str(QUICKSTART / "m0"),
        "prompts": {"files": ["prompts.jsonl"], "test_fraction": 0.0},
        "loop": {"iterations": 1, "policy": "self_rewarding"},
        "sampling": {"draws": 4, "temperature": 1.5, "top_p": 1.0, "max_tokens": LONGEST},
        "engine": {"name": "vllm", **ARGUMENTS},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    survey = Survey(load_recipe(folder / "recipe.yaml"), Lake(folder / f"lake-{seed}"))
    make_prompts(survey, survey.look(Step("prompts", role="loop")), Silent())
    survey.look(Step("prompts", role="loop"))
    fleet = fleet_of(survey)
    engine_pid = fleet._workers[0]._process.pid
    engine = cpu_of_group(engine_pid)
    own, began = time.process_time(), time.monotonic()
    found = survey.look(Step("samples", 0, "current", "M_0"))
    generate(survey, [found], fleet, Silent())
    wall, own = time.monotonic() - began, time.process_time() - own
    engine = cpu_of_group(engine_pid) - engine
    found = survey.look(Step("samples", 0, "current", "M_0"))
    assert found.done
    return {"wall": wall, "own": own, "engine": engine, "tokens": found.tokens}


def raw_engine():
    import vllm

    return vllm.LLM(
        str(QUICKSTART / "m0"),
        dtype="float32",
        generation_config="vllm",
        enable_chunked_prefill=False,
        **ARGUMENTS,
    )


def raw_round(llm, texts: list[str], seed: int) -> dict[str, float]:
    from vllm import SamplingParams

    conversations = [[{"role": "user", "content": text}] for text in texts]
    settings = [
        SamplingParams(
            n=4, temperature=1.5, top_p=1.0, max_tokens=LONGEST, seed=seed * 100_000 + 16 * place
        )
        for place in range(len(texts))
    ]
    began = time.monotonic()
    outputs = llm.chat(conversations, settings, use_tqdm=False)
    wall = time.monotonic() - began
    tokens = sum(len(part.token_ids) for output in outputs for part in output.outputs)
    return {"wall": wall, "tokens": tokens}


def main() -> None:
    from factory.engines import vllm as engine
    from factory.engines.processes import open_fleet
    from factory.engines.worker import Start

    texts = prompts(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        opened = []

        def fleet_of(survey):
            if not opened:
                settings = survey.recipe.engine
                start = Start(settings, (survey.models["M_0"],), 0, folder)
                fleet = open_fleet(start, engine.environments(settings), folder / "logs")
                opened.append((fleet, fleet.__enter__()))
            return opened[0][1]

        llm = raw_engine()
        raw_round(llm, texts[:64], 0)
        factory_round(folder, texts[:64], fleet_of, 1)
        raws, ours = [], []
        for place in range(ROUNDS):
            raws.append(raw_round(llm, texts, place + 2))
            ours.append(factory_round(folder, texts, fleet_of, place + 2))
            print(f"  raw {raws[-1]}, factory {ours[-1]}", flush=True)
        opened[0][0].__exit__(None, None, None)
    raw = statistics.median(one["tokens"] / one["wall"] for one in raws)
    mine = statistics.median(one["tokens"] / one["wall"] for one in ours)
    share = statistics.median(one["own"] / one["engine"] for one in ours)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(texts):,} requests of 4 draws, up to {LONGEST} tokens each")
    print(f"raw LLM.chat, one batch    {raw:,.0f} tokens/s")
    print(f"factory, start to shards   {mine:,.0f} tokens/s, wall {raw / mine:.3f} of raw's")
    print(f"factory's own CPU          {share:.1%} of the engine's (wanted: under 5 %)")
    print(f"peak memory of this process, raw vLLM's front end included: {peak:,.0f} MB")


if __name__ == "__main__":
    main()
