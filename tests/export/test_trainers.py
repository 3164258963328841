"""Tests that read exports with the trainers' own code, and compare prompt, chosen, and rejected.

The trainers' dependencies conflict with the project's, so `.ci/trainers` installs each trainer into
a separate folder, without its dependencies. A separate process imports the trainer.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from zoo.families import FAMILIES

from factory.export import PAIR_COLUMNS, TRAINERS, export_dataset, open_dataset

transformers = pytest.importorskip("transformers")
datasets = pytest.importorskip("datasets")

pytestmark = pytest.mark.trainers

HERE = Path(__file__).parents[1]
INSTALLED = HERE.parent / ".trainers"

TEMPLATE = """\
{%- for message in messages -%}
<|{{ message.role }}|>{{ message.content }}{%- if message.role == 'assistant' -%}</s>{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""

ASK = [{"role": "user", "content": "When did it happen?"}]
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Größe?"},
    {"role": "assistant", "content": "Ten."},
    {"role": "user", "content": 'Of "what"?\nWho\'s?'},
]
PAIRS = [
    (ASK, "2024-01-01", "2023-01-01"),
    (ASK, "1999-12-31 10:00:00", "2000-01-01 00:00:00"),
    (TALK, "Äpfel 🍏 of {ten} \\n <b>", "Nothing.\nAt all."),
]
"""First texts that look like dates, because `datasets` guesses types from the first rows. Then a
conversation."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return a folder with a byte-level tokenizer, which keeps every text, and a model's config."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("model")
    special = ["<s>", "</s>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*special, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=special[3:],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    transformers.LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=8, num_hidden_layers=1, num_attention_heads=1
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def exported(tmp_path):
    def call(name, pairs=PAIRS):
        rows = [
            {
                **dict.fromkeys(PAIR_COLUMNS.names),
                "prompt": prompt,
                "chosen": [{"role": "assistant", "content": chosen}],
                "rejected": [{"role": "assistant", "content": rejected}],
                "margin": 1.0,
                "prompt_tokens": 300,
                "chosen_tokens": 100,
                "rejected_tokens": 100,
            }
            for prompt, chosen, rejected in pairs
        ]
        data = tmp_path / "set" / "data"
        data.mkdir(parents=True)
        for split, part in (("train", rows), ("test", rows[:1])):
            table = pa.Table.from_pylist(part, schema=PAIR_COLUMNS)
            pq.write_table(table, data / f"{split}-00.parquet")
        export_dataset(open_dataset(tmp_path / "set"), name, tmp_path / "out")
        return tmp_path / "out"

    return call


def read_by(name, out, *args):
    """Return the rows that the trainer's own code reads from an export, in a separate process."""
    installed = INSTALLED / name
    if not installed.is_dir():
        pytest.skip(f"{name} is not installed: .ci/trainers does it")
    script = HERE / "trainers" / f"{name.replace('-', '_')}.py"
    environment = {
        **os.environ,
        "PYTHONPATH": str(installed),
        "HF_HOME": str(out.parent / "hf"),
        "MODELSCOPE_CACHE": str(out.parent / "modelscope"),
        "HF_HUB_OFFLINE": "1",
        "DISABLE_VERSION_CHECK": "1",  # LLaMA-Factory rejects newer packages
        "AXOLOTL_DO_NOT_TRACK": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, script, *map(str, args)],
        cwd=out,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def rendered(prompt, answer):
    turns = [*prompt, {"role": "assistant", "content": answer}]
    texts = [f"<|{t['role']}|>{t['content']}" + "</s>" * (t["role"] == "assistant") for t in turns]
    return "".join(texts)


def as_text(rows):
    return sorted((row["chosen"], row["rejected"]) for row in rows)


WANTED = sorted((rendered(p, chosen), rendered(p, rejected)) for p, chosen, rejected in PAIRS)
HELD_OUT = [(rendered(ASK, "2024-01-01"), rendered(ASK, "2023-01-01"))]


def test_llama_factory(exported, model):
    (made,) = read_by("llama-factory", exported("llama-factory"), model)
    assert as_text(made["train"]) == WANTED
    assert as_text(made["eval"]) == HELD_OUT


def test_axolotl(exported, model):
    (made,) = read_by("axolotl", exported("axolotl"), model)
    assert as_text(made["train"]) == WANTED
    assert as_text(made["eval"]) == HELD_OUT


