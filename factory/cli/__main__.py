"""`python -m factory.cli`."""

from factory.cli.app import main

main()
