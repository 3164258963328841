"""`python -m factory`: the same as the command `factory`."""

from factory.cli import main

main()
