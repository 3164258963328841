"""Conversations for the zoo, and what transformers makes of them."""

from datetime import datetime

import transformers
from zoo.families import Family

TRICKY = "a , b !  it ' s 007\n\n  # über 🦓 <b>é</b>\t10 %  "
"""A text that some decoders change, with spaces before punctuation and rare characters."""

ASK = [{"role": "user", "content": "Which animal is this?"}]
TALK = [
    {"role": "user", "content": TRICKY},
    {"role": "assistant", "content": "A zebra."},
    {"role": "user", "content": "And now?"},
]
SYSTEM = {"role": "system", "content": "Speak as the keeper."}
TWICE = [*ASK, {"role": "user", "content": "Look!"}]
THOUGHT = [
    ASK[0],
    {"role": "assistant", "content": "<think>\nStripes, so horses.\n</think>\n\nA zebra."},
    TALK[2],
]

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "open_cage",
            "description": "Open a cage.",
            "parameters": {
                "type": "object",
                "properties": {"number": {"type": "integer"}},
                "required": ["number"],
            },
        },
    }
]


def conversations(family: Family) -> dict[str, list[dict[str, str]]]:
    """Return conversations that the family's chat template accepts, by name."""
    found = {"ask": ASK, "talk": TALK, "thought": THOUGHT}
    if family.system != "refused":
        found |= {"system": [SYSTEM, *ASK], "system talk": [SYSTEM, *TALK]}
    if not family.alternates:
        found["twice"] = TWICE
    return found


def refused(family: Family) -> dict[str, list[dict[str, str]]]:
    """Return conversations that the family's chat template refuses, by name."""
    found = {}
    if family.system == "refused":
        found["system"] = [SYSTEM, *ASK]
    if family.alternates:
        found["twice"] = TWICE
    return found


class FixedClock(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, tzinfo=tz)


def prompt_ids(tokenizer: transformers.PreTrainedTokenizerBase, messages, **settings) -> list[int]:
    """Return the tokens of a prompt as transformers' own `apply_chat_template` makes them."""
    encoded = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True, **settings
    )
    return encoded["input_ids"]
