"""Bad recipes, bad fields, and bad arguments of the command line."""

import functools
import json
import shlex

import pytest
import yaml
from campaign.case import TEXTS, Case, Kind, copy_finished, dump, hostile, mangle, show

from factory.recipe import recipe_schema

jsonschema = pytest.importorskip("jsonschema")


# recipe files


def _bytes(case: Case) -> None:
    way, data = mangle(case.rng, case.toy.path.read_bytes())
    case.note("bytes:", way)
    case.toy.path.write_bytes(data)


def _bomb(depth: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for at in range(1, depth):
        lines.append(f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 9)}]")
    return "\n".join(lines)


ODDITIES = (
    "base: &base {draws: 2}\nsampling:\n  <<: *base\n",
    "sampling: &s {draws: 2}\njudge: *s\n",
    "judge: &j {draws: *j}\n",
    "judge: &j\n  rubric: additive\njudges:\n  other: *j\n",
    "sampling: *unknown\n",
    "!!python/object/apply:os.system [touch pwned]\n",
    "extra: !!python/name:os.system\n",
    "seed: !!int '7'\n",
    "seed: !!str 7\n",
    "seed: !custom 7\n",
    "name: !!binary aGVsbG8=\n",
    "prompts: !!set {files, source}\n",
    "judges: !!omap [a: {}]\n",
    "judges: !!pairs [a: {}]\n",
    "seed: 0x10\n",
    "seed: 0o17\n",
    "seed: 017\n",
    "seed: 0b11\n",
    "seed: 1_000\n",
    "seed: 190:20:30\n",
    "seed: +3\n",
    "seed: 1e3\n",
    "seed: 1.\n",
    "seed: .5\n",
    "max_failed: 5e-2\n",
    "max_failed: .nan\n",
    "max_failed: .inf\n",
    "max_failed: 1e400\n",
    "seed: 2025-01-01\n",
    "seed: 2025-99-99\n",
    "name: 2025-01-01\n",
    "name: 2025-01-01 99:99:99\n",
    "name: yes\n",
    "name: null\n",
    "name: ~\n",
    "name: ''\n",
    "name: |\n  toy\n",
    "name: >-\n  toy\n",
    "name: toy # comment\n",
    "name: 'it''s'\n",
    'name: "\\ud800"\n',
    'name: "\\x00"\n',
    'name: "\\u202e"\n',
    'model: "\\ud83d\\ude00"\n',
    'model: "m0\\x00"\n',
    "? {a: 1}\n: 2\n",
    "? [a]\n: 2\n",
    "1: 2\n",
    "null: 2\n",
    "true: 2\n",
    "'': 2\n",
    "=: 2\n",
    "<<: {seed: 3}\n",
    "<<: [{seed: 3}, {seed: 4}]\n",
    "<<: 3\n",
    "seed: 1\nseed: 1\n",
    "sampling: {draws: 2, draws: 3}\n",
    "sampling: {draws: 2, 'draws': 3}\n",
    "sampling.draws: 3\n",
    "Seed: 3\n",
    " seed: 3\n",
    "\tseed: 3\n",
    "---\nseed: 3\n",
    "...\nseed: 3\n",
    "%YAML 1.2\n---\nseed: 3\n",
    "%TAG ! tag:example.com:\n---\nseed: 3\n",
    "extra: " + "[" * 200 + "]" * 200 + "\n",
    "extra: " + "[" * 5000 + "]" * 5000 + "\n",
    "".join(f"{' ' * at}a{at}:\n" for at in range(300)),
    "extra: '" + "x" * 1_000_000 + "'\n",
    "".join(f"field_{at}: {at}\n" for at in range(3000)),
    _bomb(4) + "\n",
    _bomb(12) + "\n",
    f"judge: {{rubric: [{_bomb(3)}]}}\n",
)


def _oddity(case: Case) -> None:
    line = case.pick(ODDITIES)
    name = line.partition(":")[0].strip()
    if case.rng.random() < 0.7:
        case.toy.fields.pop(name, None)
    text = dump(case.toy.fields)
    case.note("line:", show(line))
    text = line + text if case.rng.random() < 0.3 else text + line
    case.toy.path.write_bytes(text.encode())


def _unknown(case: Case) -> None:
    section = case.pick([(), *((name,) for name in SECTIONS)])
    name = case.pick(("unknown", "draw", "folder", "n ame", "Name", "é", "a" * 500, "__class__"))
    value = hostile(case.rng)
    case.set([*section, name], value)
    case.note("unknown field:", ".".join([*section, name])[:80], show(value))
    case.must_fail = True
    case.write_recipe()


SECTIONS = ("prompts", "loop", "sampling", "judge", "pairs", "train", "stop_if", "shards")


