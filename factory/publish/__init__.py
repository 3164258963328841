"""Publish a dataset on the Hugging Face Hub, with a card and pre-publish checks."""

from factory.publish.card_metadata import BEGIN, END, Kept, read_card, yaml_features
from factory.publish.commit import Pushed, push_dataset, write_dry_run
from factory.publish.folder import Published, write_folder
from factory.publish.gate import CHECKS, Finding, check_names, examine, pass_gate
from factory.publish.hub_errors import waiting
from factory.publish.licenses import license_terms
from factory.publish.lineage import public_recipe
from factory.publish.options import PublishOptions
from factory.publish.redact import redact_paths
from factory.publish.repository import CONFIGS, iterations, open_views
from factory.publish.scan import Hit, Scanner

__all__ = [
    "BEGIN",
    "CHECKS",
    "CONFIGS",
    "END",
    "Finding",
    "Hit",
    "Kept",
    "PublishOptions",
    "Published",
    "Pushed",
    "Scanner",
    "check_names",
    "examine",
    "iterations",
    "license_terms",
    "open_views",
    "pass_gate",
    "public_recipe",
    "push_dataset",
    "read_card",
    "redact_paths",
    "waiting",
    "write_dry_run",
    "write_folder",
    "yaml_features",
]
