"""Tests of loading recipes, and of the error messages for invalid recipes."""

import pickle
import re

import pytest

from factory.errors import InvalidRecipe, RecipeError
from factory.recipe import (
    ScriptedEngine,
    TransformersEngine,
    in_scale,
    load_recipe,
    load_training,
)

MINIMAL = "name: toy\nmodel: ./m0\nprompts:\n  files: [prompts.jsonl]\n"


@pytest.fixture
def load(tmp_path):
    """Load the minimal recipe with more YAML appended."""

    def load(more="", *overrides, text=None):
        path = tmp_path / "recipe.yaml"
        path.write_text(MINIMAL + more if text is None else text, encoding="utf-8")
        return load_recipe(path, list(overrides))

    return load


@pytest.fixture
def refuse(load):
    """Return the error message of an invalid recipe."""

    def refuse(more="", *overrides, text=None):
        with pytest.raises(RecipeError) as caught:
            load(more, *overrides, text=text)
        return str(caught.value)

    return refuse


# defaults


def test_a_minimal_recipe_has_the_documented_defaults(load, tmp_path):
    recipe = load()
    assert recipe.seed == 0
    assert (recipe.model.path, recipe.model.revision, recipe.model.dtype) == ("./m0", None, "auto")
    assert recipe.prompts.files == ["prompts.jsonl"]
    assert (recipe.prompts.on_error, recipe.prompts.test_fraction) == ("stop", 0.1)
    assert (recipe.loop.policy, recipe.loop.iterations, recipe.loop.n_chunks) == ("temporal", 2, 2)
    assert recipe.probe is None
    assert recipe.max_failed == 0.05
    assert (recipe.shards.rows, recipe.shards.seconds) == (5000, 60)
    assert recipe.engine == TransformersEngine(device="auto", batch_size=64, window=16)
    assert recipe.folder == tmp_path.resolve()


def test_the_defaults_of_the_method_are_those_it_borrows(load):
    recipe = load()
    sampling, judge = recipe.sampling, recipe.judge
    assert (sampling.draws, sampling.temperature, sampling.top_p) == (7, 0.8, 0.95)
    assert (judge.rubric, judge.draws, judge.parser, judge.scale) == ("additive", 3, None, None)
    assert (recipe.train.with_, recipe.train.dpo) == ("trl", {})


def test_chunks_are_as_many_as_iterations_or_as_said(load):
    assert load("loop: {iterations: 3}\n").loop.n_chunks == 3
    assert load("loop: {iterations: 3, chunks: 5}\n").loop.n_chunks == 5
    assert load("loop: {iterations: 0}\n").loop.n_chunks == 1
    assert load("loop: {iterations: 0, chunks: 5}\n").loop.n_chunks == 5


def test_a_judge_that_is_a_function_judges_once(load):
    assert load("judge: {draws: 3}\n").judge.n_draws == 3
    assert load("judge: {draws: 3, function: 'gold.py:score'}\n").judge.n_draws == 1


def test_a_scale_is_two_numbers(load):
    assert load("judge: {scale: [0, 10]}\n").judge.scale == (0, 10)


def test_the_limit_on_length_is_not_part_of_a_sample_s_identity(load):
    short, long = load("sampling: {max_tokens: 5}\n"), load("sampling: {max_tokens: 6}\n")
    assert short.sampling.identity == long.sampling.identity == {"temperature": 0.8, "top_p": 0.95}


def test_paths_are_relative_to_the_recipe(load, tmp_path):
    assert load().resolve("prompts.jsonl") == tmp_path.resolve() / "prompts.jsonl"
    assert load().resolve("/elsewhere/x") == type(tmp_path)("/elsewhere/x")


# numbers


def test_a_number_with_an_exponent_is_a_number(load):
    recipe = load("train: {dpo: {learning_rate: 1e-6, beta: 1E-1, x: -2e3, y: 1.5e+2}}\n")
    assert recipe.train.dpo == {"learning_rate": 1e-6, "beta": 0.1, "x": -2000.0, "y": 150.0}
    assert load("", "train.dpo.learning_rate=5e-7").train.dpo == {"learning_rate": 5e-7}


