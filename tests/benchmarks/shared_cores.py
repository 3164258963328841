"""Measure how generation and training on a CPU slow down beside other processes.

    python tests/benchmarks/shared_cores.py MODEL_FOLDER [KIND ...]

KIND is `generate` (with transformers), `train`, or `vllm` (generation with vLLM).

Compares two ways in which an idle thread waits: it spins, which is OpenMP's default, or it sleeps,
which the factory sets (`factory/engines/threads.py`). The other processes are endless loops, or a
second copy of the same work. Every line gives the seconds and their ratio to spinning alone.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

WAYS = {"spin": {}, "sleep": {"OMP_WAIT_POLICY": "passive"}}
LIMIT = 100
"""Seconds after which a measurement stops."""


KINDS = ("generate", "train", "vllm")


def work(folder: str, kind: str) -> None:
    """Generate, or train for two steps, twice, and print the mean of the seconds."""
    step = vllm_step(folder) if kind == "vllm" else torch_step(folder, kind)
    step()
    start = time.perf_counter()
    step()
    step()
    print("seconds:", (time.perf_counter() - start) / 2)


def vllm_step(folder: str) -> Callable[[], object]:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    from vllm import LLM, SamplingParams

    model = LLM(folder, dtype="bfloat16", enforce_eager=True, max_model_len=512)
    sampling = SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True)
    prompts = ["Tell me about the sea."] * 8
    return lambda: model.generate(prompts, sampling, use_tqdm=False)


def torch_step(folder: str, kind: str) -> Callable[[], object]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    prompts = tokenizer(["Tell me about the sea."] * 8, return_tensors="pt", padding=True)
    tokens = torch.randint(0, model.config.vocab_size, (2, 256))

    def step() -> None:
        if kind == "generate":
            model.generate(**prompts, max_new_tokens=40, min_new_tokens=40, do_sample=False)
        else:
            for _ in range(2):
                model(input_ids=tokens, labels=tokens).loss.backward()

    return step


def measure(folder: str, kind: str, way: str, loops: int, copies: int) -> float | None:
    """Return the slowest copy's seconds, or None after the limit."""
    environment = {**os.environ, **WAYS[way]}
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
        for _ in range(loops)
    ]
    command = [sys.executable, __file__, folder, "--work", kind]
    runs = [
        subprocess.Popen(
            command,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(copies)
    ]
    try:
        said = [run.communicate(timeout=LIMIT)[0] for run in runs]
        return max(float(text.rpartition("seconds:")[2].split()[0]) for text in said)
    except subprocess.TimeoutExpired:
        return None
    finally:
        for process in [*busy, *runs]:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # vLLM starts processes of its own
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("kinds", nargs="*", default=["generate", "train"], choices=KINDS)
    parser.add_argument("--work", choices=KINDS)
    options = parser.parse_args()
    if options.work:
        work(options.folder, options.work)
        return
    for kind in options.kinds:
        alone = measure(options.folder, kind, "spin", 0, 1)
        for title, loops, copies in (
            ("alone", 0, 1),
            ("beside 1 loop", 1, 1),
            ("beside 2 loops", 2, 1),
            ("beside a copy", 0, 2),
        ):
            for way in WAYS:
                seconds = measure(options.folder, kind, way, loops, copies)
                ratio = f"{seconds:6.1f} s {seconds / alone:5.1f}" if seconds else f"> {LIMIT} s"
                print(f"{kind:9} {title:15} {way:6} {ratio}", flush=True)


if __name__ == "__main__":
    main()
