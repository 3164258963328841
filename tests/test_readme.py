"""The README: short, with links that exist, every command, and Python that runs."""

import json
import re
from pathlib import Path

import pytest

from factory.cli.app import GROUPS
from factory.recipe import load_recipe, recipe_schema
from factory.recipe.starters import starters

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *ROOT.glob("factory/**/README.md"), *ROOT.glob(".github/*.md")]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def test_it_has_at_most_200_lines():
    assert len(TEXT.splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_exists(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    links = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    for link in links:
        if not link.startswith(("http", "#")):
            assert (page.parent / link.partition("#")[0]).exists(), link


def test_it_lists_every_command():
    listed = {line.split()[1] for line in TEXT.splitlines() if line.startswith("factory ")}
    assert listed == {command.__name__ for commands in GROUPS.values() for command in commands}


def test_its_python_runs(toy, monkeypatch):
    (code,) = blocks("python")
    monkeypatch.chdir(toy.folder)
    assert len(code.splitlines()) <= 10
    names: dict = {}
    exec(code.replace("recipes/quickstart/recipe.yaml", "recipe.yaml"), names)
    assert names["dataset"].is_dir()
    assert (toy.folder / "for-axolotl" / "dpo.yaml").is_file()


def test_its_recipe_is_valid(tmp_path):
    (recipe,) = blocks("yaml")
    (tmp_path / "recipe.yaml").write_text(recipe)
    assert load_recipe(tmp_path / "recipe.yaml").sampling.draws == 7


@pytest.mark.parametrize("name", starters())
def test_every_shipped_recipe_points_editors_to_the_schema(name):
    first = (ROOT / "recipes" / name / "recipe.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=../recipe.schema.json"


def test_the_schema_beside_the_recipes_is_up_to_date():

    stored = json.loads((ROOT / "recipes" / "recipe.schema.json").read_text(encoding="utf-8"))
    assert stored == recipe_schema(), "run `factory schema > recipes/recipe.schema.json`"
