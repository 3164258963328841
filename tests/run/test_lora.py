"""LoRA: the trained adapter, its reference model, the saved files, and resuming after a kill."""

import dataclasses
import json
import shutil

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
pytest.importorskip("trl")

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from toys import QUICKSTART  # noqa: E402
from transformers import AutoModelForCausalLM, Trainer  # noqa: E402

from factory.engines import Request  # noqa: E402
from factory.engines.transformers import open_engine  # noqa: E402
from factory.errors import RecipeError  # noqa: E402
from factory.models import Checkpoint, check_adapter  # noqa: E402
from factory.recipe import Generation, Train, TransformersEngine  # noqa: E402
from factory.stages import LORA, adapter_fields, training_fields, training_settings  # noqa: E402
from factory.train import Job, check_lora, run_job  # noqa: E402
from factory.train import trl as train  # noqa: E402

BASE = QUICKSTART / "m0"
FIELDS = {
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "gradient_checkpointing": False,
    "dataloader_pin_memory": False,
    "seed": 0,
    "lr_scheduler_type": "constant",
}


def messages(role, text):
    return [{"role": role, "content": text}]


def write_data(folder, words=("stone", "apple", "moon", "tree", "river", "lantern")):
    folder.mkdir()
    rows = [
        {
            "prompt": messages("user", f"Copy the letters of {word}."),
            "chosen": messages("assistant", f"{word}."),
            "rejected": messages("assistant", f"{word[::-1]}"),
        }
        for word in words * 4
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "data.parquet")
    return folder


def job(adapter=None, lora=LORA, **fields):
    return Job("dpo", str(BASE), "float32", {**FIELDS, **fields}, 600, lora, adapter)


def trained(folder, capsys, adapter=None, **fields):
    """Train in `folder`, and return the logs of the steps."""
    capsys.readouterr()
    run_job(job(adapter, **fields), folder)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(train.EVENT)]
    logs = [json.loads(line.removeprefix(train.EVENT)).get("log", {}) for line in lines]
    return [log for log in logs if "loss" in log]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Return the folder of a first adapter, trained on the base model."""
    folder = write_data(tmp_path_factory.mktemp("first") / "training")
    run_job(job(max_steps=6), folder)
    return folder / "model"


def test_only_the_adapter_is_kept_and_it_names_no_place(first):
    assert {path.name for path in first.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    text = (first / "adapter_config.json").read_text()
    config = json.loads(text)
    assert config["base_model_name_or_path"] is None
    assert str(QUICKSTART) not in text
    assert config["target_modules"] == sorted(config["target_modules"])
    assert (config["r"], config["lora_alpha"]) == (16, 32)
    assert {path.name for path in first.parent.iterdir()} == {
        "data.parquet",
        "checkpoints",
        "model",
    }
    check_adapter(first, BASE, "model.adapter", "model.path")


def test_the_same_training_leaves_the_same_bytes(first, tmp_path):
    again = write_data(tmp_path / "again")
    run_job(job(max_steps=6), again)
    for file in first.iterdir():
        assert file.read_bytes() == (again / "model" / file.name).read_bytes()


def weights_as_given(trainer):
    """Return the trainer's adapters by name."""
    return {
        name: {
            place.replace(f".{name}.", "."): value.detach().clone()
            for place, value in trainer.model.named_parameters()
            if f".{name}." in place
        }
        for name in trainer.model.peft_config
    }


@pytest.fixture
def watched(monkeypatch):
    """Return the trainer's adapters before and after training, and the trainable parameters."""
    seen = {}
    real = Trainer.train

    def train_and_look(self, *args, **options):
        seen["before"] = weights_as_given(self)
        seen["dtypes"] = {
            "base": {p.dtype for n, p in self.model.named_parameters() if "lora_" not in n},
            "adapter": {p.dtype for n, p in self.model.named_parameters() if "lora_" in n},
        }
        result = real(self, *args, **options)
        seen["after"] = weights_as_given(self)
        seen["trained"] = [n for n, p in self.model.named_parameters() if p.requires_grad]
        groups = self.optimizer.param_groups
        seen["n_optimised"] = sum(len(group["params"]) for group in groups)
        return result

    monkeypatch.setattr(Trainer, "train", train_and_look)
    return seen


