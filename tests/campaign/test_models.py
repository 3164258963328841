"""Bad chat templates, model configs, tokenizers, weights, and fields of the trainer."""

import json
import struct

from campaign.case import (
    TEXTS,
    Case,
    Kind,
    change_json,
    hostile,
    mangle,
    show,
    write_json,
)
from toys import QUICKSTART

MODEL = QUICKSTART / "m0"


def _use_model(case: Case) -> None:
    """Give the case a copy of the quickstart's model, and an engine that runs it."""
    for file in MODEL.iterdir():
        (case.toy.folder / "m" / file.name).parent.mkdir(exist_ok=True)
        if file.stat().st_size > 100_000:
            (case.toy.folder / "m" / file.name).hardlink_to(file)
        else:
            case.write(f"m/{file.name}", file.read_bytes())
    case.toy.write(
        model="m",
        engine={"name": "transformers", "device": "cpu"},
        sampling={"max_tokens": 4},
        judge={"max_tokens": 8, "rubric": str(QUICKSTART / "rubric.md")},
    )
    case.toy.prompts.write_text('{"prompt": "Reverse abc."}\n{"prompt": "Reverse cd."}\n')
    case.may_stop = True  # its judgments may leave no pairs
    case.answers_are_words = False
    case.preload = ("trl.trainer.dpo_config", "trl.trainer.sft_config", "peft")


def _tear(case: Case, name: str) -> None:
    """Damage the bytes of a file, change a value in its JSON, or remove it."""
    path = case.toy.folder / "m" / name
    match case.rng.randrange(10):
        case 0:
            path.unlink()
            case.note("without", name)
        case 1 | 2:
            way, data = mangle(case.rng, path.read_bytes())
            path.write_bytes(data)
            case.note(name, "bytes:", way)
        case _:
            value = json.loads(path.read_text())
            for _ in range(case.pick((1, 1, 2))):
                value = change_json(case, value)
                if not isinstance(value, dict) or not value:
                    break
            write_json(case, f"m/{name}", value)
            case.note("in", name)


# chat templates

START = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
END = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
PIECES = (
    "{{ now() }}",
    "{{ strftime_now('%d') }}",
    "{{ strftime_now('%Q' * 1000) }}",
    "{{ unknown }}",
    "{{ unknown.field }}",
    "{{ messages[99].content }}",
    "{{ messages[0]['content'][0]['text'] }}",
    "{{ 1 / 0 }}",
    "{{ raise_exception('no') }}",
    "{{ raise_exception() }}",
    "{{ raise_exception(1, 2) }}",
    "{{ tools[0].name }}",
    "{{ tools is not none }}",
    "{{ messages | tojson(indent=2) }}",
    "{{ messages | length }}",
    "{{ messages | random }}",
    "{{ messages.append(1) }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('touch pwned') }}",
    "{{ lipsum(5) }}",
    "{{ range(1000000000) | list }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 'x' * 10000000 }}",
    "{{ 'x' * 10000000000 }}",
    "{{ 'é' | center(999999999) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% set x = namespace() %}{{ x.y }}",
    "{% include 'recipe.yaml' %}",
    "{% import 'os' as os %}",
    "{% extends 'x' %}",
    "{% generation %}x{% endgeneration %}",
    "{% generation %}",
    "{% if %}",
    "{% endfor %}",
    "{{",
    "{{ 'a",
    "{% unknown %}",
    "{# open",
    "{{ x | unknown }}",
    "{% raw %}",
    "{{ 10 ** 10 ** 10 }}",
    "{{ '%999999999d' % 1 }}",
    "{{ messages[0].content | replace('a', 'b' * 100000) }}",
    "{{ messages[0].content | tojson | safe | e }}",
    "{{ enable_thinking }}",
    "{% do 1 %}",
    "{% break %}",
    "{% for m in messages %}{% break %}{% endfor %}",
    "{{ '\\ud800' }}",
    "{{ '\\x00' }}",
    "\ufeff",
    "\x00",
    "é",
    "<|user|>",
)


