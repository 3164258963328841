"""Model folders: digests, adapters, chat templates, and token counts, without loading weights."""

from factory.models.adapters import adapter_rank, check_adapter
from factory.models.chat import Conversation, chat_message
from factory.models.checkpoint import Checkpoint
from factory.models.config import declared_dtype, read_json, text_config
from factory.models.digest import (
    adapter_digest,
    as_run,
    cached_digest,
    folder_digest,
    is_adapter,
    model_files,
    tokenizer_files,
)
from factory.models.loaded import check_all_weights, check_loaded
from factory.models.locate import check_model, locate_model
from factory.models.open import declared_checkpoint, open_checkpoint
from factory.models.safetensors import Tensor, read_tensors
from factory.models.templates import ChatTemplates, chat_template, prints_date, read_templates
from factory.models.tokens import (
    auto_tokenizer,
    check_prompting,
    fast_tokenizer,
    prompt_encoder,
    prompt_renderer,
    special_tokens,
    text_counter,
    token_counter,
)
from factory.models.trained import broken_files, model_manifest, trained_model
from factory.models.turns import check_prompt_shown, check_turn_end, control_tokens

__all__ = [
    "ChatTemplates",
    "Checkpoint",
    "Conversation",
    "Tensor",
    "adapter_digest",
    "adapter_rank",
    "as_run",
    "auto_tokenizer",
    "broken_files",
    "cached_digest",
    "chat_message",
    "chat_template",
    "check_adapter",
    "check_all_weights",
    "check_loaded",
    "check_model",
    "check_prompt_shown",
    "check_prompting",
    "check_turn_end",
    "control_tokens",
    "declared_checkpoint",
    "declared_dtype",
    "fast_tokenizer",
    "folder_digest",
    "is_adapter",
    "locate_model",
    "model_files",
    "model_manifest",
    "open_checkpoint",
    "prints_date",
    "prompt_encoder",
    "prompt_renderer",
    "read_json",
    "read_templates",
    "read_tensors",
    "special_tokens",
    "text_config",
    "text_counter",
    "token_counter",
    "tokenizer_files",
    "trained_model",
]
