"""Tests of canonical JSON and of the hashes of it, which must never change."""

import hashlib
import random

import duckdb
import pyarrow as pa
import pytest

from factory.fingerprint import (
    ID_LENGTH,
    canonical,
    file_digest,
    files_digest,
    folder_key,
    row_id,
    seed_of,
    short_hash,
)


def test_the_order_of_keys_does_not_matter_at_any_depth():
    one = {"b": 1, "a": {"y": [1, {"q": 2, "p": 3}], "x": 2}}
    other = {"a": {"x": 2, "y": [1, {"p": 3, "q": 2}]}, "b": 1}
    assert canonical(one) == canonical(other) == '{"a":{"x":2,"y":[1,{"p":3,"q":2}]},"b":1}'


def test_the_order_of_a_list_matters():
    assert canonical([1, 2]) != canonical([2, 1])


def test_a_tuple_is_a_list():
    assert canonical((1, (2, 3))) == canonical([1, [2, 3]]) == "[1,[2,3]]"


def test_entries_that_are_none_are_left_out_of_mappings_and_kept_in_lists():
    assert canonical({"a": 1, "b": None, "c": {"d": None}}) == '{"a":1,"c":{}}'
    assert canonical([None, 1]) == "[null,1]"


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (-0.0, "0"), (0.1, "0.1"), (1e-6, "1e-06")]
)
def test_a_number_has_one_text(value, text):
    assert canonical(value) == text


def test_truth_is_not_a_number():
    assert canonical({"a": True}) != canonical({"a": 1})


def test_text_stays_as_it_is():
    assert canonical("é\n🎈") == '"é\\n🎈"'


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), -float("inf"), {1, 2}, b"bytes", object(), {1: "a"}, {None: 1}],
    ids=["nan", "inf", "-inf", "set", "bytes", "object", "integer key", "None key"],
)
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: {"a": [{"b": x}]}])
def test_what_has_no_single_text_is_refused(value, wrap):
    with pytest.raises(TypeError, match=r"^got .*, (expected|which JSON)"):
        canonical(wrap(value))


def test_a_row_id_is_what_duckdb_makes_of_the_same_parts():
    random_ = random.Random(0)
    pieces = ["", "a", "A", "é", "e\u0301", "🎈", "'", '"', "\\", "\n", "\t", " ", "\x00", "\x1e"]
    pieces += ["\u2028", "\ufeff", "/", "0", "None", "null", "%s", "{}", ",", "𝔘", "\u202e", "\x7f"]

    def text():
        return "".join(random_.choices(pieces, k=random_.randrange(6)))

    rows = [
        {
            "first": text(),
            "draw": random_.choice([0, 7, 1024, -1, 2**31 - 1]),
            "last": random_.choice([None, text()]),
        }
        for _ in range(500)
    ]
    with duckdb.connect() as con:
        con.register("parts", pa.Table.from_pylist(rows))
        found = con.execute(
            "select left(sha256(concat_ws(chr(31), first, draw, coalesce(last, ''))), 24)"
            " from parts"
        ).fetchall()
    assert [row_id(row["first"], row["draw"], row["last"]) for row in rows] == [x for (x,) in found]


def test_a_row_id_tells_apart_where_its_parts_end():
    assert row_id("ab", "c") != row_id("a", "bc")
    assert row_id("a", None, "b") == row_id("a", "", "b") != row_id("a", "b")


def test_a_short_hash_is_the_beginning_of_a_sha256():
    assert short_hash("é") == hashlib.sha256("é".encode()).hexdigest()[:ID_LENGTH]


def test_a_seed_leaves_room_for_a_draw_within_a_signed_64_bit_int():
    seeds = [seed_of("asked", number) for number in range(2000)]
    assert all(0 <= seed < 2**62 for seed in seeds)
    assert max(seeds) > 2**61  # the whole range is used
    assert len(set(seeds)) == len(seeds)


def test_seeds_are_what_they_were():
    assert seed_of("asked", "prompt") == 4284772644890470910
    assert seed_of("a", 3) == 680115851641695550


def test_folder_keys_are_what_they_were():
    settings = {"model": "d", "temperature": 0.8, "seed": 0}
    assert folder_key("samples", 1, settings) == "48fe11053ff7c442bd67eb53"
    assert folder_key("verdicts", 2, {}) == "b7750a43f6605c4e500d51fa"


def test_a_folder_key_changes_with_stage_version_and_settings():
    keys = {
        folder_key("samples", 1, {"seed": 0}),
        folder_key("judgments", 1, {"seed": 0}),
        folder_key("samples", 2, {"seed": 0}),
        folder_key("samples", 1, {"seed": 1}),
    }
    assert len(keys) == 4


def test_a_setting_added_later_with_the_default_none_changes_no_key():
    assert folder_key("samples", 1, {"seed": 0, "new": None}) == folder_key(
        "samples", 1, {"seed": 0}
    )


def test_files_have_one_digest_whatever_their_order(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    digest = file_digest(tmp_path / "a")
    assert digest == hashlib.sha256(b"abc").hexdigest()
    assert files_digest([("a", digest), ("b", "0")]) == files_digest([("b", "0"), ("a", digest)])
    assert files_digest([("a", digest)]) != files_digest([("b", digest)])
