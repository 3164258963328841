"""The state of one step in the lake."""

from dataclasses import dataclass, field
from typing import Any

from factory.lake import Folder
from factory.plan.step import Step


@dataclass(frozen=True)
class StepState:
    """A step, as the lake has it."""

    step: Step
    folder: Folder | None = None
    """None where its key is not known yet."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What the key was made of."""
    asked: str = ""
    """Of generating steps: the key without the limit on length, which requests are made of."""
    waits_for: str | None = None
    wanted: int = 0
    answered: int = 0
    failed: int = 0
    """Failed for good."""
    transient: int = 0
    """Failed for now: asked again by the next run."""
    filtered: int = 0
    """Not asked for: their input failed."""
    unparsed: int = 0
    carried: int = 0
    """Of what is missing: answered under another limit on length, and taken over from there."""

    @property
    def missing(self) -> int:
        return self.wanted - self.answered - self.failed - self.filtered

    @property
    def done(self) -> bool:
        return self.waits_for is None and self.missing == 0


def folder_of(found: StepState) -> Folder:
    assert found.folder is not None, f"{found.step.label} has no key yet"
    return found.folder
