"""Tests of the dataset card: its metadata, its numbers, and the text of a user."""

import json
from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import yaml

datasets = pytest.importorskip("datasets")
markdown_it = pytest.importorskip("markdown_it")

from nasty import PARTS, nasty_texts  # noqa: E402
from toys import publishable, write_published  # noqa: E402

from factory.lake import Lake  # noqa: E402
from factory.plan import read_state  # noqa: E402
from factory.progress import Silent  # noqa: E402
from factory.publish import (  # noqa: E402
    BEGIN,
    CONFIGS,
    END,
    Kept,
    Published,
    PublishOptions,
    license_terms,
    read_card,
    write_folder,
    yaml_features,
)
from factory.publish.card import render_card  # noqa: E402
from factory.publish.folder import read_published  # noqa: E402
from factory.report import draw_picture  # noqa: E402
from factory.texts import clean_text  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("card")
    toy = publishable(place / "toy")
    toy.finish()
    return toy, write_published(toy, place / "folder")


def head_of(text):
    return yaml.safe_load(text.split("---\n")[1])


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_features_are_as_datasets_writes_them(made, tmp_path, config):
    _, folder = made
    loaded = datasets.load_dataset(str(folder), config.name, cache_dir=str(tmp_path))
    assert loaded["train"].features._to_yaml_list() == yaml_features(config.columns)


def test_the_head_is_complete(made):
    _, folder = made
    head = head_of((folder / "README.md").read_text())
    assert head["license"] == "apache-2.0"
    assert head["size_categories"] == ["n<1K"]
    assert head["task_categories"] == ["text-generation"]
    assert {"dpo", "preference", "trl", "synthetic"} <= set(head["tags"])
    assert [config["config_name"] for config in head["configs"]] == [
        config.name for config in CONFIGS
    ]
    assert [config.get("default") for config in head["configs"]] == [True, None, None, None, None]
    for info in head["dataset_info"]:
        for split in info["splits"]:
            loaded = datasets.load_dataset(
                "parquet", data_files=str(folder / _path(head, info, split)), split="train"
            )
            assert split["num_examples"] == len(loaded)


def _path(head, info, split):
    (config,) = [one for one in head["configs"] if one["config_name"] == info["config_name"]]
    return next(file["path"] for file in config["data_files"] if file["split"] == split["name"])


def test_numbers_are_those_of_the_lake(made):
    toy, folder = made
    card = (folder / "README.md").read_text()
    (gap,) = toy.query("from gaps where phase = 'D2'")
    counts = ("prompts", "kept", "ties", "identical", "unscored", "filtered")
    cells = ["0", "D2", *(f"{gap[name]:,}" for name in counts)]
    assert f"| {' | '.join([*cells, str(gap['gap'])])} |" in card
    (prompts,) = toy.query("select count(*) as n from prompts where iteration = 0")
    assert f"| made up | Apache-2.0 | {prompts['n']} | {gap['kept']} |" in card
    assert "{{" not in card
    assert "not checked: no evaluation set was given" in card


def test_what_is_borrowed_and_what_is_not_known_is_said(made):
    card = " ".join((made[1] / "README.md").read_text().split())
    assert "preference-factory uses defaults from related papers" in card
    assert "M_0 is a local folder. preference-factory does not know its license" in card
    assert "A wide gap does not prove that the chosen answers are better" in card


@pytest.mark.slow
def test_licences_that_differ_are_tabulated_and_not_merged(tmp_path):
    toy = publishable(tmp_path / "toy", 30)
    lines = [json.loads(line) for line in toy.prompts.read_text().splitlines()]
    for place, line in enumerate(lines):
        line |= {"source": f"part {place % 2}", "license": ["MIT", "CC-BY-4.0"][place % 2]}
    toy.prompts.write_text("\n".join(map(json.dumps, lines)))
    toy.run()
    card = (write_published(toy, tmp_path / "folder") / "README.md").read_text()
    assert head_of(card)["license"] == "other"
    assert "| part 0 | MIT | " in card
    assert "| part 1 | CC-BY-4.0 | " in card


def test_a_card_that_is_read_back_has_nothing_of_a_person_in_it(made):
    _, folder = made
    generated = json.loads((folder / "lineage.json").read_text())["card"]
    assert read_card((folder / "README.md").read_text(), generated) == Kept(order=[*generated])


@pytest.mark.parametrize("text", ["", "# Mine\n\nAll mine.\n", "---\n: [\n---\nMine"])
def test_a_card_that_is_not_ours_is_kept_below(text):
    kept = read_card(text, {})
    assert kept.before == ""
    assert kept.after == text.strip()


def test_what_a_person_changed_is_told_from_what_was_generated():
    card = (
        "---\nlicense: mit\npretty_name: Mine\nconfigs: []\nextra: 1\n---\n"
        f"above\n{BEGIN}\nold\n{END}\nbelow\n"
    )
    kept = read_card(card, {"license": "mit", "pretty_name": "toy", "configs": [1]})
    assert (kept.before, kept.after) == ("above", "below")
    assert kept.metadata == {"pretty_name": "Mine", "extra": 1}


