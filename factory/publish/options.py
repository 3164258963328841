"""What to publish and where: the options of `factory publish`, checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from factory.errors import LakeError, PublishError
from factory.lake import verify_folders
from factory.plan import RecipeState
from factory.publish.gate import check_names
from factory.publish.repository import iterations


@dataclass(frozen=True)
class PublishOptions:
    """The options of `factory publish`, apart from the recipe."""

    repository: str
    """organisation/name"""
    public: bool = False
    """Of a repository that is made; one that is there stays as it is."""
    branch: str | None = None
    as_pull: bool = False
    tag: str | None = None
    allowed: Sequence[str] = ()
    """The checks of the gate that may find what they look for."""
    evaluation: Sequence[Path] = ()
    """Files with texts that no prompt may share."""


def check_options(state: RecipeState, options: PublishOptions) -> None:
    """What can be refused before anything is written: raises PublishError for an option, for a
    recipe that was never run, LakeError where the lake is not what it was."""
    check_repository(options.repository)
    check_names(options.allowed)
    for file in options.evaluation:
        if not file.is_file():
            raise PublishError("--evaluation", f"no such file {file}", "expected a file with texts")
    if options.as_pull and options.tag:
        raise PublishError(
            "--tag",
            "a tag names a commit of a branch, and --create-pr makes none",
            "use one of the two",
        )
    made = iterations(state)
    folders = {
        step_state.folder.key: step_state.folder
        for step, step_state in state.steps.items()
        if step_state.folder and step.iteration in made
    }
    report = verify_folders(folders.values())
    if report.faults:
        fault = report.faults[0]
        raise LakeError(
            "the lake",
            f"{len(report.faults)} files are not as they were written, {fault.file} ({fault.why}) "
            "among them",
            "`factory verify` lists them, and `factory run` makes the missing rows again",
        )


def check_repository(name: str) -> None:
    """Raises PublishError unless a name is one that the Hub takes, with its organisation."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    wanted = "expected ORG/NAME of letters, digits, -, _ and ., 96 characters at most"
    if name.count("/") != 1:
        raise PublishError("--repo", f"got {name}", wanted)
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise PublishError(
            "--repo",
            f"got {name}",
            f"{wanted}, none of - and . at an end of the name or twice in a row",
        ) from None
