"""The command line interface of the factory."""

from factory.cli.app import main

__all__ = ["main"]
