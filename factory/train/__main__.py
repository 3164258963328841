"""The trainer's process: `python -m factory.train FOLDER` runs the job in that folder."""

from factory.train.trl import main

main()
