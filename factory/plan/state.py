"""The state of a step: its lake folder and its counts of stored and missing rows."""

from dataclasses import dataclass, field
from typing import Any

from factory.lake import Folder
from factory.plan.step import Step


@dataclass(frozen=True)
class StepState:
    """The state of a step: its lake folder and its counts of stored and missing rows."""

    step: Step
    folder: Folder | None = None
    """Folder of the step's rows; None if its key is not known yet."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings that are hashed to the folder's key."""
    request_key: str = ""
    """Key that a generating step's request ids include. It does not depend on `max_tokens`."""
    waits_for: str | None = None
    """The model or step that must be finished first; None if the step can run."""
    wanted: int = 0
    """Number of rows that the recipe requires."""
    answered: int = 0
    """Rows that are stored without an error."""
    failed: int = 0
    """Requests that failed permanently."""
    transient: int = 0
    """Requests that failed temporarily. The next run retries them."""
    filtered: int = 0
    """Rows that are skipped because their input failed or is empty."""
    unparsed: int = 0
    """Verdicts without a score."""
    reused: int = 0
    """Missing rows that can be copied from a folder with another `max_tokens`."""

    @property
    def missing(self) -> int:
        """The number of rows still to be produced, including retries of temporary failures."""
        return self.wanted - self.answered - self.failed - self.filtered

    @property
    def done(self) -> bool:
        """Whether a run has nothing left to do for this step."""
        return self.waits_for is None and self.missing == 0


def folder_of(state: StepState) -> Folder:
    """Return a step's lake folder. Assert that the folder is already known."""
    assert state.folder is not None, f"{state.step.label} has no key yet"
    return state.folder
