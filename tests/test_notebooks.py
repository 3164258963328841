"""The notebooks run in a real kernel, on the Python API alone."""

import ast
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def execute(cells: list[str], folder: Path) -> list[dict]:
    """Run cells of code in a Jupyter kernel, and return the outputs of all cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
    return [output for cell in notebook.cells for output in cell["outputs"]]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")  # jupyter_client warns about its own event loops
def test_a_notebook_runs_from_top_to_bottom(path, toy):
    toy.add_probe()
    toy.finish()
    cells = nbformat.read(path, as_version=4).cells
    code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(not cell.get("outputs") for cell in cells), "a notebook is kept without its outputs"
    assert imported(code) == {"factory", "polars"}
    places = {"../recipes/quickstart/recipe.yaml": toy.path, "../lake": toy.lake}
    for place, there in places.items():
        code[0] = code[0].replace(f'"{place}"', repr(str(there)))
    checks = """
assert len(gaps) == 4
assert {row["outcome"] for row in outcomes} >= {"kept"}
assert scores.height == 12 * 3
"""
    outputs = execute([*code, checks], toy.folder)
    shown = [output["data"] for output in outputs if output["output_type"] == "execute_result"]
    assert sum("<table" in data.get("text/html", "") for data in shown) >= 8
    assert any("image/svg+xml" in data for data in shown)


@pytest.mark.filterwarnings("ignore")
def test_a_run_in_a_notebook_shows_bars_and_ends_with_plain_lines(toy):
    run = f"""
import factory
f = factory.open({str(toy.path)!r}, {str(toy.lake)!r})
result = f.run()
"""
    outputs = execute([run], toy.folder)
    shown = [output["data"]["text/plain"] for output in outputs if "data" in output]
    assert any(
        text.startswith("samples of M_0 as current and past, iteration 0: ") for text in shown
    )
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert toy.shards("pairs")


def imported(code: list[str]) -> set[str]:
    """Return the names of the modules that the cells import."""
    nodes = [node for text in code for node in ast.walk(ast.parse(text))]
    assert not any(isinstance(node, ast.ImportFrom) for node in nodes)
    return {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
