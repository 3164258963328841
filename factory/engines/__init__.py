"""Engines answer requests: vLLM, transformers, OpenAI-compatible servers, functions, scripts."""

from factory.engines.gpus import Gpu, find_gpus, groups, parse, visible
from factory.engines.labels import label_tokens, score_start, score_token
from factory.engines.open import check_engine, open_engine
from factory.engines.protocol import Engine, Request, Result

__all__ = [
    "Engine",
    "Gpu",
    "Request",
    "Result",
    "check_engine",
    "find_gpus",
    "groups",
    "label_tokens",
    "open_engine",
    "parse",
    "score_start",
    "score_token",
    "visible",
]
