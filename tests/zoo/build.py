"""Build the zoo: tiny chat models with the architectures, tokenizers, and templates of families.

The weights are random, except for a few embeddings: they make each model answer every prompt with a
digit from 1 to 5, and then end its turn. Such a model can sample, and also judge with the rubric
`rating`.
"""

import functools
import json
from pathlib import Path

import torch
import transformers
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from zoo.families import Family

from factory.fingerprint import folder_key

DIGITS = ("1", "2", "3", "4", "5")
"""The answers of all models."""

SIZE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 2048,
}

TEXTS = Path(__file__).parents[2] / "factory" / "stages" / "rubrics"
"""Texts from which the tokenizers learn their vocabularies."""

N_PIECES = 512


def build(family: Family, folder: Path) -> Path:
    """Write the family's model to a new folder, and return the folder."""
    folder.mkdir()
    _write_tokenizer(family, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = _random_model(family, tokenizer)
    _script(model, tokenizer, family.ends)
    _write_model(family, model, folder)
    return folder


@functools.cache
def _pieces(kind: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the vocabulary and merges of a BPE that is trained on TEXTS."""
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Split(Regex(r"\p{N}"), "isolated")
    if kind == "bytes":
        words = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        words = pre_tokenizers.Metaspace(prepend_scheme="never")
        alphabet = []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    texts = [path.read_text(encoding="utf-8") for path in sorted(TEXTS.glob("*.md"))]
    tokenizer.train_from_iterator(
        [*texts, *DIGITS, "0123456789"],
        trainers.BpeTrainer(
            vocab_size=N_PIECES, initial_alphabet=alphabet, show_progress=False, min_frequency=2
        ),
    )
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return sorted(model["vocab"], key=model["vocab"].get), merges


def _write_tokenizer(family: Family, folder: Path) -> None:
    pieces, merges = _pieces(family.pieces)
    if family.pieces == "bytes":
        tokens = [*pieces, *family.special]
    else:
        tokens = [*family.special, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    # Spaces and newlines after these tokens belong to them, as in the original.
    eats = {"rstrip": True} if family.name == "phi-3" else {}
    added = [AddedToken(t, special=True, normalized=False, **eats) for t in family.special]
    named = {"bos_token": family.bos, "eos_token": family.eos, "pad_token": family.pad}
    named = {name: token for name, token in named.items() if token is not None}
    if family.unk is not None:
        named["unk_token"] = family.unk
    plain = family.tokenizer in ("PreTrainedTokenizerFast", "TokenizersBackend")
    given = (
        {"tokenizer_object": _byte_level(vocabulary, merges)}
        if plain
        else {"vocab": vocabulary, "merges": merges}
    )
    tokenizer = getattr(transformers, family.tokenizer)(**given, **named, **family.tokenizer_fields)
    backend = tokenizer.backend_tokenizer
    backend.add_special_tokens(added)
    if family.adds_bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", special_tokens=[(family.bos, vocabulary[family.bos])]
        )
    backend.save(str(folder / "tokenizer.json"))
    settings = {
        "added_tokens_decoder": {
            str(vocabulary[token.content]): {
                "content": token.content,
                "lstrip": token.lstrip,
                "normalized": token.normalized,
                "rstrip": token.rstrip,
                "single_word": token.single_word,
                "special": token.special,
            }
            for token in added
        },
        **named,
        "clean_up_tokenization_spaces": False,
        "model_max_length": SIZE["max_position_embeddings"],
        "tokenizer_class": family.tokenizer,
        **family.tokenizer_fields,
    }
    if family.name == "phi-3":
        numbers = {token: vocabulary[token] for token in family.special[3:]}
        _write_json(folder / "added_tokens.json", numbers)
    if family.template_in == "tokenizer_config.json":
        settings["chat_template"] = family.template_text
    else:
        (folder / "chat_template.jinja").write_text(family.template_text, encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", settings)


def _byte_level(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """Return a byte-level BPE whose numbers are split into groups of three digits."""
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _random_model(family: Family, tokenizer: transformers.PreTrainedTokenizerBase):
    seed = int(folder_key("zoo", 1, {"name": family.name})[:8], 16)
    transformers.set_seed(seed)
    vocabulary = tokenizer.get_vocab()
    numbers = {
        name: None if token is None else vocabulary[token]
        for name, token in {
            "bos_token_id": family.bos,
            "eos_token_id": family.eos,
            "pad_token_id": family.pad,
        }.items()
    }
    config = getattr(transformers, family.config)(
        **{**SIZE, "vocab_size": len(vocabulary), **numbers, **family.fields}
    )
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def _script(model: torch.nn.Module, tokenizer: transformers.PreTrainedTokenizerBase, ends: str):
    """Make the model answer with one of DIGITS, and then end its turn.

    The layers keep their random weights, but their small norms limit what they add to the
    embeddings. The logit of token v after token t is thus about s(t, v) = p_t · p_v - n_t · n_v,
    where p and n are the halves of an embedding, and the final norm negates n. The embeddings below
    make s large for (end of the prompt, digit) and (digit, end of the turn), and small for other
    pairs. The digits also differ in random directions, so that their probabilities depend on the
    prompt. The method works for tied embeddings too.
    """
    gemma = type(model.config).__name__.startswith("Gemma")  # its norms add 1 to their weights
    half = SIZE["hidden_size"] // 2
    start, stop = torch.eye(half)[:2]
    vectors = {
        "prompt": torch.cat([0.6 * start, 0.6 * start]),
        "digit": torch.cat([2.4 * (start + stop), 2.4 * (stop - start)]),
        "turn": torch.cat([2.6 * stop, -2.6 * stop]),
    }
    asked = [{"role": "user", "content": "?"}]
    prompts = [
        tokenizer.apply_chat_template(asked, add_generation_prompt=True, **settings)["input_ids"]
        for settings in ({}, {"enable_thinking": False})
    ]
    tokens = {
        "prompt": [prompt[-1] for prompt in prompts],
        "digit": [tokenizer.convert_tokens_to_ids(digit) for digit in DIGITS],
        "turn": [tokenizer.convert_tokens_to_ids(ends)],
    }
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.fill_(0.1 - gemma)
            elif "layers" in name:
                weight.mul_(5)
        model.model.norm.weight[:half] = 1.0 - gemma
        model.model.norm.weight[half:] = -1.0 - gemma
        embeddings = model.get_input_embeddings().weight
        for kind, numbers in tokens.items():
            embeddings[numbers] = vectors[kind]
        embeddings[tokens["digit"], 2:half] = 0.3 * torch.randn(len(DIGITS), half - 2)
        model.get_output_embeddings().weight.copy_(embeddings)


def _write_model(family: Family, model: transformers.PreTrainedModel, folder: Path) -> None:
    numbers = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    stops = [numbers[token] for token in family.stops]
    model = model.to(getattr(torch, family.dtype or "float32"))
    model.save_pretrained(folder, max_shard_size="100KB" if family.shards else "5GB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if family.dtype is None:
        config.pop("dtype")
    if family.stops_in == "generation_config.json":
        made = {"eos_token_id": stops[0] if len(stops) == 1 else stops, "do_sample": True}
        _write_json(folder / "generation_config.json", {**made, "temperature": 0.6})
    else:
        config["eos_token_id"] = stops[0] if len(stops) == 1 else stops
    _write_json(folder / "config.json", config)


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
