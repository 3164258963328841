"""A tokenizer for the quickstart's model, with tokens for words and single characters.

The letters of a task are separate tokens, so that the model can process each of them. The fixed
words of the prompts, the rubric, and the judgments are one token each (with the space before them),
so that sequences are short. Every printable ASCII character has a token, so that encoding and
decoding return the original text.
"""

import re
import string

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
CHARACTERS = ["\n", *filter(str.isprintable, string.printable)]
MAX_LENGTH = 256

CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role not in ['system', 'user', 'assistant'] %}
        {{- raise_exception('Unknown role: ' + message.role) }}
    {%- endif %}
    {{- '<|' + message.role + '|>' + message.content }}
    {%- if message.role == 'assistant' %}
        {{- eos_token }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
{%- endif %}
"""


def build(fixed_text: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token for each word in `fixed_text`."""
    words = sorted(set(re.findall(r" ?[A-Za-z]{2,}", fixed_text)), key=lambda w: (-len(w), w))
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *CHARACTERS, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    starts = [word if word.startswith(" ") else rf"(?<![A-Za-z]){word}" for word in words]
    pieces = Regex(rf"(?:{'|'.join(starts)})(?![A-Za-z])|[\s\S]")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=SPECIAL[4:],
        chat_template=CHAT_TEMPLATE,
        model_max_length=MAX_LENGTH,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
