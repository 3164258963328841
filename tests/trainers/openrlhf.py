"""Print the rows that OpenRLHF reads from an export: python openrlhf.py MODEL[,MODEL…] OPTIONS."""

import json
import sys
from argparse import ArgumentParser
from importlib import util
from pathlib import Path
from types import SimpleNamespace


def main() -> None:
    sys.path.pop(0)  # this file's own folder, where it has the package's name
    from openrlhf.datasets import RewardDataset
    from openrlhf.datasets.utils import blending_datasets
    from transformers import AutoTokenizer

    options = sys.argv[2:]
    known = Path(util.find_spec("openrlhf").origin).parent / "cli" / "train_dpo.py"
    unknown = [o for o in options if o.startswith("--") and f'"{o}"' not in known.read_text()]
    assert not unknown, unknown
    parser = ArgumentParser()
    for side in ("prompt", "chosen", "rejected"):
        parser.add_argument(f"--data.{side}_key", dest=f"{side}_key")
    parser.add_argument(
        "--data.apply_chat_template", action="store_true", dest="apply_chat_template"
    )
    parser.add_argument("--data.max_len", type=int, default=512, dest="max_len")
    parser.add_argument("--data.dataset", dest="train")
    parser.add_argument("--data.dataset_split", dest="train_split")
    parser.add_argument("--eval.dataset", dest="eval")
    parser.add_argument("--eval.split", dest="eval_split")
    data, _ = parser.parse_known_args(options)
    strategy = SimpleNamespace(
        args=SimpleNamespace(use_ms=False, data=data),
        print=lambda *_: None,
        is_rank_0=lambda: False,
    )
    every = []
    for model in sys.argv[1].split(","):
        tokenizer = AutoTokenizer.from_pretrained(model)
        made = {}
        for name in ("train", "eval"):
            split = getattr(data, f"{name}_split")
            rows = blending_datasets(getattr(data, name), None, strategy, dataset_split=split)
            read = RewardDataset(
                rows, tokenizer, data.max_len, strategy, is_dpo=True, num_processors=1
            )
            sides = zip(read.prompts, read.chosens, read.rejects, strict=True)
            made[name] = [{"chosen": p + c, "rejected": p + r} for p, c, r in sides]
        every.append(made)
    print(json.dumps(every))


if __name__ == "__main__":
    main()