def outline(card):
    """The kinds of blocks and inline parts of a card, and its headings."""
    parser = markdown_it.MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(card.split("---\n", 2)[2])
    places = [place for place, token in enumerate(tokens) if token.type == "heading_open"]
    heads = [tokens[place + 1].content for place in places]
    kinds = Counter(token.type for token in tokens)
    kinds += Counter(child.type for token in tokens for child in token.children or ())
    return heads, kinds


def hostile_card(toy, folder, published, monkeypatch):
    """Publish a toy with hostile sources, licenses, and names. Returns its card and lineage."""

    def render(release, *args):
        rows = [
            {**release.sources[0], "source": text, "license": text}
            for text in (clean_text(text) for text in nasty_texts(50))
        ]
        worst = "".join(PARTS)
        lineage = {
            **release.lineage,
            "judge": {**release.lineage["judge"], "rubric": worst},
            "models": [{**model, "served": worst} for model in release.lineage["models"]],
        }
        recipe = {**release.recipe, "pairs": {"score": worst, "chosen_if": worst}}
        hostile = replace(release, sources=rows, lineage=lineage, recipe=recipe)
        return render_card(hostile, *args)

    monkeypatch.setattr("factory.publish.folder.render_card", render)
    folder.mkdir()
    state = read_state(toy.recipe(), Lake(toy.lake))
    write_folder(state, folder, PublishOptions("org/toy"), published, Silent())
    return {name: (folder / name).read_text() for name in ("README.md", "lineage.json")}


@pytest.mark.slow
def test_hostile_texts_change_no_heading_and_the_card_does_not_grow(made, tmp_path, monkeypatch):
    toy, folder = made
    heads, kinds = outline((folder / "README.md").read_text())
    files = hostile_card(toy, tmp_path / "first", Published(), monkeypatch)
    card = files["README.md"]
    hostile_heads, hostile_kinds = outline(card)
    assert hostile_heads == heads
    for kind in ("html_block", "html_inline", "image", "fence", "code_block", "hr", "table_open"):
        assert hostile_kinds[kind] == kinds[kind], kind
    for kind in ("bullet_list_open", "ordered_list_open", "blockquote_open", "link_open"):
        assert hostile_kinds[kind] <= kinds[kind], kind
    n_more = len(nasty_texts(50)) - 1
    assert hostile_kinds["tr_open"] == kinds["tr_open"] + n_more
    assert card.count(f"\n{END}\n") == 1
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "other"
    assert not {"\x1b", "\r", "\u202e", "\x9b"} & {*card}

    again = hostile_card(toy, tmp_path / "second", read_published(files), monkeypatch)
    assert again["README.md"] == card
    own = card.replace(BEGIN, f"Mine\n\n---\n\n{BEGIN}", 1) + f"\nMore, with {END}\n---\n"
    third = hostile_card(
        toy, tmp_path / "third", read_published({**files, "README.md": own}), monkeypatch
    )
    fourth = hostile_card(toy, tmp_path / "fourth", read_published(third), monkeypatch)
    assert third == fourth
    assert f"\nMore, with {END}\n---" in third["README.md"]
    assert "\nMine\n\n---\n" in third["README.md"]


@pytest.mark.parametrize("mark", ["---", f"{END}", f"{BEGIN}"])
def test_marks_within_a_line_are_text(mark):
    text = f"---\npretty_name: 'x {mark}'\n---\nabove {mark}\n{BEGIN}\nold {mark}\n{END}\nbelow\n"
    kept = read_card(text, {})
    assert (kept.before, kept.after) == (f"above {mark}", "below")
    assert kept.metadata == {"pretty_name": f"x {mark}"}


@pytest.mark.parametrize(
    ("repository", "models"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "Llama 3.1 and later"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "Llama 2 and Llama 3"),
        ("meta-llama/Llama-2-7b-chat-hf", "Llama 2 and Llama 3"),
        ("google/gemma-2-9b-it", "Gemma"),
        ("gpt-4o", "OpenAI"),
        ("Qwen/Qwen2.5-7B-Instruct", None),
        (None, None),
    ],
)
def test_duties_go_by_the_models_name(repository, models):
    terms = license_terms(repository)
    assert (terms is None) == (models is None)
    assert models is None or terms.models.startswith(models)


def test_the_picture_is_a_picture_of_the_numbers(made):
    _, folder = made
    drawn = ElementTree.fromstring((folder / "scores.svg").read_text())
    words = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert {"iteration 0", "D1", "D2", "past", "current", "future"} <= set(words)


def test_a_picture_of_one_score_and_one_pair_is_drawn():
    gaps = [
        {"iteration": 0, "phase": "D2", "kept": 1, "gap": 0.0, "score_chosen": 3.0,
         "score_rejected": 3.0}
    ]  # fmt: skip
    gaps[0] |= {"ties": 0, "identical": 0, "unscored": 0, "filtered": 0}
    shares = ("future_won", "chosen_longer", "truncated_share", "same_text_share")
    figures = {"gap_in_sd": None, "rejudged": 0, **dict.fromkeys(shares)}
    bins = [{"iteration": 0, "role": "current", "from_score": 3.0, "to_score": 4.0, "share": 1.0}]
    ElementTree.fromstring(draw_picture(gaps, [{**gaps[0], **figures}], bins))
