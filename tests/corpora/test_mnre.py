"""MNRE: pairs of mentions become documents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.mnre import read_mnre
from m3dllm.errors import UserError
from tests.corpora.tools import changes, counts, facts, reasons, words

ADA = {"name": "Ada", "pos": (0, 1)}
ARLES = {"name": "New Arles", "pos": (3, 5)}
PAIR = {
    "token": ["Ada", "left", "for", "New", "Arles"],
    "h": ADA,
    "t": ARLES,
    "img_id": "a.jpg",
    "relation": "/per/loc/place_of_birth",
}


def read(folder: Path, *pairs: dict, write=repr) -> Imported:
    (folder / "mnre_train.txt").write_text("\n".join(map(write, pairs)), encoding="utf-8")
    return read_mnre(folder / "mnre_train.txt")


@pytest.mark.parametrize("write", [repr, json.dumps])
def test_a_pair_is_two_mentions_and_their_relation(tmp_path, write):
    (example,) = read(tmp_path, PAIR, write=write).splits["train"]
    assert (example.document.id, example.document.text) == ("a", "Ada left for New Arles")
    assert words(example) == [("per", ["Ada"]), ("loc", ["New Arles"])]
    assert facts(example) == [("Ada", "per/loc/place_of_birth", "New Arles")]
    assert example.unannotated == {"chain"}


def test_pairs_of_one_tweet_and_image_are_one_document(tmp_path):
    third = {"name": "left", "pos": (1, 2)}
    (example,) = read(tmp_path, PAIR, PAIR | {"h": third, "relation": "None"}).splits["train"]
    assert words(example) == [("per", ["Ada"]), ("MISC", ["left"]), ("loc", ["New Arles"])]
    assert len(facts(example)) == 1


def test_pairs_of_a_tweet_may_stand_apart_and_lines_end_with_cr(tmp_path):
    other = PAIR | {"img_id": "b.jpg"}
    (tmp_path / "a.txt").write_bytes("\r".join(map(repr, [PAIR, other, PAIR | {"t": ADA, "h": ARLES}])).encode())
    first, second = read_mnre(tmp_path / "a.txt").splits["train"]
    assert (len(facts(first)), len(facts(second))) == (2, 1)


@pytest.mark.parametrize("write", [repr, json.dumps])
def test_a_half_of_a_character_is_replaced_and_counted(tmp_path, write):
    imported = read(tmp_path, PAIR | {"token": ["Ada", "left", "for", "New", "Arles", "\ud83d"]}, write=write)
    assert imported.splits["train"][0].document.text == "Ada left for New Arles �"
    assert [what for what, _ in changes(imported)] == ["text"]


def test_types_that_no_relation_says_and_pairs_without_one_are_counted(tmp_path):
    imported = read(tmp_path, PAIR | {"relation": "None"}, PAIR | {"img_id": "b.jpg", "relation": "odd"})
    assert [why for _, why in changes(imported)] == ["no relation gives its type: MISC"] * 4
    assert reasons(imported) == [("relation", "it is not a path of two types and a name")]


def test_a_name_that_does_not_stand_at_its_tokens_is_no_mention(tmp_path):
    imported = read(tmp_path, PAIR | {"h": PAIR["h"] | {"name": "Somebody else"}})
    assert len(imported.splits["train"][0].gold.chains) == 1
    assert ("mention", "its text differs from the text at its tokens") in reasons(imported)


def test_positions_outside_the_tokens_are_counted(tmp_path):
    imported = read(tmp_path, PAIR | {"h": {"name": "x", "pos": (4, 9)}})
    assert reasons(imported) == [
        ("mention", "its tokens are not in the text"),
        ("relation", "one of its ends is not a mention"),
    ]


@pytest.mark.parametrize("line", ["{'token': [", "[1]", "{'token': ['a']}", "__import__('os')", "{" * 5000])
def test_a_line_that_is_no_pair_is_named(tmp_path, line):
    (tmp_path / "x.txt").write_text(line, encoding="utf-8")
    with pytest.raises(UserError, match=r"x\.txt:1: "):
        read_mnre(tmp_path / "x.txt")


def test_the_released_train_and_val(shared_data):
    imported = read_mnre(shared_data / "mnre")
    # tweets (distinct tokens and image), and lines whose relation is not None: 12247 - 7744 and 1624 - 1000
    held = counts(imported)
    assert {split: (n[0], n[3]) for split, n in held.items()} == {"train": (7356, 4503), "dev": (931, 624)}
    assert len(imported.labels.relations) == 22
    assert reasons(imported) == [("file", "its lines are not pairs")]
