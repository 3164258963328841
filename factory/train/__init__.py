"""Training of the next model: with TRL in a separate process, a command of the user, or by hand."""

from factory.train.accept import check_trained_model
from factory.train.adopt import adopt_model
from factory.train.command import check_command
from factory.train.declared import check_adapter_fields, check_trl_fields
from factory.train.fit import fit_dataset
from factory.train.training import tidy, train_model, trainer_fields
from factory.train.trl import Job, check_fields, check_lora, run_job

__all__ = [
    "Job",
    "adopt_model",
    "check_adapter_fields",
    "check_command",
    "check_fields",
    "check_lora",
    "check_trained_model",
    "check_trl_fields",
    "fit_dataset",
    "run_job",
    "tidy",
    "train_model",
    "trainer_fields",
]
