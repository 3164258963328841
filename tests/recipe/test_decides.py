"""Tests of the stages that each field affects, and of fields hidden from users."""

import json
from typing import Annotated, Literal

import pytest
from pydantic import Field

from factory.errors import RecipeError
from factory.recipe import DECIDES, Recipe, load_recipe
from factory.recipe.fields import HIDDEN, HOW_RUN, OWN, ROW_COUNT, Decides, Hidden, Section
from factory.recipe.identity import stages_by_field

GOLDEN = {
    ("samples", "judgments", "train"): "seed",
    ("samples", "judgments"): """
        model.path model.revision model.dtype model.adapter model.declared engine.script
        engine.model
    """,
    ("prompts",): """
        prompts.files prompts.on_error prompts.source prompts.license probe.files
    """,
    ("pairs",): """
        prompts.test_fraction loop.policy loop.iterations loop.chunks pairs.score pairs.chosen_if
        pairs.rejected_if pairs.agree pairs.min_margin pairs.min_margin_to_noise
        pairs.length_control pairs.max_length_ratio pairs.max_similarity pairs.drop_truncated
        pairs.ties pairs.per_prompt
    """,
    ("samples",): """
        sampling.temperature sampling.top_p sampling.top_k sampling.min_p
        sampling.repetition_penalty sampling.reasoning
    """,
    ("prompts", "samples"): "sampling.max_tokens",
    ("judgments",): """
        judge.temperature judge.top_p judge.top_k judge.min_p judge.repetition_penalty
        judge.reasoning judge.max_tokens judge.expected_score judge.constrained judge.function
        judge.by judge.declared probe.function judge.model.path judge.reward_model.path
        judge.model.revision judge.reward_model.revision judge.model.dtype
        judge.reward_model.dtype judge.model.adapter judge.reward_model.adapter
        judge.model.declared judge.reward_model.declared
        judge.engine.script judge.engine.model
    """,
    ("judgments", "verdicts"): """
        judge.rubric judges
    """,
    ("verdicts",): """
        judge.parser judge.scale
    """,
    ("train",): """
        train.with train.lora train.command train.dpo train.sft
    """,
    (): """
        sampling.draws judge.draws judge.opponents probe.draws name prompts.language max_failed
        judge.timeout probe.timeout query_memory stop_if.truncated stop_if.unparsed stop_if.ties
        stop_if.equal_scores
        stop_if.probe_falls train.checkpoint_seconds train.launcher train.environment engine.name
        engine.device engine.batch_size engine.window engine.delay engine.replicas
        engine.max_restarts engine.hang_seconds engine.base_url engine.key engine.concurrency
        engine.timeout engine.max_retries engine.native_n engine.price_prompt
        engine.price_generated engine.max_cost shards.rows shards.seconds
        judge.engine.name judge.engine.device
        judge.engine.batch_size judge.engine.window judge.engine.delay judge.engine.replicas
        judge.engine.max_restarts judge.engine.hang_seconds judge.engine.base_url judge.engine.key
        judge.engine.concurrency judge.engine.timeout judge.engine.max_retries
        judge.engine.native_n judge.engine.price_prompt judge.engine.price_generated
        judge.engine.max_cost
    """,
}
"""Changing this table changes keys, or the fields in published recipes. Mention it in the release
notes."""


def test_the_stages_of_every_field_are_as_they_were():
    assert {path: stages for stages, paths in GOLDEN.items() for path in paths.split()} == DECIDES


class Inner(Section):
    a: Annotated[int, Decides(OWN)] = 1
    b: Annotated[int | None, Decides("prompts", OWN)] = None


class Undeclared(Section):
    a: int = 1


class Twice(Section):
    a: Annotated[int, HOW_RUN, ROW_COUNT] = 1


class One(Section):
    name: Annotated[Literal["one"], HOW_RUN] = "one"


class Two(Section):
    name: Annotated[Literal["two"], Decides("samples")] = "two"


def test_own_stands_for_the_stages_of_the_section_that_holds_a_field():
    class Outer(Section):
        inner: Annotated[Inner, Decides("samples", "judgments")] = Inner()
        other: Annotated[Inner | None, Decides("train")] = None
        left_out: int = Field(default=1, exclude=True)

    assert stages_by_field(Outer) == {
        "inner.a": ("samples", "judgments"),
        "inner.b": ("prompts", "samples", "judgments"),
        "other.a": ("train",),
        "other.b": ("prompts", "train"),
    }


@pytest.mark.parametrize(
    ("annotation", "sentence"),
    [
        (Undeclared, "section.a: got 0 stage markers, expected 1"),
        (Undeclared | None, "section.a: got 0 stage markers"),
        (Twice, "section.a: got 2 stage markers"),
        (Inner, "section.a: the marker contains OWN, but the enclosing section"),
        (One | Two, "section.name: two engines declare different stages for this field"),
    ],
)
def test_a_field_without_one_clear_declaration_fails_loudly(annotation, sentence):
    class Outer(Section):
        section: annotation

    with pytest.raises(TypeError) as caught:
        stages_by_field(Outer)
    assert sentence in str(caught.value)


# hidden


def properties(definition):
    return set(Recipe.model_json_schema()["$defs"][definition]["properties"])


def test_fields_and_values_for_tests_are_not_in_the_schema():
    assert properties("ScriptedEngine") == {"name", "script", "max_restarts", "hang_seconds"}
    assert "replicas" in properties("VllmEngine")
    assert {"window", "batch_size"} <= properties("TransformersEngine")
    schema = Recipe.model_json_schema()
    assert "folder" not in schema["properties"]
    with_ = schema["$defs"]["Train"]["properties"]["with"]
    assert with_["enum"] == ["trl", "command", "manual"]
    assert "scripted" not in json.dumps(schema["$defs"]["Train"])


def test_hidden_values_are_accepted():
    class Outer(Section):
        way: Annotated[Literal["a", "b"], HOW_RUN, Hidden("b")] = "a"
        slow: Annotated[int, HOW_RUN, HIDDEN] = 1

    assert Outer(way="b", slow=2).way == "b"
    assert Outer.model_json_schema()["properties"]["way"]["enum"] == ["a"]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("train: {with: tlr}", "train.with: got 'tlr': expected one of trl, command, manual"),
        (
            "engine: {name: scripted, delai: 1}",
            "engine.delai: unknown field: expected one of max_restarts, hang_seconds, name, script",
        ),
        ("engine: {name: scripted, replica: 1}", "replica: unknown field: expected one of max_r"),
    ],
)
def test_errors_do_not_list_what_is_hidden(tmp_path, more, sentence):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: r\nmodel: m\nprompts: {{files: [p]}}\n{more}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert sentence in str(caught.value)
    assert "delay" not in str(caught.value)
