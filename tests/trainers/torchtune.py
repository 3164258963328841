"""Print the rows that torchtune reads from an export as JSON: python torchtune.py OVERRIDES."""

import json
import sys
from argparse import Namespace
from importlib import util
from pathlib import Path

CONFIG = "recipes/configs/llama3_1/8B_lora_dpo_single_device.yaml"


def main() -> None:
    sys.path.pop(0)  # this file's own folder, where it has the package's name
    from omegaconf import OmegaConf
    from torchtune import config
    from torchtune.config._utils import _merge_yaml_and_cli_args

    shipped = OmegaConf.load(Path(util.find_spec("torchtune").origin).parent.parent / CONFIG)
    plain = OmegaConf.to_container(shipped, resolve=False)
    overridden = _merge_yaml_and_cli_args(Namespace(**plain), sys.argv[1:]).dataset
    pasted = OmegaConf.load("dataset.yaml").dataset
    assert {**overridden, "train_on_input": False} == pasted, (overridden, pasted)
    pairs = config.instantiate(pasted, tokenizer=None)
    made = []
    for row in pairs._data:
        sides = pairs._message_transform(row)
        made.append(
            {
                side: [
                    {"role": message.role, "content": message.text_content}
                    for message in sides[side]
                ]
                for side in ("chosen", "rejected")
            }
        )
    print(json.dumps({"train": made}))


if __name__ == "__main__":
    main()
