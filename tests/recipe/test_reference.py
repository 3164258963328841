"""Tests of the JSON Schema of a recipe, and of the generated recipe reference."""

import json
from pathlib import Path

import pytest
import yaml
from toys import QUICKSTART

import factory.recipe
from factory.recipe import Recipe, recipe_reference, recipe_schema
from factory.recipe.fields import fields_of, section_types

PAGE = Path(factory.recipe.__file__).parent / "README.md"

SCHEMA = recipe_schema()


def sections(section=Recipe):
    """Yield a section class and all section classes inside it."""
    yield section
    for field in fields_of(section).values():
        for inner in section_types(field.annotation):
            yield from sections(inner)


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == recipe_reference(), (
        "run `factory schema --markdown > factory/recipe/README.md`"
    )


@pytest.mark.parametrize("section", sorted(set(sections()), key=lambda each: each.__name__))
def test_every_section_and_every_field_has_a_description(section):
    assert section.__doc__
    for name, field in fields_of(section).items():
        assert field.description, f"{section.__name__}.{name}"
        assert field.description.endswith("."), f"{section.__name__}.{name}"


def test_every_field_is_on_the_page():
    page = recipe_reference()
    for section in sections():
        for name in fields_of(section):
            assert f"`{name}`" in page or f".{name}`" in page, f"{section.__name__}.{name}"


def test_what_only_tests_use_is_in_the_advanced_part():
    main, advanced = recipe_reference().split("\n## Advanced\n")
    for field in ("engine.delay", "engine.replicas", "train.with: scripted", "pairs.ties: hash"):
        assert f"`{field}`" in advanced
    assert "`delay`" not in main
    assert "`hash`" not in main


# the schema


def definition(name):
    return SCHEMA["$defs"][name]


def test_the_schema_is_plain_json_without_the_noise_of_its_generator():
    text = json.dumps(SCHEMA, allow_nan=False)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "$id" not in SCHEMA
    assert text.count('"title"') == 1
    assert '"discriminator"' not in text
    assert "\\n" not in definition("Sampling")["properties"]["temperature"]["description"]


def test_the_schema_has_the_defaults_and_values_of_fields():
    sampling = definition("Sampling")["properties"]
    assert (sampling["draws"]["default"], sampling["draws"]["minimum"]) == (7, 1)
    assert definition("Train")["properties"]["with"]["enum"] == ["trl", "command", "manual"]
    assert "default" not in definition("Pairs")["properties"]["max_length_ratio"]
    assert "default" not in SCHEMA["properties"]["loop"]
    assert SCHEMA["required"] == ["name", "model", "prompts"]


def test_the_schema_has_an_engine_for_every_name():
    engines = [each["$ref"].split("/")[-1] for each in SCHEMA["properties"]["engine"]["oneOf"]]
    names = [definition(engine)["properties"]["name"]["const"] for engine in engines]
    assert names == ["transformers", "scripted", "vllm", "openai"]
    required = {
        name: definition(engine).get("required", [])
        for name, engine in zip(names, engines, strict=True)
    }
    assert "name" not in required.pop("transformers")
    assert all("name" in fields for fields in required.values())


def fits(value, schema):
    """Return whether a value fits a schema, by the keywords that decide the structure."""
    if "$ref" in schema:
        return fits(value, definition(schema["$ref"].split("/")[-1]))
    if "anyOf" in schema:
        return any(fits(value, each) for each in schema["anyOf"])
    if "oneOf" in schema:
        return sum(fits(value, each) for each in schema["oneOf"]) == 1
    types = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    kind = {**types, "number": (int, float), "null": type(None)}[schema["type"]]
    if not isinstance(value, kind) or value not in schema.get("enum", [value]):
        return False
    if value != schema.get("const", value):
        return False
    if isinstance(value, list):
        return all(fits(item, schema.get("items", {"type": "string"})) for item in value)
    if not isinstance(value, dict):
        return True
    fields, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    return set(schema.get("required", [])) <= set(value) and all(
        fits(item, fields[name])
        if name in fields
        else others is True or (others is not False and fits(item, others))
        for name, item in value.items()
    )


SERVER = {"name": "openai", "base_url": "http://localhost/v1", "model": "m"}


def quickstart(**changes):
    recipe = factory.recipe.load_recipe(QUICKSTART / "recipe.yaml")
    assert recipe.name == "quickstart"
    return {**yaml.safe_load((QUICKSTART / "recipe.yaml").read_text(encoding="utf-8")), **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": {"path": "m0", "dtype": "bfloat16"}},
        {"engine": {"batch_size": 4}},
        {"engine": {"name": "vllm", "max_model_len": 128}},
        {"judges": {"other": {"model": "m0", "engine": {"name": "vllm"}}}},
        {"judge": {"reward_model": {"path": "m0"}}},
        {"loop": {"iterations": 0}},
        {"loop": {"iterations": 0}, "engine": SERVER, "model": {"declared": "2026-05"}},
    ],
)
def test_the_schema_accepts_recipes(changes):
    Recipe.model_validate(quickstart(**changes))
    assert fits(quickstart(**changes), SCHEMA)


@pytest.mark.parametrize(
    "changes",
    [
        {"sampilng": {}},
        {"engine": {"name": "vlm"}},
        {"engine": {"name": "transformers", "concurrency": 4}},
        {"model": {"revision": "main"}},
        {"model": {"path": "m0", "declared": "2026-05"}},
        {"prompts": {"files": ["a"], "on_error": "pass"}},
        {"judges": {"other": {"rubrik": "additive"}}},
    ],
)
def test_the_schema_refuses_mistakes(changes):
    assert not fits(quickstart(**changes), SCHEMA)


UNBOUNDED = {"scale", "max_length_ratio"}
"""Numbers without a largest value: a rubric's scale, and a ratio whose default is infinity."""


def unbounded(schema, name=""):
    """Yield the names of numbers in a JSON Schema that have no largest value."""
    if isinstance(schema, list):
        for part in schema:
            yield from unbounded(part, name)
    if not isinstance(schema, dict):
        return
    is_number = schema.get("type") in ("integer", "number")
    if is_number and not schema.keys() & {"maximum", "exclusiveMaximum"}:
        yield name
    for key, part in schema.items():
        if key in ("properties", "$defs"):
            for inner, content in part.items():
                yield from unbounded(content, inner)
        elif key not in ("default", "examples", "enum", "const"):
            yield from unbounded(part, name)


def test_every_number_has_a_largest_value():
    """Otherwise a slip such as 1000000000 iterations would make a plan that never ends."""
    assert set(unbounded(SCHEMA)) == UNBOUNDED
