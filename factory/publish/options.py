"""Options of `factory publish`, and their validation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from factory.errors import Argument, LakeError, PublishError
from factory.lake import verify_folders
from factory.plan import RecipeState
from factory.publish.gate import check_names
from factory.publish.repository import iterations


@dataclass(frozen=True)
class PublishOptions:
    """Options of `factory publish`, except the recipe and the lake."""

    repository: str
    """Name of the dataset repository, as ORG/NAME."""
    public: bool = False
    """Whether to create a public repository. An existing repository keeps its visibility."""
    branch: str | None = None
    """Branch to commit to; None is main."""
    as_pull: bool = False
    """Whether to open a pull request instead of committing."""
    tag: str | None = None
    """Tag for the commit."""
    allowed: Sequence[str] = ()
    """Names of the pre-publish checks that may fail."""
    evaluation: Sequence[Path] = ()
    """Files of evaluation sets to check the prompts against for contamination."""


def check_options(state: RecipeState, options: PublishOptions) -> None:
    """Check the lake and the options of `factory publish` before any file is written.

    Raises PublishError if an option is invalid or no iteration is finished, and LakeError if files
    of the lake have changed since they were written.
    """
    check_repository(options.repository)
    check_names(options.allowed)
    for file in options.evaluation:
        if not file.is_file():
            raise PublishError(
                Argument("evaluation"), f"the file {file} does not exist", "choose an existing file"
            )
    if options.as_pull and options.tag:
        raise PublishError(
            Argument("tag"),
            "a pull request cannot be tagged",
            "create a pull request or a tag, but not both",
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
            f"{len(report.faults)} files have changed since they were written (for example, "
            f"{fault.file}: {fault.why})",
            "run `factory verify` to list the changed files, then `factory run` to regenerate them",
        )


def check_repository(name: str) -> None:
    """Raise PublishError unless a repository name has the form ORG/NAME and is valid on the Hub."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    wanted = "use ORG/NAME with at most 96 characters (letters, digits, -, _, and .)"
    if name.count("/") != 1:
        raise PublishError(Argument("repo"), f"got {name}", wanted)
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise PublishError(
            Argument("repo"),
            f"got {name}",
            f"{wanted}, and do not put - or . at the start, at the end, or twice in a row",
        ) from None
