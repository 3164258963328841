"""The model families of the zoo: what distinguishes their configs, tokenizers, and chat templates.

The facts about each family come from the files of its models on the Hub. The chat templates in
`templates/` behave like the originals, but their text is our own.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Family:
    """A model family, and how its chat models differ from those of other families."""

    name: str
    config: str
    """Name of the config class in transformers."""
    template: str
    """Name of the chat template in `templates/`."""
    pieces: Literal["bytes", "sentencepiece"]
    """Kind of vocabulary: byte-level BPE, or BPE with byte fallback and `▁` for spaces."""
    tokenizer: str
    """Tokenizer class named in `tokenizer_config.json`. Transformers rebuilds most of them from
    the vocabulary alone."""
    special: tuple[str, ...]
    """Special tokens. Those of a SentencePiece vocabulary come first, as in the originals."""
    eos: str
    bos: str | None = None
    pad: str | None = None
    unk: str | None = None
    adds_bos: bool = False
    """Whether the tokenizer's post-processor adds the BOS token to every text."""
    ends: str = ""
    """Token that ends an assistant's turn in the template."""
    stops: tuple[str, ...] = ()
    """Tokens in `eos_token_id` of the configuration."""
    stops_in: Literal["generation_config.json", "config.json"] = "generation_config.json"
    fields: dict[str, Any] = field(default_factory=dict)
    """Fields of the model's config."""
    dtype: str | None = "float32"
    """Data type in `config.json`. None omits the field, and the weights are stored in float32."""
    tokenizer_fields: dict[str, Any] = field(default_factory=dict)
    """Further fields of `tokenizer_config.json`."""
    template_in: Literal["chat_template.jinja", "tokenizer_config.json"] = "chat_template.jinja"
    shards: bool = False
    """Whether the weights are split into several files."""
    system: Literal["shown", "merged", "refused"] = "shown"
    """What the template does with a system message."""
    alternates: bool = False
    """Whether the template refuses two messages of the same role in a row."""
    drops_thoughts: bool = False
    """Whether the template removes the reasoning from earlier turns."""
    tools: bool = False
    """Whether the template shows tools."""

    @property
    def template_text(self) -> str:
        return (TEMPLATES / f"{self.template}.jinja").read_text(encoding="utf-8")


_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

_LAYERS = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 24}

_GEMMA = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>")

