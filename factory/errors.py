"""Every error that the factory raises on purpose.

    FactoryError
    ├── UserError            exit 2: what came, what was expected, what to do
    │   ├── RecipeError      a field of a recipe, or of `--set`
    │   │   └── InvalidRecipe    all problems of a recipe
    │   ├── PromptsError     a line of a prompts file
    │   ├── ModelError       a model folder or repository
    │   │   └── NotDownloaded    a repository that is not on this machine yet
    │   ├── RubricError      a rubric file
    │   ├── FunctionError    a Python function that a recipe names
    │   ├── QueryError       a query given to `factory sql`
    │   ├── ExportError      what `factory export` is to write, of what, or where
    │   ├── PublishError     what is to be published, or where to
    │   └── MissingExtra     a package that an extra brings
    ├── HandOver             exit 3: a training that the recipe leaves to a person
    └── WorkError            exit 1: the input was right, and the work failed
        ├── LakeError        the disk is full, read-only, or a shard is broken
        ├── StepFailed       too many failures, or nothing left to learn from
        ├── EngineError      an engine could not start or go on
        ├── TrainError       the trainer ended without a model
        ├── Refused          the gate found what must not be published
        └── HubError         the Hub did not take it

Every error carries what it is about (`field`), what is wrong (`fault`), and what to do (`remedy`)
as data. The command line prints them as one sentence without a traceback. Any other exception is a
bug and keeps its traceback.
"""

from collections.abc import Sequence


class FactoryError(Exception):
    """A failure that the factory understands. `exit_code` is the exit code of the command."""

    exit_code = 1

    def __init__(self, field: str, fault: str, remedy: str = "", file: str = "") -> None:
        """`field` is the recipe field, option, file, or step at fault; `file` the file with the
        field, where the message should name it."""
        super().__init__(field, fault, remedy, file)  # all four, so that a copy can be unpickled
        self.field = field
        self.fault = fault
        self.remedy = remedy
        self.file = file

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.field, self.fault, self.remedy) if part)


class UserError(FactoryError):
    exit_code = 2


class RecipeError(UserError): ...


class InvalidRecipe(RecipeError):
    """All problems of a recipe, one line each. The error's own data is that of the first one."""

    def __init__(self, problems: Sequence[RecipeError]) -> None:
        first = problems[0]
        super().__init__(first.field, first.fault, first.remedy, first.file)
        self.args = (problems,)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class PromptsError(UserError): ...


class ModelError(UserError): ...


class NotDownloaded(ModelError): ...


class RubricError(UserError): ...


class FunctionError(UserError): ...


class QueryError(UserError): ...


class ExportError(UserError): ...


class PublishError(UserError): ...


class MissingExtra(UserError):
    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            package,
            "not installed, and this needs it",
            f"run pip install 'preference-factory[{extra}]'",
        )
        self.args = (package, extra)


class HandOver(FactoryError):
    exit_code = 3


class WorkError(FactoryError):
    exit_code = 1


class LakeError(WorkError): ...


class StepFailed(WorkError): ...


class EngineError(WorkError): ...


class TrainError(WorkError): ...


class Refused(WorkError): ...


class HubError(WorkError): ...


def one_line(text: object, limit: int | None = None) -> str:
    """Return an error, or another text, in one line of at most `limit` characters."""
    return " ".join(str(text).split())[:limit]
