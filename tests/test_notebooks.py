"""The notebooks run, on a lake like any other."""

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
    assert names["gaps"].height == 4
    assert set(names["outcomes"]["outcome"]) >= {"kept"}
    assert names["scores"].height == 12 * 3 * 3