def test_a_word_that_looks_like_a_number_stays_a_word(load):
    assert load("train: {dpo: {a: e5, b: 1e, c: 1e-6x}}\n").train.dpo == {
        "a": "e5",
        "b": "1e",
        "c": "1e-6x",
    }


# what is refused


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("sampling: {temprature: 1}\n", "sampling.temprature: unknown field: did you mean "),
        ("sampling: {temprature: 1}\n", "did you mean sampling.temperature?"),
        ("sampilng: {}\n", "sampilng: unknown field: did you mean sampling?"),
        ("train: {with_: trl}\n", "train.with_: unknown field: did you mean train.with?"),
        ("judge: {zzz: 1}\n", "judge.zzz: unknown field: expected one of temperature, top_p, "),
        ("engine: {name: scripted, hang: 1}\n", "engine.hang: unknown field: expected one of max_"),
        (
            "engine: {batchsize: 1}\n",
            "engine.batchsize: unknown field: did you mean engine.batch_size?",
        ),
        (
            "judges: {a: {rubrik: x}}\n",
            "judges.a.rubrik: unknown field: did you mean judges.a.rubric?",
        ),
        (
            "judge: {model: {pth: x}}\n",
            "judge.model.pth: unknown field: did you mean judge.model.path",
        ),
        ("folder: /tmp\n", "folder: unknown field"),
    ],
)
def test_an_unknown_field_is_refused_with_a_suggestion(refuse, more, sentence):
    assert sentence in refuse(more)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("sampling: {draws: '7'}\n", "sampling.draws: got '7': expected a valid integer"),
        ("sampling: {draws: 7.0}\n", "sampling.draws: got 7.0: expected a valid integer"),
        ("sampling: {draws: true}\n", "sampling.draws: got True: expected a valid integer"),
        ("sampling: {temperature: hot}\n", "sampling.temperature: got 'hot': expected a valid num"),
        ("sampling: 3\n", "sampling: got 3: expected "),
        ("judge: {scale: 5}\n", "judge.scale: got 5: expected "),
        ("train: {dpo: 3}\n", "train.dpo: got 3: expected "),
        ("1: 3\n", "got 1: expected "),
    ],
)
def test_a_wrong_type_is_refused_with_what_came(refuse, more, sentence):
    assert sentence in refuse(more)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("sampling: {draws: 0}\n", "sampling.draws: got 0: expected greater than or equal to 1"),
        ("sampling: {draws: 1025}\n", "sampling.draws: got 1025: expected less than or equal to"),
        ("sampling: {temperature: -1}\n", "sampling.temperature: got -1: expected greater than"),
        ("sampling: {temperature: .nan}\n", "sampling.temperature: got nan: expected "),
        ("sampling: {top_p: 0}\n", "sampling.top_p: got 0: expected greater than 0"),
        ("max_failed: 1.5\n", "max_failed: got 1.5: expected less than or equal to 1"),
        ("shards: {seconds: 0}\n", "shards.seconds: got 0: expected greater than 0"),
        ("shards: {seconds: 1e10}\n", "shards.seconds: got 10000000000.0: expected less than"),
        (
            f"judges: {{{', '.join(f'j{n}: {{}}' for n in range(21))}}}\n",
            "expected Dictionary should have at most 20 items",
        ),
        ("loop: {iterations: 1000000000}\n", "loop.iterations: got 1000000000: expected less than"),
        ("seed: 9223372036854775808\n", "seed: got 9223372036854775808: expected less than"),
        ("seed: -1\n", "seed: got -1: expected greater than or equal to 0"),
        (
            "loop: {iterations: 3, chunks: 2}\n",
            "loop.chunks: got 2 chunks, but there are 3 iterations: set loop.chunks to at",
        ),
    ],
)
def test_a_value_out_of_range_is_refused(refuse, more, sentence):
    assert sentence in refuse(more)


SERVER = "engine: {name: openai, base_url: 'http://h/v1', model: m}\nloop: {iterations: 0}\n"


