"""Print the rows that ms-swift reads from an export as JSON: python ms_swift.py."""

import json
from dataclasses import fields


def main() -> None:
    from swift.arguments import RLHFArguments
    from swift.cli.main import parse_yaml_args
    from swift.dataset import load_dataset

    options = ["dpo.yaml"]
    parse_yaml_args(options)
    given = dict(zip(options[::2], options[1::2], strict=True))
    unknown = {name.removeprefix("--") for name in given} - {f.name for f in fields(RLHFArguments)}
    assert not unknown, unknown
    made = {}
    for name, option in (("train", "--dataset"), ("eval", "--val_dataset")):
        rows, _ = load_dataset([given[option]], strict=True, shuffle=False)
        made[name] = [
            {
                "prompt": row["messages"][:-1],
                "chosen": row["messages"][-1]["content"],
                "rejected": row["rejected_response"],
            }
            for row in rows
        ]
    print(json.dumps(made))


if __name__ == "__main__":
    main()
