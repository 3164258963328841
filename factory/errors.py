"""Exceptions that the factory raises, and their exit codes on the command line.

    FactoryError
    ├── UserError            exit 2: the user's input is wrong
    │   ├── RecipeError      a field of a recipe, or of `--set`
    │   │   └── InvalidRecipe    all problems of a recipe
    │   ├── PromptsError     a line of a prompt file
    │   ├── ModelError       a model folder or repository
    │   │   └── MissingModel     a model whose files are not on this machine
    │   │       └── NotDownloaded    a repository that `factory run` can download
    │   ├── RubricError      a rubric file
    │   ├── FunctionError    a Python function named in the recipe
    │   ├── QueryError       a query given to `factory sql`
    │   ├── ExportError      the options or the source of `factory export`
    │   ├── PublishError     the options or the target of `factory publish`
    │   └── MissingExtra     a package that belongs to an optional extra
    ├── HandOver             exit 3: the recipe leaves a training to the user
    └── WorkError            exit 1: the input is valid, and the work failed
        ├── LakeError        a full or read-only disk, or a broken shard
        ├── StepFailed       too many failed requests, or no pairs to train on
        ├── EngineError      an engine that cannot start or continue
        ├── CostLimitReached requests that would cost more than engine.max_cost
        ├── TrainError       a trainer that ended without a model
        ├── Refused          pre-publish checks that failed
        └── HubError         an upload that the Hub refused

Every error stores its place (`field`), its cause (`fault`), and the action to take (`remedy`) as
separate attributes. The command line joins them into one line and prints no traceback. Any other
exception is a bug and keeps its traceback.
"""

import re
from collections.abc import Sequence

from factory.texts import mask_secrets

_LONG_LINE = re.compile(r"^(.{300}).{600,}(.{100})$", re.MULTILINE)
"""A line of at least 1,000 characters, of which a message shows the beginning and the end."""


class Argument(str):
    """The name of an argument of the Python API, for example as the `field` of an error.

    Its `option` is the command-line option with the same meaning.
    """

    option: str

    def __new__(cls, name: str, option: str = "") -> "Argument":
        """`name` may end with the argument's value, as in `set seed=x`."""
        argument = super().__new__(cls, name)
        word, space, value = name.partition(" ")
        argument.option = option or f"--{word.replace('_', '-')}{space}{value}"
        return argument


class FactoryError(Exception):
    """Base class of all exceptions that the factory raises on purpose.

    `exit_code` is the exit code of the command.
    """

    exit_code = 1

    def __init__(self, field: str, fault: str, remedy: str = "", file: str = "") -> None:
        """Store the parts of the message, with masked secrets.

        `field` is the recipe field, argument, file, or step at fault. `file` is the file that
        contains the field, if the message should name it.
        """
        field, fault, remedy, file = map(mask_secrets, (field, fault, remedy, file))
        super().__init__(field, fault, remedy, file)  # unpickling passes `args` to __init__
        self.field = field
        self.fault = fault
        self.remedy = remedy
        self.file = file

    def __str__(self) -> str:
        parts = (self.file, self.field, self.fault, self.remedy)
        return ": ".join(_LONG_LINE.sub(r"\1 … \2", part) for part in parts if part)

    def name_options(self) -> None:
        """Name options of the command line instead of arguments of the Python API."""
        self.file = getattr(self.file, "option", self.file)
        self.field = getattr(self.field, "option", self.field)


class UserError(FactoryError):
    """Base class of errors in the user's input, such as a recipe, an option, or a file."""

    exit_code = 2


class RecipeError(UserError):
    """A field in the recipe or in a `--set` override is invalid."""


MOST_PROBLEMS = 10
"""Maximum number of problems in the message about an invalid recipe (our choice)."""


class InvalidRecipe(RecipeError):
    """The recipe is invalid. The message lists its first problems, one per line.

    The attributes `field`, `fault`, `remedy`, and `file` are those of the first problem.
    """

    def __init__(self, problems: Sequence[RecipeError]) -> None:
        first = problems[0]
        super().__init__(first.field, first.fault, first.remedy, first.file)
        self.args = (problems,)
        self.problems = tuple(problems)

    def name_options(self) -> None:
        super().name_options()
        for problem in self.problems:
            problem.name_options()

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems[:MOST_PROBLEMS]]
        if more := len(self.problems) - len(lines):
            lines.append(f"… and {more:,} more problems")
        return "\n".join(lines)


class PromptsError(UserError):
    """A line in a prompt file is invalid."""


class ModelError(UserError):
    """A model's folder or Hub repository is missing or invalid."""


class MissingModel(ModelError):
    """A model's folder, weights, tokenizer, or adapter is not on this machine."""


class NotDownloaded(MissingModel):
    """A model's Hub repository has not been downloaded to this machine."""


class RubricError(UserError):
    """A rubric file is invalid."""


class FunctionError(UserError):
    """A Python function named in the recipe cannot be found or imported."""


class QueryError(UserError):
    """A SQL query or a pair ID from the user is invalid."""


class ExportError(UserError):
    """An option of `factory export`, or the source to export, is invalid."""


class PublishError(UserError):
    """An option of `factory publish`, or the target repository, is invalid."""


class MissingExtra(UserError):
    """A required Python package is not installed. The attribute `extra` names the pip extra with
    it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            package,
            "the package is not installed",
            f"run pip install 'preference-factory[{extra}]'",
        )
        self.args = (package, extra)


class HandOver(FactoryError):
    """The run stopped because the user has to train the next model."""

    exit_code = 3


class WorkError(FactoryError):
    """Base class of errors that occur although the user's input is valid."""

    exit_code = 1


class LakeError(WorkError):
    """The lake cannot be read or written."""


class StepFailed(WorkError):
    """A step of the run failed."""


class EngineError(WorkError):
    """An inference engine cannot start or continue."""


class CostLimitReached(WorkError):
    """The next request would cost more than the recipe allows. Finished rows are saved."""


class TrainError(WorkError):
    """A training process ended without writing a model."""


class Refused(WorkError):
    """The pre-publish checks failed, so nothing was published."""


class HubError(WorkError):
    """The Hugging Face Hub refused a request or could not be reached."""


def one_line(text: object, limit: int | None = None) -> str:
    """Shorten a text or an error message to one line of at most `limit` characters."""
    return " ".join(str(text).split())[:limit]