def test_a_server_may_have_the_only_weights_of_a_model_that_is_not_trained(load):
    recipe = load(f"{SERVER}", "model={declared: '2026-05'}")
    assert (recipe.model.path, recipe.model.declared) == ("", "2026-05")


@pytest.mark.parametrize(
    ("more", "override", "sentence"),
    [
        ("", "model={}", "model.path: the field is required"),
        ("", "model={revision: main}", "model.path: the field is required"),
        (SERVER, "model={path: m0, declared: a}", "model.declared: path and declared are both set"),
        (SERVER, "model={declared: a, dtype: float32}", "dtype and declared are both set"),
        (SERVER, "model={declared: ''}", "model.declared: got ''"),
        (
            "loop: {iterations: 0}\n",
            "model={declared: a}",
            (
                "model.declared: the model's weights are only on a server, but the engine is "
                "transformers"
            ),
        ),
        (
            SERVER.replace("0}", "1}"),
            "model={declared: a}",
            "model.declared: a model whose weights are only on a server cannot be trained",
        ),
        (
            "",
            "judge={model: {declared: a}}",
            "judge.model.declared: only the recipe's model can have this field",
        ),
    ],
)
def test_a_declared_model_where_it_cannot_be_is_refused(refuse, more, override, sentence):
    assert sentence in refuse(more, override)


@pytest.mark.parametrize(
    "more",
    [
        "sampling: {temperature: .inf}\n",
        "judge: {temperature: .inf}\n",
        "judge: {function: 'gold.py:score', scale: [0, .inf]}\n",
        "train: {dpo: {beta: .nan}}\n",
        "train: {dpo: {beta: 2020-01-01}}\n",
    ],
)
def test_a_value_that_no_key_can_be_made_of_is_refused(refuse, more):
    assert "expected" in refuse(more)


def test_a_scale_that_is_upside_down_is_refused_for_a_function_too(refuse):
    assert "scale" in refuse("judge: {function: 'gold.py:score', scale: [5, 0]}\n")


def test_every_missing_field_is_named(refuse):
    sentences = refuse(text="seed: 1\n").splitlines()
    assert [sentence.split(": ", 1)[1] for sentence in sentences] == [
        f"{field}: the field is required: add it to the recipe"
        for field in ("name", "model", "prompts")
    ]
    assert "probe.function: the field is required" in refuse("probe: {files: [probe.jsonl]}\n")


def test_at_most_ten_problems_are_listed(refuse):
    lines = refuse("".join(f"unknown{at}: 1\n" for at in range(300))).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "… and 290 more problems"


@pytest.mark.parametrize("value", ["a" * 100_000, "a + " * 10_000])
def test_a_message_shows_the_beginning_and_the_end_of_a_long_value(refuse, value):
    sentence = refuse(f"pairs: {{agree: ['{value}']}}\n")
    assert f"pairs.agree: no judge is named '{value[:280]}" in sentence
    assert sentence.endswith(f"{value[-90:]}': use only these judge names: judge")
    assert len(sentence) < 1_000


def test_a_file_list_has_a_file(refuse):
    assert "prompts.files: got []" in refuse(text=MINIMAL.replace("[prompts.jsonl]", "[]"))


@pytest.mark.parametrize("name", ["Toy", "../up", "", "a b", "x" * 65])
def test_a_name_is_fit_for_a_folder(refuse, name):
    assert "name: got " in refuse(text=MINIMAL.replace("toy", f"'{name}'"))


@pytest.mark.parametrize("section", ["sampling", "judge"])
def test_greedy_with_several_draws_is_refused(load, refuse, section):
    assert f"{section}: at temperature 0, all 2 draws would" in refuse(
        f"{section}: {{temperature: 0, draws: 2}}\n"
    )
    assert load(f"{section}: {{temperature: 0, draws: 1}}\n").seed == 0


