"""A model's folder: whether it can be used, its digest, its context, its prompts' lengths.

Loads no weights and imports neither torch nor an engine.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import MissingExtra, ModelError, NotDownloaded
from factory.fingerprint import file_digest, files_digest, folder_key
from factory.functions import find_function
from factory.recipe import VLLM_IDENTITY, Engine, Model, OpenaiEngine, Recipe, VllmEngine
from factory.tensors import read_tensors

if TYPE_CHECKING:
    from jinja2 import Template

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_MEANING = (
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab*",
    "merges.txt",
    "scripted.json",
)
"""The files beside the weights that decide what a model answers."""

_CONFIGS = ("config.json", "model.safetensors.index.json", "scripted.json")
"""Of these, what belongs to the weights."""

_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
"""The files of a LoRA adapter, as PEFT writes it."""


@dataclass(frozen=True)
class Checkpoint:
    """One set of weights, on disk."""

    name: str
    """What the recipe calls it: M_0, F_0, M_1, …"""
    path: Path
    """The folder with weights, configuration and tokenizer."""
    digest: str
    """Of weights, adapter, tokenizer, chat template, configuration, dtype, and of what else decides
    the answers of the engine that runs it."""
    dtype: str
    adapter: Path | None = None
    """The folder of the LoRA adapter that is put on the weights."""
    folder: Path | None = None
    """Of a trained model: where it lies in the lake."""
    base: str = field(default="", compare=False)
    """The digest of the weights alone, without an adapter."""
    declared: str | None = None
    """The revision that is declared of weights that only a server has: nothing can verify it, and
    there are no files."""

    @cached_property
    def generation_config(self) -> dict[str, Any]:
        """What the model's repository says of how it is to be sampled."""
        return self._json("generation_config.json")

    @property
    def stop_tokens(self) -> list[int]:
        """The tokens that end an answer, beside the tokenizer's own: chat models often have
        several."""
        stops = self.generation_config.get("eos_token_id", self.config.get("eos_token_id"))
        return [stops] if isinstance(stops, int) else list(stops or [])

    @cached_property
    def config(self) -> dict[str, Any]:
        return self._json("config.json")

    def _json(self, name: str) -> dict[str, Any]:
        return {} if self.declared else _read_json(self.path / name)

    @property
    def context_length(self) -> int | None:
        """The most tokens that prompt and answer may have together, where the model says so."""
        length = self.config.get("max_position_embeddings")
        return length if isinstance(length, int) else None

    @cached_property
    def control_tokens(self) -> tuple[str, ...]:
        """The texts that the tokenizer reads as control tokens wherever they stand, as far as its
        tokenizer.json says; none where only a server has the weights."""
        added = self._json("tokenizer.json").get("added_tokens", [])
        return tuple(token["content"] for token in added if token["special"])

    @cached_property
    def tokenizer_digest(self) -> str:
        """Of all that decides how long a prompt is."""
        names = ("tokenizer*", "chat_template*", "special_tokens_map.json", "added_tokens.json")
        files = [path for name in names for path in sorted(self.path.glob(name))]
        return files_digest((path.name, file_digest(path)) for path in files)


def open_checkpoint(
    name: str, model: Model, recipe: Recipe, known: dict[str, str], *, download: bool = False
) -> Checkpoint:
    """Finds a model and takes its digest.

    `known` remembers the hashes of files by device, inode, size and time, so that unchanged
    weights are not read again; it is added to. Raises ModelError where the folder is missing, has
    no weights or no chat template (the scripted engine needs neither).
    """
    engine = recipe.engine_of(name)
    path = locate(model, recipe, download=download)
    if engine.name != "scripted":
        check_model(model.path, path)
    dtype = model.dtype if model.dtype != "auto" else declared_dtype(path)
    base = digest = folder_digest(path, dtype, known)
    adapter = None
    if model.adapter is not None:
        adapter = recipe.resolve(model.adapter)
        check_adapter(adapter, path)
        digest = adapter_digest(adapter, base, known)
    if engine.name == "scripted":  # a script answers, not the model
        script = engine.script
        told = find_function(script, recipe.folder).digest if script else "words"
        digest = folder_key("scripted model", 1, {"model": digest, "script": told})
    return Checkpoint(name, path, as_run(digest, engine), dtype, adapter, base=base)


def declared_checkpoint(name: str, revision: str, engine: OpenaiEngine) -> Checkpoint:
    """A model of which only a server has the weights, by the name that the server gives it and the
    revision that whoever runs it declares."""
    digest = folder_key("model declared", 1, {"name": engine.model, "revision": revision})
    return Checkpoint(name, Path(engine.model), digest, "unknown", declared=revision)


def as_run(digest: str, engine: Engine) -> str:
    """A model's digest with what its engine adds to what decides its answers."""
    match engine:
        case VllmEngine():
            set_ = {k: v for k, v in engine.arguments.items() if k in VLLM_IDENTITY}
            return folder_key("model in vllm", 1, {"model": digest, **set_}) if set_ else digest
        case OpenaiEngine():
            return folder_key("model served", 1, {"model": digest, "name": engine.model})
    return digest