def same(some, other):
    assert some.keys() == other.keys()
    return all(torch.equal(value, other[name]) for name, value in some.items())


def test_a_first_adapter_is_compared_to_the_base(tmp_path, capsys, watched):
    logs = trained(write_data(tmp_path / "t"), capsys, max_steps=4)
    assert logs[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert logs[0]["rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert logs[-1]["loss"] < 0.6
    assert set(watched["before"]) == {"default"}


def test_an_adapter_that_goes_on_is_compared_to_itself_as_it_was(first, tmp_path, capsys, watched):
    logs = trained(write_data(tmp_path / "t"), capsys, str(first), max_steps=4)
    # At the first step, policy and reference are still equal, even if the adapter was trained.
    assert logs[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert logs[0]["rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert logs[-1]["loss"] < 0.6
    kept = load_file(first / "adapter_model.safetensors")
    before, after = watched["before"], watched["after"]
    assert same(before["default"], before["ref"])
    assert same(dict(sorted(before["ref"].items())), dict(sorted(kept.items())))
    assert same(after["ref"], before["ref"])
    assert not same(after["default"], before["default"])
    assert all(".default." in name for name in watched["trained"])
    assert watched["n_optimised"] == len(watched["trained"]) == len(kept)


@pytest.mark.parametrize("continued", [False, True])
@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(first, continued, tmp_path, capsys, watched):
    adapter = str(first) if continued else None
    saving = {"save_strategy": "steps", "save_steps": 1, "max_steps": 4}
    whole = write_data(tmp_path / "whole")
    trained(whole, capsys, adapter, **saving)

    class Killed(Exception): ...

    def die(event):
        if event.get("step") == 3:  # before the checkpoint of step 3 is written
            raise Killed

    killed = write_data(tmp_path / "killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "tell", die)
        with pytest.raises(Killed):
            run_job(job(adapter, **saving), killed)
    assert (killed / "checkpoints" / "checkpoint-2" / "ref").exists() == continued
    logs = trained(killed, capsys, adapter, **saving)
    assert len(logs) == 2
    if continued:
        kept = load_file(first / "adapter_model.safetensors")
        assert same(dict(sorted(watched["before"]["ref"].items())), dict(sorted(kept.items())))
    one, other = (
        load_file(folder / "model" / "adapter_model.safetensors") for folder in (whole, killed)
    )
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


@pytest.mark.slow
def test_the_base_is_held_in_its_own_dtype_and_the_adapter_in_float32(first, tmp_path, watched):
    for name, adapter in (("new", None), ("continued", str(first))):
        folder = write_data(tmp_path / name)
        run_job(
            dataclasses.replace(job(adapter, max_steps=1, use_cpu=True), dtype="bfloat16"), folder
        )
        assert watched["dtypes"] == {"base": {torch.bfloat16}, "adapter": {torch.float32}}


def logits(model):
    with torch.no_grad():
        return model(torch.arange(5, 25)[None]).logits


def test_the_engine_answers_with_the_adapter_on_the_base(first, tmp_path):
    checkpoint = Checkpoint("M_1", BASE, "digest", "float32", adapter=first)
    base = AutoModelForCausalLM.from_pretrained(BASE)
    plain = logits(base)
    adapted = logits(peft.PeftModel.from_pretrained(base, first))
    with open_engine(TransformersEngine(), [checkpoint]) as engine:
        found = logits(engine._model)
        asked = Request(
            "r",
            messages("user", "Copy the letters of stone."),
            (0, 1),
            0,
            Generation(max_tokens=12),
            checkpoint,
        )
        assert all(result.error is None for result in engine.generate(iter([asked])))
    assert torch.allclose(found, adapted, atol=1e-4)
    assert not torch.allclose(found, plain, atol=1e-2)


def test_an_adapter_on_bfloat16_is_not_rounded_away(first, tmp_path):
    small = tmp_path / "small"
    shutil.copytree(first, small)
    config = json.loads((first / "adapter_config.json").read_text())
    (small / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 0.5}))
    base = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    base.load_state_dict(
        AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.bfloat16).state_dict()
    )
    plain = logits(base)
    change = logits(peft.PeftModel.from_pretrained(base, small)) - plain
    checkpoint = Checkpoint("M_1", BASE, "digest", "bfloat16", adapter=small)
    with open_engine(TransformersEngine(), [checkpoint]) as engine:
        model = engine._model.float()
    assert torch.allclose(logits(model) - plain, change, atol=float(change.abs().max()) / 10)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"rank": 8}, "train.lora.rank: PEFT's LoraConfig has no such field: did you mean r?"),
        ({"lora_alfa": 8}, "train.lora.lora_alfa: .* did you mean lora_alpha?"),
        ({"task_type": "CAUSAL_LM"}, "train.lora.task_type: the factory sets this field: remove"),
        ({"inference_mode": True}, "train.lora.inference_mode: the factory sets this field"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: got pissa, but this initialization"),
        ({"target_modules": ["q_prj"]}, "PEFT rejects these fields: Target modules .*q_prj"),
        ({"r": 0}, "PEFT rejects these fields: `r` should be a positive integer"),
        ({"r": "big"}, "train.lora.r: got 'big': expected a whole number"),
        ({"layers_to_transform": [0]}, "cannot be used when `target_modules` is a str"),
    ],
)
def test_an_adapter_that_cannot_be_trained_is_a_sentence(chosen, said):
    with pytest.raises(RecipeError, match=said) as caught:
        check_lora(chosen, {**LORA, **chosen}, BASE, None)
    assert "\n" not in str(caught.value)


