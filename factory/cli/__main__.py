"""The command `python -m factory.cli`, which is the same as `factory`."""

from factory.cli.app import main

main()
