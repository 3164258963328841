"""Print the rows that Axolotl reads from an export for each model: python axolotl.py MODEL…"""

import json
import sys


def main() -> None:
    from axolotl.cli.config import load_cfg
    from axolotl.loaders import load_tokenizer
    from axolotl.utils.data.rl import prepare_preference_datasets

    made = []
    for model in sys.argv[1:]:
        config = load_cfg("dpo.yaml", base_model=model, dataset_num_proc=1)
        splits = prepare_preference_datasets(config, load_tokenizer(config))
        made.append(
            {
                name: [
                    {side: row["prompt"] + row[side] for side in ("chosen", "rejected")}
                    for row in rows
                ]
                for name, rows in zip(("train", "eval"), splits, strict=True)
            }
        )
    print(json.dumps(made))


if __name__ == "__main__":
    sys.path.pop(0)  # this file's own folder, where it has the package's name
    main()