def _section(case: Case) -> None:
    name = case.pick([*SECTIONS, "probe", "judges", "engine", "model", "name"])
    if case.rng.random() < 0.2:
        case.toy.fields.pop(name, None)
        case.note("without:", name)
    else:
        case.toy.fields[name] = hostile(case.rng)
        case.note(name, "=", show(case.toy.fields[name]))
    case.write_recipe()


def _large(case: Case) -> None:
    n = case.pick((10, 100, 1000))
    match case.rng.randrange(5):
        case 0:
            case.toy.write(
                judges={f"j{at}": {"function": "gold.py:grade"} for at in range(n // 40)}
            )
        case 1:
            case.toy.write(prompts={"files": ["prompts.jsonl"] * n})
        case 2:
            case.toy.write(prompts={"language": ["en"] * n * 10})
        case 3:
            case.toy.write(pairs={"agree": ["judge"] * n})
        case 4:
            case.toy.write(train={"dpo": {f"k{at}": at for at in range(n)}})
    case.note("large:", n, show(case.toy.fields))


def recipes(case: Case) -> None:
    way = case.pick((_bytes, _bytes, _oddity, _oddity, _oddity, _unknown, _section, _large))
    way(case)
    case.may_stop = True
    case.answers_are_words = False


# fields


@functools.cache
def _fields() -> list[tuple[tuple[str, ...], dict]]:
    """Return the path and the schema of each field of a recipe."""
    schema = recipe_schema()
    found = []

    def look(path, part, depth):
        while "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]
        for each in (*part.get("anyOf", ()), *part.get("oneOf", ()), *part.get("allOf", ())):
            look(path, each, depth)
        for name, inner in part.get("properties", {}).items():
            found.append(((*path, name), inner))
            if depth < 4:
                look((*path, name), inner, depth + 1)
        inner = part.get("additionalProperties")
        if isinstance(inner, dict) and depth < 4:
            look((*path, "other"), inner, depth + 1)

    look((), schema, 0)
    return found


@functools.cache
def _validator():
    return jsonschema.Draft202012Validator(recipe_schema())


ENGINES = {"scripted": {}, "transformers": {}, "vllm": {}, "openai": {"model": "m"}}


def _value(case: Case, path: tuple[str, ...], schema: dict):
    """Return a value for a field: hostile, near one of its bounds, or of its type."""
    options = [schema, *schema.get("anyOf", ())]
    bounds = [
        each[name]
        for each in options
        for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
        if name in each
    ]
    if bounds and case.rng.random() < 0.4:
        bound = case.pick(bounds)
        return case.pick((bound, bound - 1, bound + 1, bound / 2, bound * 2, -bound, str(bound)))
    known = [value for each in options for value in each.get("enum", ())]
    if known and case.rng.random() < 0.4:
        value = case.pick(known)
        return case.pick((value, str(value).upper(), f"{value} ", [value]))
    if any(each.get("type") == "string" for each in options) and case.rng.random() < 0.5:
        return case.pick(TEXTS)
    return hostile(case.rng)


def fields(case: Case) -> None:
    for _ in range(case.pick((1, 1, 1, 2, 3))):
        path, schema = case.pick(_fields())
        value = _value(case, path, schema)
        if "engine" in path[:-1]:
            at = path.index("engine") + 1
            names = [name for name in ENGINES if _in_engine(name, path[at])]
            name = case.pick(names or ["scripted"])
            case.set(path[:at], {"name": name, **ENGINES[name]})
            if name == "openai":
                case.set([*path[:at], "base_url"], "http://127.0.0.1:9/v1")
        if path[0] == "probe":
            case.write("probe.jsonl", '{"prompt": "Probe?"}\n')
            case.set(["probe"], {"files": ["probe.jsonl"], "function": "gold.py:grade"})
        case.set(path, value)
        case.note(".".join(path), "=", show(value))
    case.may_stop = True
    case.answers_are_words = False
    case.write_recipe()
    case.must_fail = _is_invalid(case)


@functools.cache
def _engine_fields() -> dict[str, set[str]]:
    schema = recipe_schema()["$defs"]
    return {
        name: set(schema[f"{name.capitalize()}Engine"]["properties"])
        for name in ("scripted", "transformers", "vllm", "openai")
    }


def _in_engine(name: str, field: str) -> bool:
    return field in _engine_fields()[name]


def _is_invalid(case: Case) -> bool:
    """Return whether the recipe breaks its JSON Schema. Values outside JSON count as unknown."""
    try:
        data = json.loads(json.dumps(yaml.safe_load(case.toy.path.read_text())))
    except (TypeError, ValueError, yaml.YAMLError):
        return False
    if isinstance(data.get("train"), dict) and data["train"].get("with") == "scripted":
        data["train"]["with"] = "trl"  # the schema does not list it
    return bool(list(_validator().iter_errors(data)))


# arguments

COMMANDS = (
    "plan {recipe} --lake {lake} --set {override}",
    "run {recipe} --lake {lake} --set {override}",
    "status {recipe} --lake {lake} --set {override}",
    "doctor {recipe} --lake {lake} --set {override}",
    "verify {recipe} --lake {lake} --set {override}",
    "sql {recipe} --lake {lake} 'from pairs' --set {override}",
    "pairs {recipe} --lake {lake} --name {text} --set pairs.min_margin=0",
    "pairs {recipe} --lake {lake} --name wide --set {override}",
    "pairs {recipe} --lake {lake} --name wide --set pairs.per_prompt={text}",
    "export {recipe} --lake {lake} --to {trainer} --out {out}",
    "export {recipe} --lake {lake} --to {text} --out {out}",
    "export {recipe} --lake {lake} --to trl --out {file}",
    "export {file} --lake {lake} --to trl --out {out}",
    "publish {recipe} --lake {lake} --repo {text} --dry-run {out}",
    "publish {recipe} --lake {lake} --repo org/toy --dry-run {out} --tag {text}",
    "publish {recipe} --lake {lake} --repo org/toy --dry-run {out} --revision {text}",
    "publish {recipe} --lake {lake} --repo org/toy --dry-run {out} --allow {text}",
    "publish {recipe} --lake {lake} --repo org/toy --dry-run {out} --evaluation {file}",
    "publish {recipe} --lake {lake} --repo org/toy --dry-run {file}",
    "trace {text} --lake {lake}",
    "trace {recipe} {text} --lake {lake}",
    "trace {text} --dataset {file}",
    "diff {recipe} {file} --lake {lake}",
    "diff {recipe} {recipe} --lake {lake} --limit {text}",
    "diff {recipe} {recipe} --lake {lake} --set-a {override} --set-b {override}",
    "diff {recipe} {recipe} --lake {lake} --lake-b {file} --sql",
    "preview {recipe} --lake {lake} --first {text}",
    "adopt {recipe} {file} --lake {lake} --iteration {text} --role {text}",
    "adopt {recipe} {file} --lake {lake} --iteration 0 --role future",
    "train {file} --model {text} --out {out}",
    "train {file} --model m0 --out {out} --set {override}",
    "init {out} --from {text}",
    "init {file}",
    "{text}",
    "{text} {text}",
    "plan {file}",
    "plan {recipe} --lake {file}",
    "status {recipe} --lake {file} --json",
    "verify --lake {file}",
    "schema {text}",
)


NEW = ("none", "a\\0b")
"""Names of files that do not exist."""


def arguments(case: Case) -> None:
    copy_finished(case)
    out = case.base / "out"
    case.outs = [out, case.lake, *(case.toy.folder / name for name in NEW)]  # for `init`

    def override() -> str:
        path, schema = case.pick(_fields())
        value = _value(case, path, schema)
        text = dump(value).strip().removesuffix("...").strip() if case.rng.random() < 0.5 else value
        form = case.pick(
            ("{path}={value}", "{path}={value}", "{path}", "={value}", "{path}.x={value}")
        )
        return form.format(path=".".join(path), value=text)

    words = {
        "{recipe}": lambda: str(case.toy.path),
        "{lake}": lambda: str(case.lake),
        "{out}": lambda: str(out),
        "{override}": override,
        "{text}": lambda: case.pick(TEXTS),
        "{trainer}": lambda: case.pick(("trl", "axolotl", "torchtune", "openrlhf", "kto")),
        "{file}": lambda: case.pick(
            (
                *("prompts.jsonl", "recipe.yaml", ".", "..", "m0", "gold.py", "lake", ""),
                *("lake/datasets/toy", "lake/datasets", "/dev/null", "x" * 300, *NEW),
            )
        ),
    }
    command = []
    for word in shlex.split(case.pick(COMMANDS)):
        for name, value in words.items():
            if name in word:
                word = word.replace(name, str(value()).replace("\x00", "\\0")[:100_000])
        command.append(word.encode("utf-8", "replace").decode())
    case.commands = [command]
    case.may_stop = True
    case.note("factory", show(" ".join(command)))


KINDS = {
    "recipes": Kind(recipes, 45, runs=0.1),
    "fields": Kind(fields, 80, runs=0.2),
    "arguments": Kind(arguments, 24),
}


def test_an_input_is_refused_or_works(verdict):
    assert verdict.is_right, verdict
