"""Entry point of the trainer process: `python -m factory.train FOLDER` runs the job in FOLDER."""

from factory.train.trl import main

main()
