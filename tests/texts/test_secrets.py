"""Secrets and local paths in texts."""

import random

import pytest
from nasty import HARMLESS

from factory.errors import Argument, RecipeError
from factory.texts import display_text, hide_paths, keep_secret, mask_secrets, name_secret

VALUE = "-".join(["s3cret", "value", "123"])


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "OPENAI_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "PGPASSWORD_SECRET",
        "KEY",
        "db_password",
    ],
)
def test_the_values_of_secret_variables_are_masked(monkeypatch, name):
    monkeypatch.setenv(name, f" {VALUE}\n")
    assert mask_secrets(f"got {VALUE}!") == "got ***!"
    assert display_text(VALUE) == "***"
    error = RecipeError(VALUE, f"fault {VALUE}", f"remedy {VALUE}", f"file {VALUE}")
    assert VALUE not in f"{error} {error.fault} {error.args}"


def test_a_variable_that_a_recipe_names_is_masked(monkeypatch):
    monkeypatch.setenv("MY_SERVER", VALUE)
    name_secret("MY_SERVER")
    assert mask_secrets(VALUE) == "***"


def test_a_value_from_a_file_is_masked(monkeypatch):
    monkeypatch.setattr("factory.texts.secrets._kept", set())
    keep_secret(VALUE)
    assert mask_secrets(VALUE) == "***"


@pytest.mark.parametrize("value", ["", "EMPTY", "none", "x", "password"])
def test_a_placeholder_is_not_a_secret(monkeypatch, value):
    monkeypatch.setenv("OPENAI_API_KEY", value)
    text = "EMPTY none x password"
    assert mask_secrets(text) is text


@pytest.mark.parametrize("name", ["PWD", "HOME", "KEYBOARD", "TOKENIZERS_PARALLELISM"])
def test_other_variables_are_not_masked(monkeypatch, name):
    monkeypatch.setenv(name, VALUE)
    assert mask_secrets(VALUE) == VALUE


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://user:pw@host:8000/v1", "http://user:***@host:8000/v1"),
        ("redis://:p@w@host", "redis://:***@host"),
        ("https://" + "abc123" + "@host/x", "https://***@host/x"),
        ("at https://h/v1?api_key=abc&n=1.", "at https://h/v1?api_key=***&n=1."),
        ("Authorization: Bearer " + "a1b2" * 4, "Authorization: Bearer ***"),
        ("token hf" + "_" + "aB3" * 10, "token ***"),
        ("key sk" + "-" + "proj-" + "aB3" * 10, "key ***"),
    ],
)
def test_known_forms_are_masked(text, masked):
    assert mask_secrets(text) == masked
    assert mask_secrets(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        *HARMLESS,
        "git@github.com:org/name.git",
        "http://localhost:8000/v1",
        "mail someone@example.org, see https://example.org/a@b:c",
        "the bearer of news, risk-free and hf_hub",
    ],
)
def test_other_texts_are_the_same_object(text):
    assert mask_secrets(text) is text
    assert isinstance(RecipeError(Argument("set"), text).field, Argument)


def test_random_secrets_are_masked_wherever_they_stand(monkeypatch):
    draw = random.Random(0)
    signs = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=-_.$(["
    for _ in range(200):
        secret = "".join(draw.choices(signs, k=draw.randint(8, 60))) + "7"
        monkeypatch.setenv("HF_TOKEN", secret)
        text = f"{''.join(draw.choices(signs, k=5))}{secret}{''.join(draw.choices(signs, k=5))}"
        assert secret not in mask_secrets(text)
        assert secret not in mask_secrets(f"x {secret} {secret}")


HOME = "/home/al"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/al", "~"),
        ("in /home/al/x.py, line 1", "in ~/x.py, line 1"),
        ("'/home/al': no such file", "'~': no such file"),
        ("file:///home/al/x", "file://~/x"),
        ("lost in /home/al.", "lost in ~."),
        (
            "/home/alice and /home/al-2 and /home/al.old",
            "/home/alice and /home/al-2 and /home/al.old",
        ),
        ("/mnt/home/al", "/mnt/home/al"),
        ("https://host/a/b", "https://host/a/b"),
    ],
)
def test_a_path_is_hidden_at_its_boundaries(text, shown):
    assert hide_paths(text, {HOME: "~"}) == shown


def test_the_root_folder_is_not_hidden():
    assert hide_paths("https://host/a", {"/": "~", "": "~"}) == "https://host/a"