def test_any_field_of_peft_s_config_can_be_set():
    chosen = {"r": 4, "lora_dropout": 0.1, "use_rslora": True, "target_modules": ["q_proj"]}
    check_lora(chosen, {**LORA, **chosen}, BASE, None)


@pytest.mark.parametrize("chosen", [{}, {"r": 16}, {"target_modules": "all-linear"}])
def test_an_adapter_of_m_0_is_gone_on_with(first, chosen):
    check_lora(chosen, {**LORA, **chosen}, BASE, first)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"r": 8}, "train.lora.r: got 8, expected 16 as in M_0's adapter"),
        ({"lora_alpha": 8}, "train.lora.lora_alpha: got 8, expected 32"),
        ({"target_modules": ["q_proj"]}, r"target_modules: got \['q_proj'\], expected \['down"),
    ],
)
def test_a_field_that_the_adapter_of_m_0_has_otherwise_is_refused(first, chosen, said):
    with pytest.raises(RecipeError, match=said):
        check_lora(chosen, {**LORA, **chosen}, BASE, first)


def test_an_adapter_learns_ten_times_as_fast_unless_the_recipe_says_how_fast():
    assert training_fields(Train(), "dpo")["learning_rate"] == 1e-6
    assert training_fields(Train(lora={}), "dpo")["learning_rate"] == 1e-5
    slow = Train(lora={}, dpo={"learning_rate": 2e-6})
    assert training_fields(slow, "dpo")["learning_rate"] == 2e-6


def test_the_adapter_s_fields_bear_identity_and_full_tuning_knows_nothing_of_them():
    assert "lora" not in training_settings(Train(), "dpo", "parent", "rows", 0)
    assert adapter_fields(Train()) is None
    said = training_settings(Train(lora={"r": 8}), "dpo", "parent", "rows", 0)
    assert said["lora"] == [["lora_alpha", 32], ["r", 8], ["target_modules", "all-linear"]]