@pytest.mark.parametrize(
    "text", ["a: [", "a: *nothing", "a: !!python/object:x {}", "\x00", "a: b: c"]
)
def test_what_is_not_yaml_is_refused_with_its_place(refuse, text, tmp_path):
    sentence = refuse(text=text)
    assert sentence.startswith(f"{tmp_path / 'recipe.yaml'}: not valid YAML: ")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("more", "line"),
    [("seed: 1\nseed: 2\n", 6), ("loop:\n  iterations: 1\n  iterations: 1\n", 7)],
)
def test_a_field_given_twice_is_refused_with_its_line(refuse, more, line):
    sentence = refuse(more)
    assert f"line {line}: " in sentence
    assert "is set twice" in sentence


def test_a_key_that_is_a_list_is_refused_in_a_sentence(refuse):
    assert "not valid YAML" in refuse("? [a, b]\n: 3\n")


@pytest.mark.parametrize(("text", "got"), [("- a\n", "['a']"), ("", "None"), ("just words", "'ju")])
def test_what_is_not_a_mapping_is_refused(refuse, text, got):
    sentence = refuse(text=text)
    assert f"got {got}" in sentence
    assert sentence.endswith("expected a mapping of fields")


def test_a_file_that_is_not_there_or_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"nowhere\.yaml: no such file"):
        load_recipe(tmp_path / "nowhere.yaml")
    with pytest.raises(RecipeError, match="the recipe cannot be read"):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("# café".encode("latin-1"), "line 4 is not UTF-8 text: byte 0xe9"),
        (rb'seed: "\ud83d"', "line 4: an escape is half of a surrogate pair"),
        (rb'seed: "\q"', r"line 4, column \d+: found unknown escape character 'q'"),
        (b"seed: \x00", r"line 4: the character \\x00 is not allowed"),
        (b"seed: \x1b[31m", r"line 4: the character \\x1b is not allowed"),
        (b"seed: [" + b"k" * 200_000, r"line 5, column \d+: expected ',' or ']'"),
        (b"k" * 200_000, r"line 5, column \d+: mapping values are not allowed here"),
        (b"? " + b"k" * 200_000 + b"\n: 1", "k…: unknown field"),
    ],
    ids=["latin-1", "half pair", "escape", "nul", "esc", "long value", "long line", "long name"],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path, line, fault):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"# one\n# two\n# three\n" + line + b"\n" + MINIMAL.encode())
    with pytest.raises(RecipeError, match=fault) as caught:
        load_recipe(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "unicode string" not in sentence
    assert len(sentence) < 1000


def test_a_byte_order_mark_and_pairs_of_escapes_are_read(tmp_path):
    path = tmp_path / "recipe.yaml"
    source = '{files: [prompts.jsonl], source: "\\ud83d\\ude00 \\u00e9"}'
    text = re.sub(r"prompts:.*(\n .*)*", lambda _: f"prompts: {source}", MINIMAL)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_recipe(path).prompts.source == "😀 é"


# engines


def test_an_engine_is_chosen_by_name(load):
    assert load("engine: {name: scripted, delay: 1}\n").engine == ScriptedEngine(
        name="scripted", delay=1
    )


def test_an_engine_without_a_name_is_the_default_one(load):
    assert load("engine: {device: cpu}\n").engine == TransformersEngine(device="cpu")
    assert load("", "engine.batch_size=4").engine == TransformersEngine(batch_size=4)


def test_an_unknown_engine_is_refused_with_the_ones_there_are(refuse):
    sentence = refuse("engine: {name: vlm}\n")
    assert "'vlm'" in sentence
    assert "expected one of transformers, scripted, vllm, openai" in sentence


# --set


def test_set_changes_a_field_of_a_section(load):
    recipe = load("sampling: {draws: 3, top_p: 0.5}\n", "sampling.draws=5", "seed=9")
    assert (recipe.sampling.draws, recipe.sampling.top_p, recipe.seed) == (5, 0.5, 9)


def test_set_makes_a_section_that_was_not_there(load):
    assert load("", "train.dpo.beta=0.2").train.dpo == {"beta": 0.2}
    assert load("loop:\n", "loop.iterations=1").loop.iterations == 1


def test_set_reads_its_value_as_yaml(load):
    assert load("", "prompts.files=[a, b]").prompts.files == ["a", "b"]
    assert load("", "train.launcher=[--x, 'a=b']").train.launcher == ["--x", "a=b"]


def test_set_reaches_into_a_model_that_is_given_by_its_path(load):
    recipe = load("", "model.dtype=bfloat16")
    assert (recipe.model.path, recipe.model.dtype) == ("./m0", "bfloat16")


def test_the_last_set_wins(load):
    assert load("", "seed=1", "seed=2").seed == 2


@pytest.mark.parametrize("override", ["seed", "=3", ""])
def test_set_without_a_field_and_a_value_is_refused(refuse, override):
    fault = "the override does not have the form section.field=value"
    assert refuse("", override).startswith(f"set {override}: {fault}: ")


def test_set_into_what_is_no_section_is_refused(refuse):
    assert "set name.x=1: name is 'toy', not a section: " in refuse("", "name.x=1")
    assert "files is ['prompts.jsonl'], not a section" in refuse("", "prompts.files.0=a")


def test_set_with_a_value_that_is_not_yaml_is_refused(refuse):
    assert refuse("", "seed=[").startswith("set seed=[: not valid YAML: ")
    assert refuse("", "seed={[1]: 2}").startswith("set seed={[1]: 2}: not valid YAML: ")


def test_set_is_checked_as_the_file_is(refuse):
    assert "did you mean sampling.temperature?" in refuse("", "sampling.temprature=1")
    assert "folder: unknown field" in refuse("", "folder=/tmp")


# problems as data


def test_every_problem_is_data(load, tmp_path):
    with pytest.raises(InvalidRecipe) as caught:
        load("sampling: {draws: 0}\njudge: {temperature: 0}\nseeds: 1\n")
    file = str(tmp_path / "recipe.yaml")
    problems = [(each.field, each.fault, each.remedy, each.file) for each in caught.value.problems]
    assert problems == [
        ("sampling.draws", "got 0", "expected greater than or equal to 1", file),
        (
            "judge",
            "at temperature 0, all 3 draws would give the same judgment",
            "set draws to 1, or set temperature above 0",
            file,
        ),
        ("seeds", "unknown field", "did you mean seed?", file),
    ]
    assert str(caught.value).splitlines() == [str(each) for each in caught.value.problems]
    assert (caught.value.field, caught.value.exit_code) == ("sampling.draws", 2)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)


