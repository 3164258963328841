"""Model folders: digests, adapters, chat templates, and token counts, without loading weights."""

from factory.models.adapters import adapter_rank, check_adapter
from factory.models.checkpoint import Checkpoint
from factory.models.config import declared_dtype, read_json
from factory.models.digest import (
    adapter_digest,
    as_run,
    cached_digest,
    folder_digest,
    is_adapter,
    model_files,
    tokenizer_files,
)
from factory.models.locate import check_model, locate_model
from factory.models.open import declared_checkpoint, open_checkpoint
from factory.models.safetensors import Tensor, read_tensors
from factory.models.tokens import chat_template, compile_template, text_counter, token_counter
from factory.models.trained import broken_files, model_manifest, trained_model
from factory.models.turns import check_turn_end

__all__ = [
    "Checkpoint",
    "Tensor",
    "adapter_digest",
    "adapter_rank",
    "as_run",
    "broken_files",
    "cached_digest",
    "chat_template",
    "check_adapter",
    "check_model",
    "check_turn_end",
    "compile_template",
    "declared_checkpoint",
    "declared_dtype",
    "folder_digest",
    "is_adapter",
    "locate_model",
    "model_files",
    "model_manifest",
    "open_checkpoint",
    "read_json",
    "read_tensors",
    "text_counter",
    "token_counter",
    "tokenizer_files",
    "trained_model",
]
