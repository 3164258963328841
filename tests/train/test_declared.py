"""Fields of TRL's and PEFT's configs, read from their source code."""

import dataclasses
import subprocess
import sys

import pytest

pytest.importorskip("trl")

from factory.errors import RecipeError
from factory.train import check_adapter_fields, check_trl_fields, declared


def test_the_source_code_declares_the_fields_of_the_classes():
    import peft
    import trl

    for method, config in (("dpo", trl.DPOConfig), ("sft", trl.SFTConfig)):
        sources = (("trl", f"trainer/{method}_config.py", config.__name__), *declared._BASES)
        assert set(declared._declared(sources)) == {f.name for f in dataclasses.fields(config)}
    fields = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    assert set(declared._declared(declared._LORA)) == fields


def test_every_default_has_its_declared_type():
    import peft
    import trl

    for method, config in (("dpo", trl.DPOConfig), ("sft", trl.SFTConfig)):
        plain = {
            field.name: field.default
            for field in dataclasses.fields(config)
            if field.default is not dataclasses.MISSING
        }
        check_trl_fields(method, plain)
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(peft.LoraConfig)
        if field.default is not dataclasses.MISSING and field.name not in declared._ADAPTER_REFUSED
    }
    check_adapter_fields(defaults)


def test_values_that_users_set():
    loss = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.1]}
    fields = {"optim": "adafactor", "lr_scheduler_type": "cosine", "warmup_steps": 0.1}
    check_trl_fields("dpo", {**loss, **fields, "loss_type": "ipo", "num_train_epochs": 2})
    check_adapter_fields({"r": 8, "lora_alpha": 12.5, "bias": "all", "target_modules": ["q_proj"]})
    with pytest.raises(RecipeError, match="got True: expected a whole number"):
        check_adapter_fields({"r": True})


def test_trl_is_not_imported():
    code = (
        "import sys\n"
        "from factory.train import check_adapter_fields, check_trl_fields\n"
        "check_trl_fields('dpo', {'optim': 'sgd', 'loss_type': ['ipo']})\n"
        "check_adapter_fields({'r': 4})\n"
        "print(sorted({'torch', 'transformers', 'trl', 'peft'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
