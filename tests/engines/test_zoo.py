"""Tests of the transformers engine with the zoo: prompts, answers, judgments, and refusals."""

import json
import math
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import transformers  # noqa: E402
from zoo.build import DIGITS  # noqa: E402
from zoo.families import FAMILIES  # noqa: E402
from zoo.talk import (  # noqa: E402
    ASK,
    TALK,
    TOOLS,
    TRICKY,
    FixedClock,
    conversations,
    prompt_ids,
    refused,
)

from factory.engines import Request  # noqa: E402
from factory.engines.transformers import open_engine  # noqa: E402
from factory.models import Checkpoint, control_tokens  # noqa: E402
from factory.recipe import Generation, Judge, TransformersEngine  # noqa: E402
from factory.stages import (  # noqa: E402
    expected_score,
    load_rubric,
    parse_score,
    render_rubric,
    samples,
)

each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)

GENERATION = Generation(temperature=1.0, top_p=1.0, max_tokens=12)


@pytest.fixture(autouse=True)
def fixed_clock(monkeypatch):
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", FixedClock)


@pytest.fixture(scope="module")
def engines():
    """Return a function that opens a model's engine once, and then returns it."""
    opened = {}
    with ExitStack() as stack:

        def call(model):
            if model not in opened:
                settings = TransformersEngine(batch_size=64)
                opened[model] = stack.enter_context(open_engine(settings, [model]))
            return opened[model]

        yield call


@pytest.fixture
def model(zoo, family):
    return Checkpoint("M_0", zoo(family), family.name, family.dtype or "float32")


@pytest.fixture
def engine(engines, model):
    return engines(model)


@pytest.fixture
def tokenizer(model):
    return transformers.AutoTokenizer.from_pretrained(model.path)


def request(name, messages, draws=(0, 1, 2), generation=GENERATION, **more):
    seed = sum(map(ord, name)) * 1000
    return Request(name, messages, tuple(draws), seed, generation, None, **more)


def watch(engine, patch):
    """Return a list that collects the prompts and answers of an engine's model."""
    seen = []
    generate = engine._model.generate

    def call(input_ids, attention_mask, **options):
        output = generate(input_ids=input_ids, attention_mask=attention_mask, **options)
        for ids, mask, answer in zip(input_ids, attention_mask, output, strict=True):
            seen.append((ids[mask.bool()].tolist(), answer[len(ids) :].tolist()))
        return output

    patch.setattr(engine._model, "generate", call)
    return seen


@each_family
def test_a_model_sees_the_prompts_of_transformers_and_its_answers_end_with_its_turn(
    family, engine, tokenizer, monkeypatch
):
    asked = conversations(family)
    seen = watch(engine, monkeypatch)
    results = list(engine.generate(request(name, asked[name]) for name in asked))
    expected = {name: prompt_ids(tokenizer, messages) for name, messages in asked.items()}
    assert sorted(prompt for prompt, _ in seen) == sorted(3 * list(expected.values()))
    for result in results:
        assert result.error is None
        assert result.finish_reason == "stop"
        assert result.n_tokens == 2
        assert result.text in DIGITS
        assert result.n_prompt_tokens == len(expected[result.request_id])
    assert len({result.text for result in results}) > 1


@each_family
def test_the_log_probability_of_an_answer_is_that_of_a_plain_forward_pass(
    family, engines, zoo, monkeypatch
):
    asked = conversations(family)
    model = Checkpoint("M_0", zoo(family), "digest", "float32")
    engine = engines(model)
    seen = watch(engine, monkeypatch)
    results = list(engine.generate(request(name, asked[name], [0]) for name in asked))
    for result, (prompt, answer) in zip(results, seen, strict=True):
        ids = torch.tensor([prompt + answer[: result.n_tokens]])
        with torch.inference_mode():
            logprobs = engine._model(ids).logits[0].log_softmax(dim=-1)
        places = range(len(prompt) - 1, ids.shape[1] - 1)
        said = sum(logprobs[place, ids[0, place + 1]].item() for place in places)
        assert result.cumulative_logprob == pytest.approx(said, abs=1e-4)


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES if family.tools], ids=lambda family: family.name
)
def test_a_model_sees_the_tools_of_a_prompt(engine, tokenizer, monkeypatch):
    seen = watch(engine, monkeypatch)
    list(engine.generate([request("tools", ASK, [0], tools=TOOLS)]))
    ((prompt, _),) = seen
    assert prompt == prompt_ids(tokenizer, ASK, tools=TOOLS)
    assert "open_cage" in tokenizer.decode(prompt)


@each_family
def test_an_answer_that_is_cut_off_says_so(engine):
    short = GENERATION.model_copy(update={"max_tokens": 1})
    (result,) = engine.generate([request("cut", ASK, [0], short)])
    assert result.finish_reason == "length"
    assert result.n_tokens == 1


@pytest.mark.parametrize("family", list(filter(refused, FAMILIES)), ids=lambda family: family.name)
def test_a_conversation_that_the_template_refuses_is_one_sentence_and_the_others_go_on(
    family, engine, monkeypatch
):
    wrong = refused(family)
    seen = watch(engine, monkeypatch)
    asked = [request(name, messages) for name, messages in {**wrong, "ask": ASK}.items()]
    results = list(engine.generate(asked))
    assert len(results) == 3 * len(asked)
    assert len(seen) == 3
    for result in results:
        if result.request_id in wrong:
            assert result.error_kind == "permanent"
            assert result.error.startswith("the chat template rejected the messages: ")
            assert "\n" not in result.error
        else:
            assert result.error is None


