"""Answer the zoo's prompts with vLLM, one family after the other in one process.

python in_vllm.py OUT FOLDER… reads the models in FOLDER and writes their results to the file OUT.
An adapter in FOLDER-adapter answers too.
"""

import dataclasses
import json
import sys
from pathlib import Path


def main() -> None:
    sys.path.pop(0)  # this file's own folder, whose modules have the names of other packages
    from transformers.utils import chat_template_utils
    from vllm.distributed import cleanup_dist_env_and_memory
    from zoo.families import FAMILIES
    from zoo.talk import ASK, FixedClock, conversations, refused

    from factory.engines import Request
    from factory.engines.vllm import open_engine
    from factory.models import Checkpoint
    from factory.recipe import Generation, VllmEngine

    chat_template_utils.datetime = FixedClock
    families = {family.name: family for family in FAMILIES}
    arguments = {"enforce_eager": True, "max_model_len": 512, "max_num_seqs": 16}
    generation = Generation(temperature=1.0, top_p=1.0, max_tokens=12)
    results = {}
    for folder in map(Path, sys.argv[2:]):
        family = families[folder.name]
        base = Checkpoint("M_0", folder, "digest", family.dtype or "float32")
        adapted = dataclasses.replace(base, adapter=folder.with_name(f"{folder.name}-adapter"))
        asked = [(name, base, messages) for name, messages in conversations(family).items()]
        asked += [(f"refused {name}", base, messages) for name, messages in refused(family).items()]
        asked += [("adapter", adapted, ASK)]
        requests = [
            Request(name, messages, tuple(range(4)), place, generation, model)
            for place, (name, model, messages) in enumerate(asked)
        ]
        with open_engine(VllmEngine(name="vllm", **arguments), [base], 8, lambda: None) as engine:
            results[folder.name] = [dataclasses.asdict(r) for r in engine.generate(requests)]
        cleanup_dist_env_and_memory()
    Path(sys.argv[1]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