def openrlhf_options(out):
    """Return the options that the exported script passes to OpenRLHF."""
    tools = out.parent / "tools"
    tools.mkdir()
    (tools / "deepspeed").write_text("#!/bin/sh\nprintf '%s\\0' \"$@\" > options\n")
    (tools / "deepspeed").chmod(0o755)
    path = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    subprocess.run(
        ["bash", "dpo.sh", "MODEL", "--train.max_epochs", "2"], cwd=out, env=path, check=True
    )
    module, name, *options = (out / "options").read_text().split("\0")[:-1]
    assert [module, name] == ["--module", "openrlhf.cli.train_dpo"]
    return options


def test_openrlhf(exported, model):
    out = exported("openrlhf")
    options = openrlhf_options(out)
    assert options[-2:] == ["--train.max_epochs", "2"]
    (made,) = read_by("openrlhf", out, model, *options)
    assert as_text(made["train"]) == WANTED
    assert as_text(made["eval"]) == HELD_OUT


def test_ms_swift(exported):
    made = read_by("ms-swift", exported("ms-swift"))
    wanted = [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in PAIRS]
    assert made == {"train": wanted, "eval": wanted[:1]}


def test_torchtune(exported):
    overrides = shlex.split(TRAINERS["torchtune"].command.partition("CONFIG ")[2])
    made = read_by("torchtune", exported("torchtune"), *overrides)
    assert made["train"] == [
        {
            side: [*prompt, {"role": "assistant", "content": answer}]
            for side, answer in (("chosen", chosen), ("rejected", rejected))
        }
        for prompt, chosen, rejected in PAIRS
    ]


# The zoo. Its prompts have no system message, which some templates refuse.

ANIMAL_PAIRS = [
    (ASK, "A zebra.", "A horse."),
    (
        [*ASK, {"role": "assistant", "content": "Ten."}, {"role": "user", "content": "Where?"}],
        "In “cage” 7,\n  on the left 🦓",
        "No.",
    ),
]


def rendered_by_transformers(folder):
    """Return the pairs as the model's own tokenizer renders them: for one turn, and for two."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return [
        tuple(
            tokenizer.decode(
                tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": answer}])[
                    "input_ids"
                ]
            )
            for answer in sides
        )
        for prompt, *sides in ANIMAL_PAIRS
    ]


def compare(made, folder):
    """Return how a trainer renders the pairs, compared to the model's own tokenizer.

    Whitespace around the end of a turn may differ.
    """
    if "refused" in made:
        return "refused"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    read = {
        tuple(
            tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]).rstrip()
            for text in pair
        )
        for pair in as_text(made["train"])
    }
    one, two = (
        tuple(text.rstrip() for text in pair) in read for pair in rendered_by_transformers(folder)
    )
    return {(True, True): "same", (True, False): "one turn"}.get((one, two), "different")


DEVIATIONS = {
    # It derives a template of its own from a few renderings of the model's template.
    "llama-factory": {
        "llama-3.2": "one turn",  # repeats the system message
        "smollm3": "one turn",  # repeats the system message
        "phi-3": "one turn",  # ends each turn with the token that ends the conversation
        "olmo-2": "one turn",  # repeats the BOS token
        "olmo-3": "different",  # scrambles the system message
        "mistral-0.1": "refused",
        "gemma-2": "refused",
        "gemma-3": "refused",
    },
    # It looks for the answer in the rendered text, and drops what comes before it.
    "axolotl": {
        "qwen3": "different",  # the empty reasoning
        "mistral-0.1": "different",  # a space
    },
    "openrlhf": {},
}


# The loaders of the others take seconds per model.
SOME = ("llama-3.2", "qwen3", "mistral-0.1", "gemma-2")


@pytest.mark.parametrize("trainer", DEVIATIONS)
def test_trainers_render_the_templates_of_the_families(trainer, exported, zoo):
    names = SOME if trainer != "llama-factory" else [family.name for family in FAMILIES]
    folders = [str(zoo(family)) for family in FAMILIES if family.name in names]
    out = exported(trainer, ANIMAL_PAIRS)
    if trainer == "openrlhf":
        read = read_by(trainer, out, ",".join(folders), *openrlhf_options(out))
    else:
        read = read_by(trainer, out, *folders)
    found = {
        Path(folder).name: compare(made, folder) for folder, made in zip(folders, read, strict=True)
    }
    deviations = DEVIATIONS[trainer]
    assert found == {name: deviations.get(name, "same") for name in names}
