"""Print the rows that Axolotl reads from an export as JSON: python axolotl.py MODEL."""

import json
import sys


def main() -> None:
    from axolotl.cli.config import load_cfg
    from axolotl.loaders import load_tokenizer
    from axolotl.utils.data.rl import prepare_preference_datasets

    config = load_cfg("dpo.yaml", base_model=sys.argv[1], dataset_num_proc=1)
    splits = prepare_preference_datasets(config, load_tokenizer(config))
    made = {}
    for name, rows in zip(("train", "eval"), splits, strict=True):
        made[name] = [
            {side: row["prompt"] + row[side] for side in ("chosen", "rejected")} for row in rows
        ]
    print(json.dumps(made))


if __name__ == "__main__":
    sys.path.pop(0)  # this file's own folder, where it has the package's name
    main()