def force(engine, answer, patch):
    """Make the engine's model answer with the given tokens."""

    def generate(input_ids, logits_processor, **_):
        for token in answer:
            scores = torch.full((len(input_ids), engine._model.config.vocab_size), -100.0)
            scores[:, token] = 0.0
            chosen = logits_processor(input_ids, scores).argmax(dim=-1, keepdim=True)
            input_ids = torch.cat([input_ids, chosen], dim=1)
        return input_ids

    patch.setattr(engine._model, "generate", generate)


def said_by(engine, text, end, patch):
    """Return the text of the answer that consists of the tokens of a text and an end token."""
    tokenizer = engine._tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    force(engine, [*ids, tokenizer.convert_tokens_to_ids(end)], patch)
    generation = GENERATION.model_copy(update={"max_tokens": len(ids) + 1})
    (result,) = engine.generate([request("said", ASK, [0], generation)])
    assert result.finish_reason == "stop"
    return result.text


@each_family
def test_an_answer_decodes_to_its_text_without_the_end_of_the_turn(family, engine, monkeypatch):
    assert said_by(engine, TRICKY, family.ends, monkeypatch) == TRICKY


@each_family
def test_an_end_of_the_turn_that_is_no_special_token_is_no_part_of_the_text(
    family, model, tmp_path, monkeypatch
):
    folder = shutil.copytree(model.path, tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        added = content.get("added_tokens") or content["added_tokens_decoder"].values()
        for token in added:
            token["special"] = token["content"] != family.ends and token["special"]
        (folder / name).write_text(json.dumps(content))
    other = Checkpoint("M_0", folder, "digest", model.dtype)
    # Transformers treats the EOS token as special whatever the files say.
    assert other.has_plain_stop == (family.ends != family.eos)
    assert not model.has_plain_stop
    settings = samples.settings(other, GENERATION, 0)
    assert ("stop_token" in settings) == other.has_plain_stop
    with open_engine(TransformersEngine(), [other]) as engine:
        assert said_by(engine, "A zebra.", family.ends, monkeypatch) == "A zebra."


RUBRIC = load_rubric(Judge(rubric="rating", constrained=True), Path())


@each_family
@pytest.mark.parametrize("choices", [(), RUBRIC.labels], ids=["free", "constrained"])
def test_a_judgment_is_a_label_with_the_probabilities_of_all_labels(choices, engine):
    messages = render_rubric(RUBRIC, {"prompt": TALK[0]["content"], "answer": "A zebra."})
    labels = {"labels": RUBRIC.labels, "score_at": RUBRIC.parser}
    for result in engine.generate([request("j", messages, choices=choices, **labels)]):
        assert parse_score(result.text, RUBRIC.pattern, RUBRIC.scale).score in range(1, 6)
        shares = {row["label"]: math.exp(row["logprob"]) for row in result.score_logprobs}
        assert set(shares) == set(RUBRIC.labels)
        assert sum(shares.values()) == pytest.approx(1, abs=0.03)
        assert 1 <= expected_score(result.score_logprobs) <= 5


@each_family
def test_an_answer_cannot_put_a_control_token_into_the_prompt_of_the_judge(
    family, model, engine, monkeypatch
):
    special = {engine._tokenizer.convert_tokens_to_ids(token) for token in family.special}
    seen = watch(engine, monkeypatch)
    for answer in ("Because.", "Because. " + " ".join(family.special)):
        item = {"prompt": "Why?", "answer": answer}
        messages = render_rubric(RUBRIC, item, control_tokens(model))
        list(engine.generate([request("j", messages, [0])]))
    plain, hostile = ([token for token in prompt if token in special] for prompt, _ in seen)
    assert plain == hostile


def with_plain_stop(family, folder, zoo):
    """Return a model whose tokenizer does not treat the end of its turn as special."""
    shutil.copytree(zoo(family), folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        for token in content.get("added_tokens") or content["added_tokens_decoder"].values():
            token["special"] = token["special"] and token["content"] != family.ends
        (folder / name).write_text(json.dumps(content))
    return Checkpoint("M_0", folder, "plain", "float32")


@pytest.mark.parametrize("is_constrained", [False, True], ids=["free", "constrained"])
def test_a_judgment_that_ends_with_a_plain_added_token_has_an_expected_score(
    zoo, tmp_path, is_constrained
):
    family = next(family for family in FAMILIES if family.name == "gemma-2")
    model = with_plain_stop(family, tmp_path / "plain", zoo)
    assert model.has_plain_stop
    assert family.ends in control_tokens(model)
    rubric = load_rubric(Judge(rubric="rating", constrained=is_constrained), Path())
    asked = request(
        "judged",
        render_rubric(rubric, {"prompt": "Why?", "answer": "A zebra."}),
        labels=rubric.labels,
        score_at=rubric.parser,
        choices=rubric.labels if is_constrained else (),
    )
    with open_engine(TransformersEngine(), [model]) as engine:
        results = list(engine.generate([asked]))
    for result in results:
        scored = parse_score(result.text, rubric.pattern, rubric.scale).score is not None
        assert scored == (result.score_logprobs is not None)
    assert any(result.score_logprobs for result in results)
