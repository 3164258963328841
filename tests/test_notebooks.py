"""The notebooks run, on a lake like any other."""

import ast
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(notebook, toy):
    pytest.importorskip("polars")
    toy.add_probe()
    toy.finish()
    cells = json.loads(notebook.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(not cell.get("outputs") for cell in cells), "a notebook is kept without its outputs"
    places = {"../recipes/quickstart/recipe.yaml": toy.path, "../lake": toy.lake}
    for place, there in places.items():
        code[0] = code[0].replace(f'"{place}"', repr(str(there)))
    names: dict = {}
    for text in code:
        exec(compile(text, notebook.name, "exec"), names)
    assert len(names["gaps"]) == 4
    assert {row["outcome"] for row in names["outcomes"]} >= {"kept"}
    assert names["scores"].height == 12 * 3
    assert {name.split(".")[0] for name in imports(code)} == {"factory", "polars"}


def imports(code: list[str]) -> set[str]:
    """The modules that the cells import."""
    nodes = [node for text in code for node in ast.walk(ast.parse(text))]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert not any(isinstance(node, ast.ImportFrom) for node in nodes)
    return plain
