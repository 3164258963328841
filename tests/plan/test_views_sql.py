"""`views.sql` in the lake: the views of `factory sql` for plain DuckDB in the lake's folder."""

import duckdb
import pytest
from toys import publishable, write_published

from factory.lake import shipped_queries
from factory.plan import PUBLIC_VIEWS, all_views


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    toy = publishable(tmp_path_factory.mktemp("views") / "toy")
    toy.add_probe()
    toy.finish()
    return toy


@pytest.fixture(scope="module")
def lake_views(made):
    """The views of `factory sql`."""
    return all_views(made.look())


def script(toy):
    return (toy.lake / "recipes" / "toy" / "views.sql").read_text()


@pytest.fixture
def plain(made, monkeypatch):
    """Yield a plain DuckDB connection in the lake's folder, with the views of `views.sql`."""
    monkeypatch.chdir(made.lake)
    with duckdb.connect() as con:
        con.execute(script(made))
        yield con


@pytest.mark.parametrize("view", PUBLIC_VIEWS)
def test_the_views_have_the_rows_and_columns_of_factory_sql(lake_views, plain, view):
    ours = lake_views.con.sql(f"from {view} order by all").to_arrow_table()
    theirs = plain.sql(f"from {view} order by all").to_arrow_table()
    assert theirs.schema.names == ours.schema.names
    assert theirs.to_pylist() == ours.to_pylist()
    assert len(ours) > 0


@pytest.mark.parametrize("name", shipped_queries())
def test_named_queries_run_on_them(lake_views, plain, name):
    query = shipped_queries()[name].sql
    ours = lake_views.all(query)
    assert plain.sql(query).to_arrow_table().to_pylist() == ours


def test_paths_in_it_are_relative_to_the_lake(made):
    text = script(made)
    assert str(made.folder) not in text
    assert "'samples/" in text


@pytest.mark.slow
def test_it_is_written_again_when_the_lake_has_more(made, toy):
    toy.write(loop={"iterations": 1})
    toy.finish()
    before = script(toy)
    toy.run()
    assert script(toy) == before
    toy.run("sampling.draws=4")
    assert script(toy) != before


def test_a_published_folder_exposes_the_same_names(made, lake_views, tmp_path, monkeypatch):
    folder = write_published(made, tmp_path / "folder")
    monkeypatch.chdir(folder)
    with duckdb.connect() as con:
        con.execute((folder / "sql" / "views.sql").read_text())
        for view in PUBLIC_VIEWS:
            ours = lake_views.con.sql(f"from {view} limit 0").columns
            theirs = con.sql(f"from {view} limit 0").columns
            assert set(theirs) == set(ours) - UNPUBLISHED.get(view, set()), view


UNPUBLISHED = {"prompts": {"context", "context_with_meta"}}
"""Columns that are only needed to resume a run."""