def folder_digest(path: Path, dtype: str, known: dict[str, str]) -> str:
    """The digest of a model's folder run in `dtype`."""
    files = files_digest((file.name, cached_digest(file, known)) for file in model_files(path))
    return folder_key("model", 1, {"files": files, "dtype": dtype})


def adapter_digest(adapter: Path, base: str, known: dict[str, str]) -> str:
    """The digest of an adapter on weights of the digest `base`."""
    files = files_digest((file.name, cached_digest(file, known)) for file in model_files(adapter))
    return folder_key("adapter", 1, {"base": base, "adapter": files})


def is_adapter(path: Path) -> bool:
    """Whether a folder holds a LoRA adapter, and not weights of its own."""
    return (path / _ADAPTER[0]).is_file()


def tokenizer_files(path: Path) -> list[Path]:
    """The files of a model's folder that decide how texts become tokens and are ended."""
    return sorted(file for glob in _MEANING if glob not in _CONFIGS for file in path.glob(glob))


def model_files(path: Path) -> list[Path]:
    """The files of a model's or adapter's folder that decide its answers, sorted by name."""
    if is_adapter(path):
        return sorted(file for name in _ADAPTER if (file := path / name).is_file())
    weights = next((found for glob in _WEIGHTS if (found := sorted(path.glob(glob)))), [])
    return sorted({*weights, *(file for glob in _MEANING for file in path.glob(glob))})


def trained_model(name: str, folder: Path, first: Checkpoint, recipe: Recipe) -> Checkpoint | None:
    """The model that a training left in a folder, if it came to its end and all files are there
    in their sizes. Where it is an adapter, its weights are those of `first`, M_0."""
    manifest = model_manifest(folder)
    if manifest is None:
        return None
    path = folder / "model"
    for file, (size, _) in manifest["files"].items():
        if not (path / file).is_file() or (path / file).stat().st_size != size:
            return None
    digest = as_run(manifest["digest"], recipe.engine)
    if _ADAPTER[0] in manifest["files"]:
        return Checkpoint(name, first.path, digest, first.dtype, path, folder, first.base)
    return Checkpoint(name, path, digest, manifest["dtype"], None, folder, manifest["digest"])


def model_manifest(folder: Path) -> dict[str, Any] | None:
    """What a training wrote last; without it the model does not exist."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    except FileNotFoundError:
        return None
    return manifest


def broken_files(folder: Path) -> list[tuple[Path, str]]:
    """The files of a trained model that are not as they were written, and why."""
    manifest = model_manifest(folder)
    faults = []
    for name, (size, digest) in (manifest or {"files": {}})["files"].items():
        file = folder / "model" / name
        if not file.is_file():
            faults.append((file, "it was deleted"))
        elif file.stat().st_size != size or file_digest(file) != digest:
            faults.append((file, "its content changed"))
    return faults


def cached_digest(file: Path, known: dict[str, str]) -> str:
    """The SHA-256 of a file, taken once for each device, inode, size and time."""
    stat = file.stat()
    stamp = f"{stat.st_dev}-{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}"
    if stamp not in known:
        known[stamp] = file_digest(file)
    return known[stamp]


def locate(model: Model, recipe: Recipe, *, download: bool) -> Path:
    """The folder of a model: beside the recipe, or where the Hub's cache has its repository.

    `download` fetches what the cache lacks. Raises NotDownloaded where it still lacks it (nothing
    was to be fetched, or there is no network), ModelError where the path names no model.
    """
    path = recipe.resolve(model.path)
    if path.is_dir():
        return path
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model.path) or model.path.startswith("."):
        raise ModelError(
            f"model.path: {model.path} is not a folder (looked for {path.name} in "
            f"{_shown(path.parent)}): expected a folder with a model, or a Hub repository "
            "organisation/name"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    try:
        return Path(
            snapshot_download(
                model.path,
                revision=model.revision,
                allow_patterns=[*_WEIGHTS, *_MEANING],
                local_files_only=not download,
            )
        )
    except LocalEntryNotFoundError:
        raise NotDownloaded(
            f"model.path: {model.path} is neither a folder beside the recipe nor on this machine: "
            f"fetch it with `hf download {model.path}`, or let `factory run` do so with a network"
        ) from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelError(
            f"model.path: {model.path} could not be fetched from the Hub: {error}"
        ) from error


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def check_model(given: str, path: Path) -> None:
    """Raises ModelError unless a folder has a model's configuration, weights and chat template;
    `given` is what the recipe calls it. No file's content but the template's is looked at."""
    if not (path / "config.json").is_file():
        raise ModelError(f"model.path: {given} has no config.json: expected a model's folder")
    if not any(file for glob in _WEIGHTS for file in path.glob(glob)):
        raise ModelError(f"model.path: {given} has no weights: expected *.safetensors files")
    if chat_template(path) is None:
        raise ModelError(
            f"model.path: {given} has no chat template: expected chat_template.jinja or "
            "chat_template in tokenizer_config.json; take the instruction-tuned model, or add one"
        )


def check_adapter(adapter: Path, base: Path) -> None:
    """Raises ModelError unless a folder is a LoRA adapter that fits the weights of another.

    Only headers are read. Every pair of lora_A [r, in] and lora_B [out, r] must fit a weight
    [out, in] of the base; adapters not in safetensors are not looked into.
    """
    config = _read_json(adapter / _ADAPTER[0])
    if config.get("peft_type") != "LORA":
        raise ModelError(
            f"model.adapter: {_shown(adapter)} is no LoRA adapter: expected a folder with "
            "adapter_config.json and adapter_model.safetensors, as PEFT saves it"
        )
    file = adapter / "adapter_model.safetensors"
    if not file.is_file():
        return
    weights = {
        tensor.name: tensor.shape
        for part in base.glob("*.safetensors")
        for tensor in read_tensors(part, "model.path")
    }
    for tensor in read_tensors(file, "model.adapter"):
        name, shape = tensor.name, tensor.shape
        module = name.removeprefix("base_model.model.").partition(".lora_")[0]
        weight = weights.get(f"{module}.weight")
        sides = {"lora_A": 1, "lora_B": 0}  # which side of the weight each shares, at that place
        side = next((sides[part] for part in name.split(".") if part in sides), None)
        if weights and side is not None and (weight is None or weight[side] != shape[side]):
            has = "it has none of that name" if weight is None else f"its own are {weight}"
            raise ModelError(
                f"model.adapter: {_shown(adapter)} was made for another base than {_shown(base)}: "
                f"it has weights {shape} for {module}, and {has}"
            )


def adapter_rank(adapter: Path) -> int:
    """The rank of a LoRA adapter: the largest of its modules'."""
    config = _read_json(adapter / _ADAPTER[0])
    return int(max([config.get("r", 0), *(config.get("rank_pattern") or {}).values()]))


