"""Every error that the factory raises on purpose.

    FactoryError
    ├── UserError            exit 2: what came, what was expected, what to do
    │   ├── RecipeError      a field of a recipe, or of `--set`
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
    └── WorkError            exit 1: the work was asked for rightly and failed
        ├── LakeError        the disk is full, read-only, or a shard is broken
        ├── StepFailed       too many failures, or nothing left to learn from
        ├── EngineError      an engine could not start or go on
        ├── TrainError       the trainer ended without a model
        ├── Refused          the gate found what must not be published
        └── HubError         the Hub did not take it

The message of each is one sentence for the person who typed the command; `cli` prints it without
a traceback. Whatever is not a FactoryError is a bug and keeps its traceback.
"""


class FactoryError(Exception):
    """A failure that the factory understands; `exit_code` is what the command ends with."""

    exit_code = 1


class UserError(FactoryError):
    exit_code = 2


class RecipeError(UserError): ...


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
            f"{package} is not installed, and this needs it: "
            f"run pip install 'preference-factory[{extra}]'"
        )


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
