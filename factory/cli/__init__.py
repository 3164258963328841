"""The command line."""

from factory.cli.app import main

__all__ = ["main"]
