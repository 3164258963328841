"""Read the JSON files in a model folder, and check the fields that the factory reads."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from factory.errors import ModelError, one_line
from factory.files import is_regular
from factory.input_files import read_content

_DTYPE = r"bfloat16|float(16|32|64|8_\w+)"


def _is_int(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _is_list_of(check: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, list) and all(check(item) for item in value)


def _is_count(value: Any) -> bool:
    return _is_int(value) and value >= 0


def _is_str(value: Any) -> bool:
    # Half a surrogate pair cannot be printed or hashed.
    return isinstance(value, str) and value == value.encode(errors="replace").decode()


def _is_file_name(value: Any) -> bool:
    is_name = _is_str(value) and value not in ("", "..") and Path(value).name == value
    return is_name and "\0" not in value and len(value) < 256


def _is_special_token(value: Any) -> bool:
    return _is_str(value) or (isinstance(value, dict) and _is_str(value.get("content")))


def _is_added_token(value: Any) -> bool:
    return _is_special_token(value) and isinstance(value, dict) and "special" in value


def _is_template(value: Any) -> bool:
    return _is_str(value) or _is_list_of(_is_named_template, value)


def _is_named_template(value: Any) -> bool:
    return isinstance(value, dict) and _is_str(value.get("name")) and _is_str(value.get("template"))


_Kind = tuple[str, Callable[[Any], bool]]
"""The values that a field may have: in words, and as a check."""

_WHOLE: _Kind = ("a whole number of at most 64 bits", _is_int)
_COUNT: _Kind = ("a whole number of at least 0 and at most 63 bits", _is_count)
_NUMBER: _Kind = ("a number", _is_number)
_TEXT: _Kind = ("a string", _is_str)
_OBJECT: _Kind = ("an object", lambda value: isinstance(value, dict))
_NAMES: _Kind = ("a list of strings", lambda value: _is_list_of(_is_str, value))
_IDS: _Kind = (
    "a whole number of at most 64 bits, or a list of them",
    lambda value: _is_int(value) or _is_list_of(_is_int, value),
)
_TYPE: _Kind = (
    "a floating-point type such as bfloat16",
    lambda value: _is_str(value) and re.fullmatch(_DTYPE, value) is not None,
)

CONTEXT_LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
"""The names that model families give to their context length, as in vLLM 0.32."""

_CONFIG: dict[str, _Kind] = {
    **dict.fromkeys(CONTEXT_LENGTHS, _WHOLE),
    "architectures": _NAMES,
    "bos_token_id": _IDS,
    "dtype": _TYPE,
    "torch_dtype": _TYPE,
    "eos_token_id": _IDS,
    "hidden_size": _COUNT,
    "id2label": _OBJECT,
    "model_type": _TEXT,
    "num_hidden_layers": _COUNT,
    "num_labels": _WHOLE,
    "pad_token_id": _WHOLE,
    "quantization_config": _OBJECT,
    "rope_parameters": _OBJECT,
    "rope_scaling": _OBJECT,
    "text_config": _OBJECT,
    "vocab_size": _COUNT,
}

_TOKEN: _Kind = ("a string or an object with `content`", _is_special_token)

_FILE_NAMES: _Kind = (
    "an object of file names",
    lambda value: isinstance(value, dict) and _is_list_of(_is_file_name, [*value.values()]),
)

_TOKENS = ("bos_token", "cls_token", "eos_token", "mask_token", "pad_token", "sep_token")

_FIELDS: dict[str, dict[str, _Kind]] = {
    "config.json": _CONFIG,
    "generation_config.json": {
        "bos_token_id": _IDS,
        "eos_token_id": _IDS,
        "min_p": _NUMBER,
        "pad_token_id": _IDS,
        "repetition_penalty": _NUMBER,
        "temperature": _NUMBER,
        "top_k": _WHOLE,
        "top_p": _NUMBER,
    },
    "tokenizer_config.json": {
        "added_tokens_decoder": (
            "an object of tokens",
            lambda value: (
                isinstance(value, dict)
                and _is_list_of(_is_special_token, [*value.values()])
                and all(key.isdecimal() and len(key) < 19 for key in value)
            ),
        ),
        "chat_template": ("a string or a list of {name, template}", _is_template),
        "model_max_length": _NUMBER,
        "tokenizer_class": _TEXT,
        **dict.fromkeys((*_TOKENS, "unk_token"), _TOKEN),
    },
    "special_tokens_map.json": dict.fromkeys((*_TOKENS, "unk_token"), _TOKEN),
    "added_tokens.json": {},
    "tokenizer.json": {
        "added_tokens": (
            "a list of tokens",
            lambda value: _is_list_of(_is_added_token, value),
        ),
    },
    "adapter_config.json": {
        "peft_type": _TEXT,
        "r": _WHOLE,
        "rank_pattern": (
            "an object of whole numbers",
            lambda value: isinstance(value, dict) and _is_list_of(_is_int, [*value.values()]),
        ),
    },
    "model.safetensors.index.json": {"weight_map": _FILE_NAMES},
    "pytorch_model.bin.index.json": {"weight_map": _FILE_NAMES},
}
"""The fields that the factory reads, by file. A field may also be null or absent."""


def read_json(path: Path, field: str) -> dict[str, Any]:
    """Return the content of a JSON file in a model folder, or an empty dict if there is no such
    file.

    Raises ModelError if the file is not a JSON object, or if a field that the factory reads has a
    value of the wrong type. `field` is the recipe field that names the model.
    """
    try:
        # transformers also refuses a byte order mark.
        content = json.loads(read_content(path, None).decode())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        fault = "it is nested too deeply" if isinstance(error, RecursionError) else one_line(error)
        raise ModelError(
            field, f"{path.name} cannot be read as JSON ({fault})", "download the model again"
        ) from None
    if not isinstance(content, dict):
        raise ModelError(
            field,
            f"{path.name} contains {type(content).__name__} instead of an object",
            "download the model again",
        )
    _check_fields(path.name, content, field)
    text = content.get("text_config")  # only models that also read images have it
    if path.name == "config.json" and text is not None:
        _check_fields(path.name, text, field, "text_config.")
    return content


def check_files(files: Iterable[Path], field: str) -> None:
    """Check the files of a model folder before anything reads them.

    Raises ModelError if one of them is not a file, or if it is a JSON file with invalid content.
    Does not read `tokenizer.json`, which is large.
    """
    for file in files:
        try:
            fault = "" if is_regular(file) else "it is not a file"
        except OSError as error:
            fault = str(error.strerror)
        if fault:
            raise ModelError(
                field, f"{file.name} cannot be read ({fault})", "download the model again"
            )
        if file.name in _FIELDS and file.name != "tokenizer.json":
            read_json(file, field)


def _check_fields(name: str, content: dict[str, Any], field: str, parent: str = "") -> None:
    for key, (expected, fits) in _FIELDS.get(name, {}).items():
        value = content.get(key)
        if value is not None and not fits(value):
            shown = json.dumps(value, ensure_ascii=False)[:60]
            raise ModelError(
                field,
                f"{name} sets {parent}{key} to {shown}, expected {expected}",
                f"correct {name}, or download the model again",
            )


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a config.json together with those of its section `text_config`.

    Models that also read images describe their language model in this section.
    """
    set_ = {name: value for name, value in config.items() if value is not None}
    return {**(config.get("text_config") or {}), **set_}


def declared_dtype(path: Path, field: str) -> str:
    """Return the dtype named in a model's `config.json`, or float32 if none is named."""
    config = text_config(read_json(path / "config.json", field))
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")
