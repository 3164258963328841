"""Print the rows that LLaMA-Factory reads from an export for each model: python FILE MODEL…"""

import importlib.machinery
import json
import sys
import types
from pathlib import Path

import yaml

# Imported for audio, and its wheels on the package index need CUDA.
torchaudio = types.ModuleType("torchaudio")
torchaudio.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
sys.modules["torchaudio"] = torchaudio

SIDES = ("chosen", "rejected")


def main() -> None:
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from transformers import AutoTokenizer

    written = yaml.safe_load(Path("dpo.yaml").read_text(encoding="utf-8"))
    made = []
    for name in sys.argv[1:]:
        config = {**written, "model_name_or_path": name, "use_cpu": True}
        model, data, training, _, _ = get_train_args(config)
        tokenizer = AutoTokenizer.from_pretrained(name)
        try:
            template = get_template_and_fix_tokenizer(tokenizer, data)
        except Exception as error:  # some chat templates refuse the messages that it tries
            made.append({"refused": str(error)})
            continue
        splits = get_dataset(template, model, data, training, "rm", tokenizer=tokenizer)
        made.append(
            {
                split: [
                    {side: tokenizer.decode(row[f"{side}_input_ids"]) for side in SIDES}
                    for row in splits[f"{split}_dataset"]
                ]
                for split in ("train", "eval")
            }
        )
    print(json.dumps(made))


if __name__ == "__main__":
    main()