def chat_template(path: Path) -> str | None:
    """The default chat template of a model's folder, as Jinja text."""
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = _read_json(path / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        named = {item["name"]: item["template"] for item in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def declared_dtype(path: Path) -> str:
    """The number type that a model's config.json names; float32 where it names none."""
    config = _read_json(path / "config.json")
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.name} of the model cannot be read as JSON: {error}") from None
    return content if isinstance(content, dict) else {}


def token_counter(model: Checkpoint) -> Callable[[Sequence[Mapping[str, Any]]], int]:
    """A function from messages to the number of tokens that the model reads for them.

    Uses the tokenizer's file and Jinja alone, and none of the seconds that importing AutoTokenizer
    takes; models without a `tokenizer.json` take that way.
    """
    from tokenizers import Tokenizer

    file = model.path / "tokenizer.json"
    if not file.is_file():
        return _slow_counter(model)
    tokenizer = Tokenizer.from_file(str(file))
    settings = _read_json(model.path / "tokenizer_config.json")
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    specials = {name: token for name in names if (token := _token(settings.get(name)))}
    template = compile_template(chat_template(model.path) or "")

    def count(messages: Sequence[Mapping[str, Any]]) -> int:
        text = template.render(messages=messages, add_generation_prompt=True, **specials)
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return count


def text_counter(model: Checkpoint) -> Callable[[str], int]:
    """A function from a text to the number of tokens in which the model would have written it,
    with the one that ends it."""
    from tokenizers import Tokenizer

    file = model.path / "tokenizer.json"
    if file.is_file():
        fast = Tokenizer.from_file(str(file))
        return lambda text: len(fast.encode(text, add_special_tokens=False).ids) + 1
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingExtra("transformers", "train") from None
    slow = AutoTokenizer.from_pretrained(model.path)
    return lambda text: len(slow.encode(text, add_special_tokens=False)) + 1


def _slow_counter(model: Checkpoint) -> Callable[[Sequence[Mapping[str, Any]]], int]:
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingExtra("transformers", "train") from None
    tokenizer = AutoTokenizer.from_pretrained(model.path)
    return lambda messages: len(
        tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
    )


def compile_template(text: str) -> "Template":
    """A chat template as transformers compiles it (transformers.utils.chat_template_utils, 5.19),
    whose import alone takes longer than all else that `factory plan` does."""
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def to_json(value: Any, indent: int | None = None, **options: Any) -> str:
        return json.dumps(value, **{"ensure_ascii": False, "indent": indent, **options})

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    # The marks of the assistant's tokens, for training, print nothing: a block that is always on.
    text = re.sub(r"\{%(-?)\s*generation\s*(-?)%\}", r"{%\1 if true \2%}", text)
    text = re.sub(r"\{%(-?)\s*endgeneration\s*(-?)%\}", r"{%\1 endif \2%}", text)
    return environment.from_string(text)


def _token(value: Any) -> str | None:
    return value.get("content") if isinstance(value, dict) else value
