"""Options of `factory publish`, and their validation."""

import re
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
    private: bool = False
    """Whether to refuse an existing public repository. A new repository is private anyway."""
    branch: str | None = None
    """Branch to commit to; None is main."""
    as_pull: bool = False
    """Whether to open or update a pull request instead of committing."""
    tag: str | None = None
    """Tag for the commit."""
    collection: str | None = None
    """Slug of a collection to add the dataset to."""
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
    _check_target(options)
    check_names(options.allowed)
    for file in options.evaluation:
        if not file.is_file():
            raise PublishError(
                Argument("evaluation"), f"the file {file} does not exist", "choose an existing file"
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


def _check_target(options: PublishOptions) -> None:
    """Raise PublishError if a name is invalid on the Hub, or if two options exclude each other."""
    check_reference("branch", options.branch)
    check_reference("tag", options.tag)
    check_collection(options.collection)
    if options.public and options.private:
        raise PublishError(
            Argument("private"), "the option --public is also set", "set only one of them"
        )
    if options.as_pull and options.tag:
        raise PublishError(
            Argument("tag"),
            "a pull request cannot be tagged",
            "create a pull request or a tag, but not both",
        )
    if options.as_pull and options.branch not in (None, "main"):
        raise PublishError(
            Argument("branch"),
            "a pull request has a branch of its own and is merged into main",
            "create a pull request or a branch, but not both",
        )


_REFERENCE = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._/+-]*[A-Za-z0-9_+-])?")
_NOT_IN_REFERENCE = re.compile(r"\.\.|//|/\.|\./|\.lock(?:/|$)|^refs/|^HEAD$|^[0-9a-f]{40}$")
_LONGEST_REFERENCE = 200
_COLLECTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9_-]+-[0-9a-f]{24}")


def check_reference(argument: str, name: str | None) -> None:
    """Raise PublishError if the name of a branch or a tag is invalid. None is valid.

    The rules are those of git, without the characters that have a meaning in an address or a shell.
    """
    if name is None:
        return
    is_valid = len(name) <= _LONGEST_REFERENCE and _REFERENCE.fullmatch(name)
    if not is_valid or _NOT_IN_REFERENCE.search(name) or (argument == "tag" and name == "main"):
        raise PublishError(
            Argument(argument),
            f"got {_quoted(name)}",
            f"use a short name such as {'v1' if argument == 'tag' else 'next'} (letters, digits, "
            "and . _ - + / between them), without refs/, and no commit ID",
        )


def check_collection(slug: str | None) -> None:
    """Raise PublishError unless a slug has the form that the Hub gives to collections."""
    if slug is not None and not (len(slug) <= _LONGEST_REFERENCE and _COLLECTION.fullmatch(slug)):
        raise PublishError(
            Argument("collection"),
            f"got {_quoted(slug)}",
            "use the end of the collection's URL: OWNER/TITLE-ID, with an ID of 24 characters",
        )


def _quoted(name: str) -> str:
    """Return a name in quotes, shortened and with special characters escaped."""
    shown = repr(name)
    return shown if len(shown) <= 60 else f"{shown[:59]}…"
