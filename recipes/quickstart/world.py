"""Generated tasks on strings of letters, each with a known correct answer.

    copy     "Copy the letters of stone."     -> "stone."
    reverse  "Reverse the letters of stone."  -> "enots."
    advance  "Advance the letters of stone."  -> "tupof."   (the next letter; a follows z)

This module generates tasks from a seeded generator, answers them, and adds errors to answers, so
that a model trained on them writes answers of mixed quality. `gold.points` grades an answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LENGTHS = (4, 5)
SLIPS = {"change": 6, "swap": 2, "drop": 1, "double": 1, "stop": 3}
"""Weights of the kinds of errors: change, swap, drop, or double a letter, or drop the period."""


def _advance(letters: str) -> str:
    return "".join(LETTERS[(LETTERS.index(letter) + 1) % 26] for letter in letters)


TASKS: dict[str, Callable[[str], str]] = {
    "copy": lambda letters: letters,
    "reverse": lambda letters: letters[::-1],
    "advance": _advance,
}


@dataclass(frozen=True)
class Item:
    """A task, such as `reverse`, and the string of letters that it applies to."""

    task: str
    """Name of the task, a key of TASKS."""
    letters: str
    """String that the task applies to."""

    @property
    def prompt(self) -> str:
        """The user message that states the task."""
        return f"{self.task.capitalize()} the letters of {self.letters}."

    @property
    def reference(self) -> str:
        """The only correct answer to the task. It ends with a period."""
        return TASKS[self.task](self.letters) + "."


def draw(rng: Random) -> Item:
    """Return a random task with a random string of letters."""
    letters = "".join(rng.choices(LETTERS, k=rng.choice(LENGTHS)))
    return Item(rng.choice(list(TASKS)), letters)


def spoil(rng: Random, answer: str, slips: int) -> str:
    """Add `slips` random errors to an answer. SLIPS determines how often each kind occurs."""
    letters, stop = answer.removesuffix("."), "."
    for _ in range(slips):
        at = rng.randrange(len(letters))
        head, letter, tail = letters[:at], letters[at], letters[at + 1 :]
        match rng.choices(list(SLIPS), list(SLIPS.values()))[0]:
            case "change":
                letters = head + rng.choice(LETTERS) + tail
            case "swap":
                letters = head + tail[:1] + letter + tail[1:]
            case "drop":
                letters = head + tail or letter
            case "double":
                letters = head + letter + letter + tail
            case "stop":
                stop = ""
    return letters + stop
