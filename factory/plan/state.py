"""The state of one step: the folder of its rows in the lake, and how many of them are there."""

from dataclasses import dataclass, field
from typing import Any

from factory.lake import Folder
from factory.plan.step import Step


@dataclass(frozen=True)
class StepState:
    """What the lake holds of a step."""

    step: Step
    folder: Folder | None = None
    """None if its key is not known yet."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What the key is a hash of."""
    request_key: str = ""
    """For steps that generate: the key without the limit on length, which request ids hash."""
    waits_for: str | None = None
    """The model or step that has to be finished first."""
    wanted: int = 0
    answered: int = 0
    failed: int = 0
    """Requests that failed permanently."""
    transient: int = 0
    """Requests that failed temporarily: the next run sends them again."""
    filtered: int = 0
    """Rows that are not requested, because their input failed."""
    unparsed: int = 0
    """Judgments without a score."""
    reused: int = 0
    """Missing rows that can be copied from a folder with another limit on length."""

    @property
    def missing(self) -> int:
        return self.wanted - self.answered - self.failed - self.filtered

    @property
    def done(self) -> bool:
        return self.waits_for is None and self.missing == 0


def folder_of(state: StepState) -> Folder:
    """The folder of a step whose key is known."""
    assert state.folder is not None, f"{state.step.label} has no key yet"
    return state.folder
