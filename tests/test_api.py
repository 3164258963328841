"""The Python API: its examples run, its results show themselves, and it prints nothing."""

import doctest
import json
import subprocess
import sys

import polars as pl
import pytest

import factory as package
from factory import api, results
from factory.api import Factory


@pytest.fixture
def opened(toy) -> Factory:
    """A toy recipe that was run."""
    toy.add_probe()
    toy.finish()
    return package.open(toy.path, toy.lake)


@pytest.mark.slow
@pytest.mark.parametrize("module", [package, api, results], ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_run(module, toy, monkeypatch):
    toy.finish()
    monkeypatch.chdir(toy.folder)
    failed, tried = doctest.testmod(
        module, extraglobs={"factory": package}, optionflags=doctest.ELLIPSIS
    )
    assert tried > 0
    assert failed == 0


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, factory\n"
        "heavy = {'duckdb', 'polars', 'pyarrow', 'pydantic', 'torch', 'typer', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)), factory.__version__, 'open' in dir(factory))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == f"[] {package.__version__} True\n"


def test_every_public_name_exists():
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = package.nothing


@pytest.mark.slow
def test_nothing_is_printed(toy, capsys):
    opened = package.open(toy.path, toy.lake)
    opened.run()
    opened.plan()
    opened.pairs("wide", {"pairs.min_margin": 2})
    opened.sql("score_gap")
    printed = capsys.readouterr()
    assert printed.out + printed.err == ""


@pytest.mark.slow
def test_progress_is_shown_as_lines_if_asked_for(toy, capsys):
    package.open(toy.path, toy.lake, progress=True).run()
    printed = capsys.readouterr()
    assert "samples of M_0" in printed.err
    assert printed.out == ""


def test_set_takes_values_of_any_type(toy):
    changes = {"sampling.draws": 2, "name": "2026", "pairs.score": "mean", "judges": {}}
    recipe = package.open(toy.path, toy.lake, changes).recipe
    assert (recipe.sampling.draws, recipe.name, recipe.judges) == (2, "2026", {})
    by_lines = package.open(toy.path, set=["sampling.draws=3"])
    assert by_lines.recipe.sampling.draws == 3
    assert "sampling.draws=3" in repr(by_lines)


def test_set_refuses_what_yaml_cannot_express(toy):
    with pytest.raises(package.FactoryError, match=r"set: sampling\.draws is a value of type set"):
        package.open(toy.path, set={"sampling.draws": {1, 2}})
    changed = package.open(toy.path, set={"model": toy.folder / "m0"})
    assert changed.recipe.model.path == str(toy.folder / "m0")


def test_errors_name_arguments_here_and_options_on_the_command_line(toy, factory):
    opened = package.open(toy.path, toy.folder / "none")
    with pytest.raises(package.FactoryError, match=r"^lake: no such lake"):
        opened.verify()
    ended = factory("verify", toy.path, "--lake", toy.folder / "none", "--json")
    assert ended.err.startswith("factory: --lake: no such lake")
    assert json.loads(ended.out)["field"] == "--lake"
    with pytest.raises(package.FactoryError, match=r"^set sampling: "):
        package.open(toy.path, set=["sampling"])
    ended = factory("plan", toy.path, "--set", "sampling")
    assert ended.err.startswith("factory: --set sampling: ")


def test_the_lake_comes_from_the_environment_unless_it_is_given(toy, monkeypatch):
    monkeypatch.setenv("FACTORY_LAKE", str(toy.lake))
    assert package.open(toy.path).lake == toy.lake
    assert package.open(toy.path, "other").lake.name == "other"


def test_errors_are_factory_errors(toy):
    with pytest.raises(package.FactoryError, match=r"sampling\.draw"):
        package.open(toy.path, set={"sampling.draw": 4})
    with pytest.raises(package.FactoryError, match="no such lake"):
        package.open(toy.path, toy.folder / "none").verify()
    with pytest.raises(package.FactoryError, match="expected one of prompts"):
        package.open(toy.path, toy.lake).table("nothing")


def test_a_result_converts_to_polars_pandas_and_arrow(opened):
    gaps = opened.sql("from gaps")
    assert gaps.to_polars().height == gaps.to_arrow().num_rows == len(gaps) == 4
    assert next(iter(gaps))["phase"] == "D1"
    pytest.importorskip("pandas")
    assert list(gaps.to_pandas()["phase"]) == ["D1", "D2"] * 2
    assert opened.plan().to_polars().height == len(opened.status())


def test_a_result_shows_itself_as_text_and_html(opened):
    result = opened.run()
    assert "past: rejected" in repr(result)
    assert f"Dataset with {result.n_rows['train']} train" in repr(result)
    assert result._repr_html_().count("<table>") == 4
    shown = opened.sql("select '<script>' as text, 1234 as n")
    assert "&lt;script&gt;" in shown._repr_html_()
    assert "<script>" not in shown._repr_html_()
    assert repr(shown) == "text          n\n────────  ─────\n<script>  1,234"


def test_a_long_result_shows_its_first_rows(opened):
    shown = repr(opened.sql("select i from range(250) numbers(i)"))
    assert shown.count("\n") == 103
    assert shown.endswith("… and 150 more rows")


def test_each_method_returns_what_the_command_prints_as_json(opened, toy, factory):
    where = (toy.path, "--lake", toy.lake)
    for name in ("plan", "status", "run", "doctor", "verify"):
        assert factory(name, *where, "--json").json() == _json(getattr(opened, name)()), name
    pair = opened.sql("select pair_id from pairs where outcome = 'kept'").rows[0]["pair_id"]
    printed = factory("trace", *where, pair, "--json").json()
    assert printed == factory("trace", pair, "--lake", toy.lake, "--json").json()
    assert printed == _json(opened.trace(pair))


def _json(result):
    return json.loads(json.dumps(result.to_dict(), default=str))


def test_the_history_of_a_pair_has_a_row_per_judgment(opened):
    pair = opened.sql("select pair_id from pairs where outcome = 'kept'").rows[0]["pair_id"]
    traced = opened.trace(pair)
    assert [row["side"] for row in traced] == ["chosen"] * 2 + ["rejected"] * 2
    assert {row["draw"] for row in traced} == {0, 1}
    assert pair in repr(traced)


def test_a_pair_is_shown_with_its_prompt_and_its_answers(opened):
    pair = opened.sql("from pairs where outcome = 'kept' and phase = 'D2' limit 1").rows[0]
    chosen = f"select text from samples where sample_id = '{pair['chosen_id']}'"
    answer = opened.sql(chosen).rows[0]["text"]
    in_lake = opened.trace(pair["pair_id"])
    in_dataset = package.open_dataset(opened.run().dataset).trace(pair["pair_id"])
    for trace in (in_lake, in_dataset):
        shown = dict(trace.tables())["Texts"]
        assert [row["part"] for row in shown] == ["prompt", "chosen", "rejected"]
        assert shown[1]["text"] == answer
        assert answer.splitlines()[0] in repr(trace)


def test_a_query_without_rows_says_why(toy):
    opened = package.open(toy.path, toy.lake)
    assert "has not run yet" in repr(opened.sql("from pairs"))
    toy.finish()
    assert repr(opened.sql("from pairs limit 0")) == "No rows."
    pair = opened.sql("from pairs where outcome = 'kept' limit 1").rows[0]["pair_id"]
    assert not opened.trace(pair).notes()
    changed = package.open(toy.path, toy.lake, {"sampling.temperature": 0.5})
    assert "--set" in repr(changed.sql("from pairs"))
    assert "other settings" in repr(changed.trace(pair))


def test_a_table_is_a_lazy_frame_that_reads_what_it_needs(opened):
    frame = opened.table("candidates")
    assert isinstance(frame, pl.LazyFrame)
    best = frame.filter(pl.col("role") == "future").select(pl.col("score").max()).collect()
    query = "select max(score) as best from candidates where role = 'future'"
    assert [{"best": best.item()}] == opened.sql(query).rows


@pytest.mark.slow
def test_a_recipe_is_compared_with_a_dataset_and_with_another_recipe(opened, toy):
    wide = opened.pairs("wide", {"pairs.min_margin": 2})
    by_path, by_object = opened.diff(wide.dataset), opened.diff(package.open_dataset(wide.dataset))
    assert by_path.rows == by_object.rows
    assert by_path.sets[1]["kept"] == sum(wide.n_rows.values())
    same = opened.diff(toy.path)
    assert [row["status"] for row in same] == ["same"]
    back = package.open_dataset(wide.dataset).diff(opened)
    assert sum(row["pairs"] for row in back) == sum(row["pairs"] for row in by_path)
    assert "from diff" in opened.diff_sql(wide.dataset)


def test_verify_checks_the_recipe_or_the_whole_lake(opened, toy):
    package.open(toy.path, toy.lake, {"seed": 5}).preview(1)
    whole, one = package.verify(toy.lake), opened.verify()
    assert whole.ok
    assert one.ok
    assert 0 < one.n_shards < whole.n_shards
    shard = next(path for path in toy.shards("samples"))
    shard.write_bytes(shard.read_bytes()[:-1])
    damaged = package.verify(toy.lake)
    assert not damaged.ok
    assert damaged.rows[0]["file"].startswith("samples/")


def test_a_dataset_is_exported_and_traced_without_its_recipe(opened, tmp_path):
    dataset = package.open_dataset(opened.run().dataset)
    exported = dataset.export("trl", tmp_path / "out")
    assert exported.n_rows["train"] > 0
    assert exported.command.startswith("trl dpo --config dpo.yaml")
    pair = opened.sql("select pair_id from pairs where outcome = 'kept' and phase = 'D2'").rows[0]
    assert dataset.trace(pair["pair_id"]).found["pair_id"] == pair["pair_id"]
