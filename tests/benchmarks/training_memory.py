"""Peak memory of trainings with TRL, compared with the estimate of `factory doctor`.

    python tests/benchmarks/training_memory.py MODEL,METHOD,LORA,BATCH,LENGTH …

MODEL is `135m` or `1b`: a Llama with random bfloat16 weights and the dimensions of SmolLM2-135M or
Llama-3.2-1B. METHOD is `dpo` or `sft`. LORA is 1 for an adapter of rank 16 on all linear layers, or
0 for all weights. Each training makes two steps on answers that fill LENGTH tokens.

On a GPU, the peak is torch's max_memory_allocated. On a CPU, it is the peak of the process, so give
only one training per process, and run it a second time: the first run also creates the model.
"""

import gc
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from factory.plan.weights import activation_bytes, training_bytes, weigh
from factory.recipe import Model, Train
from factory.train import Job, run_job

M0 = Path(__file__).resolve().parents[2] / "recipes" / "quickstart" / "m0"
SHAPES = {
    "135m": {
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "vocab_size": 49152,
    },
    "1b": {
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
        "vocab_size": 128256,
    },
}
ON_GPU = torch.cuda.is_available()


def make_model(name: str) -> Path:
    """Create a model with random weights, unless an earlier call created it."""
    folder = Path(tempfile.gettempdir()) / f"training-memory-{name}"
    if not (folder / "tokenizer.json").exists():
        torch.manual_seed(0)
        config = LlamaConfig(**SHAPES[name], tie_word_embeddings=True)
        with torch.device("cuda" if ON_GPU else "cpu"):
            LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
        AutoTokenizer.from_pretrained(M0).save_pretrained(folder)
    return folder


def write_rows(file: Path, method: str, length: int) -> None:
    """Write eight rows whose answers have at least `length` tokens."""
    per_letter = len(AutoTokenizer.from_pretrained(M0)("abcdefgh" * 8)["input_ids"]) / 64
    n = int((length + 64) / per_letter)
    rows = []
    for place in range(8):
        text = ("abcdefgh"[place:] + "abcdefgh"[:place]) * n
        prompt = [{"role": "user", "content": "Copy the letters of abcd."}]
        chosen, rejected = (
            [{"role": "assistant", "content": answer[:n]}] for answer in (text, text[::-1])
        )
        rows.append(
            {"prompt": prompt, "chosen": chosen, "rejected": rejected}
            if method == "dpo"
            else {"prompt": prompt, "completion": chosen}
        )
    pq.write_table(pa.Table.from_pylist(rows), file)


def measure(name: str, method: str, lora: bool, batch: int, length: int) -> None:
    model, folder = make_model(name), Path(tempfile.mkdtemp())
    write_rows(folder / "data.parquet", method, length)
    fields = {"max_steps": 2, "per_device_train_batch_size": batch, "max_length": length}
    spec = Train.model_validate({method: fields, "lora": {} if lora else None})
    adapter = {"r": 16, "target_modules": "all-linear"} if lora else None
    if ON_GPU:
        torch.cuda.reset_peak_memory_stats()
    began = time.monotonic()
    run_job(Job(method, str(model), "bfloat16", fields, 1e9, lora=adapter), folder)
    if ON_GPU:
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    weights = weigh(Model(path=str(model)), model, "model", spec)
    assert weights is not None
    estimate = training_bytes(spec, method, weights)
    estimate += activation_bytes(spec, method, weights, on_cpu=not ON_GPU)
    print(
        f"{name:>4} {method} {'adapter' if lora else 'full':7} batch {batch:2} length {length:4} "
        f"peak {peak / 1e9:5.2f} GB, estimate {estimate / 1e9:5.2f} GB, "
        f"{time.monotonic() - began:.0f} s",
        flush=True,
    )


def main() -> None:
    warnings.simplefilter("ignore")
    for word in sys.argv[1:]:
        name, method, lora, batch, length = word.split(",")
        measure(name, method, lora == "1", int(batch), int(length))
        gc.collect()


if __name__ == "__main__":
    main()
