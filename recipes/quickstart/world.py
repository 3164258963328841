"""A world small enough to know the right answer: tasks over random lower-case letters.

    copy     "Copy the letters of stone."     -> "stone."
    reverse  "Reverse the letters of stone."  -> "enots."
    advance  "Advance the letters of stone."  -> "tupof."   (the next letter; a follows z)

Makes tasks from a seeded generator, answers them, and spoils answers on purpose, so that a model
taught on them writes answers of mixed quality. The grade of an answer is `gold.points`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LENGTHS = (4, 5)
SLIPS = {"change": 6, "swap": 2, "drop": 1, "double": 1, "stop": 3}
"""Weights of the kinds of slips: a letter changed, swapped, dropped or doubled, the stop lost."""


def _advance(letters: str) -> str:
    return "".join(LETTERS[(LETTERS.index(letter) + 1) % 26] for letter in letters)


TASKS: dict[str, Callable[[str], str]] = {
    "copy": lambda letters: letters,
    "reverse": lambda letters: letters[::-1],
    "advance": _advance,
}


@dataclass(frozen=True)
class Item:
    """One task on one string."""

    task: str
    """A key of TASKS."""
    letters: str
    """The string to work on."""

    @property
    def prompt(self) -> str:
        """The words a user would send."""
        return f"{self.task.capitalize()} the letters of {self.letters}."

    @property
    def reference(self) -> str:
        """The one right answer; it ends with a full stop."""
        return TASKS[self.task](self.letters) + "."


def draw(rng: Random) -> Item:
    """Draw a task and a string, each uniformly."""
    letters = "".join(rng.choices(LETTERS, k=rng.choice(LENGTHS)))
    return Item(rng.choice(list(TASKS)), letters)


def spoil(rng: Random, answer: str, slips: int) -> str:
    """Make slips in an answer, each of a kind drawn by the weights in SLIPS."""
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