def templates(case: Case) -> None:
    _use_model(case)
    piece = case.pick((*PIECES, *TEXTS[:30]))
    template = case.pick(
        (f"{piece}{START}{END}", f"{START}{piece}{END}", f"{START}{END}{piece}", piece)
    ).encode("utf-8", "surrogatepass")
    case.note("template:", show(piece))
    if case.rng.random() < 0.3:
        way, template = mangle(case.rng, template)
        case.note("bytes:", way)
    file = case.toy.folder / "m" / "chat_template.jinja"
    file.write_bytes(template)
    if case.rng.random() < 0.2:
        file.unlink()
        path = case.toy.folder / "m" / "tokenizer_config.json"
        config = json.loads(path.read_text())
        text = template.decode("utf-8", "replace")
        config["chat_template"] = case.pick(
            (text, [{"name": "default", "template": text}], {"default": text}, None, [text])
        )
        path.write_text(json.dumps(config))
        case.note("in tokenizer_config.json")


# configs

FOREIGN = (
    {"model_type": "gpt2", "n_positions": 128, "n_embd": 8, "n_layer": 1, "n_head": 1},
    {"model_type": "mixtral"},
    {"model_type": "llava", "text_config": {"max_position_embeddings": 64}},
    {"model_type": "bert", "architectures": ["BertModel"]},
    {"model_type": "t5", "is_encoder_decoder": True},
    {"model_type": "unknown"},
    {"model_type": "mamba"},
    {"auto_map": {"AutoModelForCausalLM": "evil.Model"}},
    {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    {"quantization_config": {"quant_method": "unknown"}},
    {"rope_scaling": {"type": "unknown", "factor": "x"}},
    {"rope_parameters": {"rope_type": "yarn", "factor": -1}},
    {"max_position_embeddings": 3},
    {"max_position_embeddings": 10**30},
    {"num_hidden_layers": 7},
    {"num_hidden_layers": 5},
    {"num_hidden_layers": 10**9},
    {"hidden_size": 127},
    {"vocab_size": 10},
    {"vocab_size": 10**12},
    {"dtype": "int8"},
    {"dtype": "float8_e4m3fn"},
    {"eos_token_id": 10**9},
    {"eos_token_id": []},
    {"eos_token_id": -1},
    {"num_attention_heads": 0},
    {"sliding_window": 0},
    {"hidden_act": "unknown"},
    {"tie_word_embeddings": False},
    {"head_dim": None},
)
GENERATION = (
    {"eos_token_id": [3, 99999]},
    {"top_k": -1},
    {"top_k": 10**20},
    {"min_p": 2},
    {"repetition_penalty": 0},
    {"temperature": 0},
    {"do_sample": False, "temperature": -1},
    {"max_length": 1},
    {"max_new_tokens": 0},
    {"num_beams": 4},
    {"suppress_tokens": list(range(138))},
    {"forced_eos_token_id": 3},
    {"bad_words_ids": [[1]]},
    {"stop_strings": ["a"]},
    {"guidance_scale": 3},
    {"cache_implementation": "unknown"},
    {"transformers_version": 5},
)
ADAPTER = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "m",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["q_proj"],
}


def configs(case: Case) -> None:
    _use_model(case)
    name = case.pick(
        ("config.json", "config.json", "generation_config.json", "adapter_config.json")
    )
    if name == "adapter_config.json":
        case.write("m/adapter_config.json", json.dumps(ADAPTER))
        if case.rng.random() < 0.7:
            case.toy.write(model={"path": str(MODEL), "adapter": "m"})
    extra = {"config.json": FOREIGN, "generation_config.json": GENERATION}.get(name)
    if extra and case.rng.random() < 0.4:
        path = case.toy.folder / "m" / name
        added = case.pick(extra)
        path.write_text(json.dumps({**json.loads(path.read_text()), **added}))
        case.note(name, "with", show(added))
    else:
        _tear(case, name)
    case.toy.path.write_bytes(case.toy.path.read_bytes())
    section = case.pick(("model", "model", "model", "judge", "reward"))
    if section != "model":
        broken = case.toy.fields["model"]
        case.toy.fields["model"] = str(MODEL)
        field = "model" if section == "judge" else "reward_model"
        case.toy.fields["judge"] = {"draws": 1, "max_tokens": 8, field: broken}
        case.note("as", f"judge.{field}")
        case.write_recipe()


def tokenizers(case: Case) -> None:
    _use_model(case)
    _tear(case, case.pick(("tokenizer.json", "tokenizer.json", "tokenizer_config.json")))


