"""Files that a user names: pipes, devices, and endless files, and texts with two meanings."""

import os

import pytest
import yaml

from factory.errors import FactoryError
from factory.input_files import MOST_BYTES, parse_json, parse_yaml, read_text
from factory.models.config import read_json
from factory.pairs import load_policy
from factory.recipe import Judge, Recipe, load_recipe
from factory.stages import load_rubric


def fifo(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def folder(path):
    path.mkdir()


def endless(path):
    path.touch()
    os.truncate(path, MOST_BYTES + 1)


SPECIAL = {
    fifo: "it is not a regular file",
    device: "it is not a regular file",
    folder: "Is a directory",
    endless: "it is larger than 1,000,000 bytes",
}


def recipe_of(path):
    return Recipe.model_validate(
        {
            "name": "toy",
            "model": "m0",
            "prompts": {"files": ["p.jsonl"]},
            "loop": {"policy": path.name},
            "folder": path.parent,
        }
    )


READERS = {
    "recipe": load_recipe,
    "rubric": lambda path: load_rubric(Judge(rubric=path.name), path.parent),
    "policy": lambda path: load_policy(recipe_of(path)),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("make", SPECIAL)
def test_a_file_without_an_end_is_refused_in_a_sentence(tmp_path, make, reader):
    path = tmp_path / "own.sql"
    make(path)
    with pytest.raises(FactoryError, match=SPECIAL[make]) as caught:
        READERS[reader](path)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_pipe_in_a_model_folder_is_refused(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(FactoryError, match="it is not a regular file"):
        read_json(tmp_path / "config.json", "model")


def test_line_ends_become_line_feeds(tmp_path):
    (tmp_path / "a").write_bytes(b"a\r\nb\rc\n")
    assert read_text(tmp_path / "a") == "a\nb\nc\n" == (tmp_path / "a").read_text()


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)

NOT_YAML = {
    BOMB: "has more than 100,000 values",
    "a: &a [*a]": "line 1: the value contains an alias of itself",
    "a: &a {b: *a}": "line 1: the value contains an alias of itself",
    "a: 1\na: 2": "line 2: the field a is set twice",
    "a: 1\n'a': 2": "line 2: the field a is set twice",
    "1: a\n0x1: b": "line 1: two fields of the mapping are the same",
    "a: 2026-13-01": "a value is not valid: month must be in 1..12",
    "a: !!bool x": "a value does not fit its tag",
    "a: !!timestamp x": "a value does not fit its tag",
    "a: !!int ''": "a value does not fit its tag",
    f"a: {'1' * 5000}": "a value is not valid: Exceeds the limit",
    "[" * 5000: "the values are nested too deeply",
    "a: {<<: {b: 1}}": "expected a field name before the colon",
}


@pytest.mark.parametrize("text", NOT_YAML, ids=range(len(NOT_YAML)))
def test_yaml_with_two_meanings_or_without_an_end_is_refused(text):
    with pytest.raises(yaml.YAMLError, match=NOT_YAML[text]):
        parse_yaml(text)


def test_yaml_may_use_an_anchor_twice():
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: [*a, *a]") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": [[1, 2], [1, 2]],
    }


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"a": {"b": 1, "\\u0062": 2}}]'])
def test_a_json_key_given_twice_is_refused(text):
    with pytest.raises(ValueError, match=r'the key "[ab]" is given twice'):
        parse_json(text)


def test_json_keys_that_differ_in_case_are_two_keys():
    assert parse_json('{"a": {"A": 1}, "A": 2}') == {"a": {"A": 1}, "A": 2}