FAMILIES = (
    Family(
        "llama-3.2",
        "LlamaConfig",
        "llama3",
        "bytes",
        "PreTrainedTokenizerFast",
        (
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eom_id|>",
            "<|eot_id|>",
        ),
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        adds_bos=True,
        ends="<|eot_id|>",
        stops=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        fields={
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 512,
            },
        },
        dtype="bfloat16",
        tokenizer_fields={"clean_up_tokenization_spaces": True},
        tools=True,
    ),
    Family(
        "qwen2.5",
        "Qwen2Config",
        "chatml",
        "bytes",
        "Qwen2Tokenizer",
        _CHATML,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        ends="<|im_end|>",
        stops=("<|im_end|>", "<|endoftext|>"),
        fields={"tie_word_embeddings": True},
        tokenizer_fields={"add_bos_token": False},
        template_in="tokenizer_config.json",
        tools=True,
    ),
    Family(
        "qwen3",
        "Qwen3Config",
        "qwen3",
        "bytes",
        "Qwen2Tokenizer",
        _CHATML,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        ends="<|im_end|>",
        stops=("<|im_end|>", "<|endoftext|>"),
        fields={"tie_word_embeddings": False},
        dtype="bfloat16",
        tokenizer_fields={"add_bos_token": False},
        shards=True,
        drops_thoughts=True,
        tools=True,
    ),
    Family(
        "mistral-0.1",
        "MistralConfig",
        "mistral",
        "sentencepiece",
        "LlamaTokenizer",
        ("<unk>", "<s>", "</s>"),
        bos="<s>",
        eos="</s>",
        unk="<unk>",
        adds_bos=True,
        ends="</s>",
        stops=("</s>",),
        fields={"sliding_window": 24, "tie_word_embeddings": False},
        tokenizer_fields={"add_bos_token": True, "legacy": True},
        template_in="tokenizer_config.json",
        shards=True,
        system="refused",
        alternates=True,
    ),
    Family(
        "gemma-2",
        "Gemma2Config",
        "gemma2",
        "sentencepiece",
        "GemmaTokenizer",
        _GEMMA,
        bos="<bos>",
        eos="<eos>",
        pad="<pad>",
        unk="<unk>",
        adds_bos=True,
        ends="<end_of_turn>",
        stops=("<eos>", "<end_of_turn>"),
        fields={"tie_word_embeddings": True, "query_pre_attn_scalar": 32, **_LAYERS},
        tokenizer_fields={"add_bos_token": True},
        template_in="tokenizer_config.json",
        system="refused",
        alternates=True,
    ),
    Family(
        "gemma-3",
        "Gemma3TextConfig",
        "gemma3",
        "sentencepiece",
        "GemmaTokenizer",
        (*_GEMMA, "<start_of_image>"),
        bos="<bos>",
        eos="<eos>",
        pad="<pad>",
        unk="<unk>",
        adds_bos=True,
        ends="<end_of_turn>",
        stops=("<eos>", "<end_of_turn>"),
        stops_in="config.json",
        fields={"tie_word_embeddings": True, "query_pre_attn_scalar": 32, **_LAYERS},
        dtype="bfloat16",
        tokenizer_fields={"add_bos_token": True},
        system="merged",
        alternates=True,
    ),
    Family(
        "phi-3",
        "Phi3Config",
        "phi3",
        "sentencepiece",
        "LlamaTokenizer",
        (
            "<unk>",
            "<s>",
            "</s>",
            "<|endoftext|>",
            "<|system|>",
            "<|user|>",
            "<|assistant|>",
            "<|end|>",
        ),
        bos="<s>",
        eos="<|endoftext|>",
        pad="<|endoftext|>",
        unk="<unk>",
        ends="<|end|>",
        stops=("<|endoftext|>", "<|assistant|>", "<|end|>"),
        fields={"sliding_window": 2047, "tie_word_embeddings": False},
        tokenizer_fields={"add_bos_token": False, "legacy": False},
        template_in="tokenizer_config.json",
    ),
    Family(
        "phi-4",
        "Phi3Config",
        "phi4",
        "bytes",
        "GPT2Tokenizer",
        (*_CHATML, "<|im_sep|>", "<|dummy_85|>"),
        bos="<|endoftext|>",
        eos="<|im_end|>",
        pad="<|dummy_85|>",
        unk="<|endoftext|>",
        ends="<|im_end|>",
        stops=("<|endoftext|>", "<|im_end|>"),
        fields={"sliding_window": None, "tie_word_embeddings": False},
        dtype="bfloat16",
    ),
    Family(
        "olmo-2",
        "Olmo2Config",
        "olmo2",
        "bytes",
        "GPT2Tokenizer",
        ("<|endoftext|>", "<|pad|>"),
        bos="<|endoftext|>",
        eos="<|endoftext|>",
        pad="<|pad|>",
        unk="<|endoftext|>",
        ends="<|endoftext|>",
        stops=("<|endoftext|>",),
        fields={"tie_word_embeddings": False},
    ),
    Family(
        "olmo-3",
        "Olmo3Config",
        "olmo3",
        "bytes",
        "GPT2Tokenizer",
        (*_CHATML, "<|pad|>"),
        bos="<|endoftext|>",
        eos="<|endoftext|>",
        pad="<|pad|>",
        unk="<|endoftext|>",
        ends="<|endoftext|>",
        stops=("<|im_end|>", "<|endoftext|>"),
        fields={"tie_word_embeddings": False, **_LAYERS},
        shards=True,
        tools=True,
    ),
    Family(
        "smollm3",
        "SmolLM3Config",
        "smollm3",
        "bytes",
        "PreTrainedTokenizerFast",
        ("<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>"),
        eos="<|im_end|>",
        pad="<|im_end|>",
        ends="<|im_end|>",
        stops=("<|im_end|>",),
        fields={
            "tie_word_embeddings": True,
            "no_rope_layers": [1, 0],
            "layer_types": ["full_attention", "full_attention"],
        },
        dtype="bfloat16",
        drops_thoughts=True,
        tools=True,
    ),
    Family(
        "smollm2-gguf",
        "LlamaConfig",
        "chatml",
        "bytes",
        "TokenizersBackend",
        _CHATML,
        bos="<|im_start|>",
        eos="<|im_end|>",
        pad="<|im_end|>",
        unk="<|endoftext|>",
        ends="<|im_end|>",
        stops=("<|im_end|>",),
        stops_in="config.json",
        fields={"tie_word_embeddings": True},
        dtype=None,
        tools=True,
    ),
)
