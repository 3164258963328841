"""Check a recipe's settings for TRL and PEFT against the config classes in their source code.

Reading the source code takes milliseconds, and importing TRL takes seconds. Neither TRL nor PEFT
checks the types of its fields, so a wrong value would fail only in the trainer, after all sampling
and judging.
"""

import ast
import difflib
import re
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import NoneType
from typing import Any

from factory.errors import EngineError, MissingExtra, RecipeError
from factory.recipe import Method

_CONFIGS: dict[Method, str] = {"dpo": "DPOConfig", "sft": "SFTConfig"}

_BASES = (
    ("trl", "trainer/base_config.py", "_BaseConfig"),
    ("transformers", "training_args.py", "TrainingArguments"),
)
"""The base classes of TRL's configs: package, file, and class."""

_LORA = (
    ("peft", "tuners/lora/config.py", "LoraConfig"),
    ("peft", "config.py", "PeftConfig"),
    ("peft", "config.py", "PeftConfigMixin"),
)

_ENUMS = (("transformers", "training_args.py"), ("transformers", "trainer_utils.py"))
"""Files with the enums that types in TrainingArguments refer to."""

_COMPARED = ("loss_type", "f_divergence_type")
"""Fields of DPOConfig whose values TRL checks only when it computes a loss."""

_ADAPTER_REFUSED = (
    "task_type",
    "peft_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "runtime_config",
)
"""Fields of LoraConfig that the factory sets, or that do not describe the adapter."""

_STARTS = (True, "gaussian", "orthogonal")
"""Values of init_lora_weights for which a new adapter does not change the model."""

_TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "int": ("a whole number", (int,)),
    "float": ("a number", (int, float)),
    "bool": ("true or false", (bool,)),
    "str": ("a text", (str,)),
    "None": ("null", (NoneType,)),
}
"""Plain types by their names in the source code, with names for messages and Python types."""

_WIDER = {"lora_alpha": "float"}
"""The type to accept for a field whose declared type is too narrow."""


def check_trl_fields(method: Method, fields: dict[str, Any]) -> None:
    """Check the names and values of TRL's config fields, without importing TRL.

    Raises RecipeError for an unknown field, a value of the wrong type, or an unknown choice, and
    MissingExtra if TRL is not installed.
    """
    config, section = _CONFIGS[method], f"train.{method}"
    types = _declared((("trl", f"trainer/{method}_config.py", config), *_BASES))
    _check_names(section, f"TRL's {config}", fields, [*types])
    for name, value in fields.items():
        _check_value(f"{section}.{name}", value, types[name])
        if method == "dpo" and name in _COMPARED:
            known = _compared_with(name)
            for choice in value if isinstance(value, list) else [value]:
                _check_choice(f"{section}.{name}", choice, known)


def check_adapter_fields(fields: dict[str, Any]) -> None:
    """Check the names and values of LoraConfig's fields, without importing PEFT.

    Raises RecipeError for an unknown field, a field that the factory sets, a value of the wrong
    type, or an initialization that changes the model, and MissingExtra if PEFT is not installed.
    """
    types = _declared(_LORA) | _WIDER
    _check_names("train.lora", "PEFT's LoraConfig", fields, [*types])
    for name, value in fields.items():
        if name in _ADAPTER_REFUSED:
            raise RecipeError(
                f"train.lora.{name}", "the factory sets this field", "remove this field"
            )
        if name != "init_lora_weights":
            _check_value(f"train.lora.{name}", value, types[name])
    start = fields.get("init_lora_weights", True)
    if start not in _STARTS:
        raise RecipeError(
            "train.lora.init_lora_weights",
            f"got {start}, but this initialization changes the model before training",
            "set train.lora.init_lora_weights to true, gaussian, or orthogonal",
        )


def _check_names(section: str, owner: str, fields: Iterable[str], known: list[str]) -> None:
    for name in fields:
        if name not in known:
            # PEFT calls the rank r, which fuzzy matching cannot find.
            alike = ["r"] if name == "rank" else difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {alike[0]}?" if alike and alike[0] in known else ""
            raise RecipeError(f"{section}.{name}", f"{owner} has no such field", hint)


def _check_value(field: str, value: Any, declared: str) -> None:
    """Raise RecipeError if a value does not have the declared type.

    Only unions of plain types, literals, and enums are checked. `declared` is the type as the
    source code writes it.
    """
    parts = declared.split(" | ")
    if declared.startswith("Literal["):
        _check_choice(field, value, ast.literal_eval(declared.removeprefix("Literal")))
    elif isinstance(value, str) and (known := _enum_values(parts[0])):
        _check_choice(field, value, known)
    elif all(part in _TYPES for part in parts):
        expected = [_TYPES[part] for part in parts]
        # True and False are ints in Python, but not numbers in a recipe.
        is_one = isinstance(value, bool) and "bool" in parts
        if not isinstance(value, bool):
            is_one = isinstance(value, tuple(kind for _, kinds in expected for kind in kinds))
        if not is_one:
            names = " or ".join(name for name, _ in expected)
            raise RecipeError(field, f"got {value!r}", f"expected {names}")


def _check_choice(field: str, value: Any, known: Iterable[Any]) -> None:
    known = list(known)
    if known and value not in known:
        raise RecipeError(field, f"got {value!r}", f"expected one of {', '.join(map(str, known))}")


# source code


@cache
def _declared(sources: tuple[tuple[str, str, str], ...]) -> dict[str, str]:
    """Return the fields of a dataclass and its bases, each with its type as the code writes it.

    `sources` lists package, file, and class. Raises MissingExtra if a package is not installed, and
    EngineError if a file does not define its class.
    """
    fields: dict[str, str] = {}
    for package, file, name in reversed(sources):
        body = _class_body(package, file, name)
        if body is None:
            fault = f"this version of {package} defines no class {name} in {file}"
            raise EngineError(package, fault, f"install another version of {package}")
        for part in body:
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                fields[part.target.id] = ast.unparse(part.annotation)
    return fields


@cache
def _enum_values(name: str) -> tuple[str, ...]:
    """Return the values of an enum in transformers; empty if it defines no such enum."""
    for package, file in _ENUMS:
        if (body := _class_body(package, file, name)) is not None:
            values = [part.value for part in body if isinstance(part, ast.Assign)]
            return tuple(str(value.value) for value in values if isinstance(value, ast.Constant))
    return ()


@cache
def _compared_with(field: str) -> tuple[str, ...]:
    """Return the values that TRL's DPO trainer compares a field with."""
    found = re.findall(rf'\b{field} == "(\w+)"', _source("trl", "trainer/dpo_trainer.py"))
    return tuple(dict.fromkeys(found))


def _class_body(package: str, file: str, name: str) -> list[ast.stmt] | None:
    for node in _parsed(package, file).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node.body
    return None


@cache
def _parsed(package: str, file: str) -> ast.Module:
    return ast.parse(_source(package, file))


def _source(package: str, file: str) -> str:
    found = find_spec(package)
    if found is None or found.origin is None:
        raise MissingExtra(package, "train")
    path = Path(found.origin).parent / file
    return path.read_text(encoding="utf-8") if path.is_file() else ""