def test_a_value_that_fits_no_type_of_a_union_is_one_problem(refuse):
    sentence = refuse("engine: {name: vllm, replicas: many}\n")
    assert "engine.replicas: got 'many': expected 'auto', or expected a valid int" in sentence
    assert "\n" not in sentence
    assert "engine.replicas: got 0: expected auto" in refuse("engine: {name: vllm, replicas: 0}\n")


def test_a_field_of_a_mapping_or_a_list_is_named(refuse):
    assert "judges.a.engine.base_url: the field is required" in refuse(
        "judges: {a: {engine: {name: openai}}}\n"
    )
    assert "judges.transformers: got 3" in refuse("judges: {transformers: 3}\n")
    assert "probe.files.1: got 3" in refuse("probe: {files: [a, 3], function: f}\n")


def test_the_settings_of_a_training_are_read_without_a_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training = load_training("m0", ["model.dtype=float32", "seed=3", "train.dpo.beta=0.2"])
    assert (training.model.path, training.model.dtype, training.seed) == ("m0", "float32", 3)
    assert training.train.dpo == {"beta": 0.2}
    assert training.resolve("m0") == tmp_path / "m0"
    with pytest.raises(RecipeError, match=r"set: train\.lr: unknown field: expected one of with"):
        load_training("m0", ["train.lr=1"])
    with pytest.raises(RecipeError, match=r"set name=x: the override does not apply to training"):
        load_training("m0", ["name=x"])


def test_a_score_is_in_scale_between_its_bounds():
    assert in_scale(0, (0, 5))
    assert in_scale(5, (0, 5))
    assert not in_scale(5.01, (0, 5))
    assert in_scale(-1e9, None)
    assert not in_scale(float("nan"), None)
    assert not in_scale(float("inf"), None)