# weights


def _header(case: Case) -> tuple[dict, bytes]:
    data = (MODEL / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def weights(case: Case) -> None:
    _use_model(case)
    header, tensors = _header(case)
    path = case.toy.folder / "m" / "model.safetensors"
    path.unlink()
    names = [name for name in header if name != "__metadata__"]
    match case.rng.randrange(10):
        case 0:
            data = case.pick((b"", b"\x00" * 8, b"\xff" * 8, b"version https://git-lfs", b"\x08"))
            path.write_bytes(data)
            case.note("file:", show(data))
            return
        case 1:
            name = case.pick(names)
            header[f"{name}x"] = header.pop(name)
            case.note("renamed", name)
        case 2:
            name = case.pick(names)
            del header[name]
            case.note("without", name)
        case 3:
            name = case.pick(names)
            header[name]["dtype"] = case.pick(("F16", "I64", "F8_E4M3", "X", "", "BF16", "f32"))
            case.note(name, header[name])
        case 4:
            name = case.pick(names)
            header[name]["shape"] = case.pick(([], [0], [-1], [2**40, 2**40], [1] * 100, [1.5]))
            case.note(name, header[name])
        case 5:
            first, second = case.rng.sample(names, 2)
            header[first]["data_offsets"] = header[second]["data_offsets"]
            case.note(first, "where", second, "is")
        case 6:
            tensors = tensors[: case.rng.randrange(len(tensors))]
            case.note("cut to", len(tensors))
        case 7:
            header["__metadata__"] = case.pick(({"format": "tf"}, {"format": 3}, [], "x", {}))
            case.note("metadata:", header["__metadata__"])
        case _:
            header = change_json(case, header)
    text = json.dumps(header).encode()
    length = len(text)
    if case.rng.random() < 0.15:
        length = case.pick((0, 1, length - 1, length + 1, 2**40, 2**63))
        case.note("header length:", length)
    path.write_bytes(struct.pack("<Q", length) + text + tensors)
    if case.rng.random() < 0.1:
        index = {
            "weight_map": {name: case.pick(("model.safetensors", "x", "../x", 3)) for name in names}
        }
        write_json(case, "m/model.safetensors.index.json", index)
        case.note("with an index")


# the trainer

SETTINGS = (
    *("beta", "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size"),
    *("gradient_accumulation_steps", "warmup_ratio", "lr_scheduler_type", "optim", "bf16"),
    *("max_length", "loss_type", "output_dir", "seed", "report_to", "save_steps", "unknown"),
    *("gradient_checkpointing", "precompute_ref_log_probs", "packing", "weight_decay", "fp16"),
)
LORA = (
    "r",
    "lora_alpha",
    "target_modules",
    "lora_dropout",
    "bias",
    "use_dora",
    "unknown",
    "task_type",
)


def trainers(case: Case) -> None:
    _use_model(case)
    section = case.pick(("dpo", "dpo", "sft", "lora", "command", "with"))
    train = {"with": "trl"}
    if section in ("dpo", "sft", "lora"):
        for _ in range(case.pick((1, 2))):
            name = case.pick(LORA if section == "lora" else SETTINGS)
            train.setdefault(section, {})[name] = hostile(case.rng)
    elif section == "command":
        text = case.pick(TEXTS)
        command = case.pick((text, f"{text} {{pairs}} {{parent}} {{out}}", f"python {text}"))
        train = {"with": "command", "command": command}
    else:
        train = {"with": case.pick(("manual", "hand", "TRL", "", "axolotl", None)), "lora": {}}
    case.note("train:", show(train))
    case.set(["train"], train)
    policy = {"policy": "rejection_sampling"} if section == "sft" else {}
    case.toy.fields["loop"] = {"iterations": 1, **policy}
    case.write_recipe()
    case.runs = 0


KINDS = {
    "templates": Kind(templates, 6, runs=0.1),
    "configs": Kind(configs, 10, runs=0.1),
    "tokenizers": Kind(tokenizers, 6, runs=0.1),
    "weights": Kind(weights, 6, runs=0.1),
    "trainers": Kind(trainers, 3),
}


def test_an_input_is_refused_or_works(verdict):
    assert verdict.is_right, verdict
