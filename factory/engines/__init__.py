"""Engines that answer requests: vLLM, transformers, OpenAI-compatible servers, and functions."""

from factory.engines.gpus import Gpu, find_gpus, group_gpus, parse_gpus, visible_gpus
from factory.engines.labels import LabelTree, label_tree, score_start, score_token
from factory.engines.open import check_engine, open_engine
from factory.engines.openai_replies import OddReply, read_models
from factory.engines.protocol import Engine, Request, Result
from factory.engines.results import checked_results
from factory.engines.threads import share_cores
from factory.engines.tokenizers import load_tokenizer

__all__ = [
    "Engine",
    "Gpu",
    "LabelTree",
    "OddReply",
    "Request",
    "Result",
    "check_engine",
    "checked_results",
    "find_gpus",
    "group_gpus",
    "label_tree",
    "load_tokenizer",
    "open_engine",
    "parse_gpus",
    "read_models",
    "score_start",
    "score_token",
    "share_cores",
    "visible_gpus",
]
