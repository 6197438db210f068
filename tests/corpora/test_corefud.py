"""CorefUD: documents, their text, and brackets of entities."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3dllm.corpora.corefud import read_corefud
from m3dllm.corpora.imported import Imported
from m3dllm.errors import UserError
from tests.corpora.tools import changes, reasons, words


def row(number: str, form: str, misc: str = "_") -> str:
    return "\t".join([number, form, *"_" * 7, misc])


def read(folder: Path, *lines: str) -> Imported:
    (folder / "x-train.conllu").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_corefud(folder / "x-train.conllu")


HEAD = ("# newdoc id = d", "# global.Entity = eid-etype-head-other")


def test_brackets_are_mentions_and_their_names_are_entities(tmp_path):
    sentences = (row("1", "Ada", "Entity=(e1-person-1-)"), row("2", "met", "_"), row("3", "Bo", "Entity=(e2-person-1-"))
    more = (row("4", "Li", "Entity=e2)|SpaceAfter=No"), row("5", "."), "", row("1", "She", "Entity=(e1-person-1-)"))
    (example,) = read(tmp_path, *HEAD, *sentences, *more).splits["train"]
    assert (example.document.id, example.document.text) == ("d", "Ada met Bo Li. She")
    assert words(example) == [("person", ["Ada", "She"]), ("person", ["Bo Li"])]
    assert example.unannotated == {"relation"}


def test_brackets_nest_and_follow_one_another(tmp_path):
    rows = (row("1", "a", "Entity=(e1-x-1(e2-y-1)"), row("2", "b", "Entity=e1)(e3-z-1"), row("3", "c", "Entity=e3)"))
    (example,) = read(tmp_path, *HEAD, *rows).splits["train"]
    assert sorted(words(example)) == [("x", ["a b"]), ("y", ["a"]), ("z", ["b c"])]


def test_the_order_of_fields_stands_in_the_file(tmp_path):
    head = ("# newdoc id = d", "# global.Entity = etype-eid")
    (example,) = read(tmp_path, *head, row("1", "a", "Entity=(x-e1)"), row("2", "b", "Entity=(y-e1)")).splits["train"]
    assert words(example) == [("x", ["a", "b"])]


def test_words_of_a_range_have_its_text(tmp_path):
    rows = (row("1-2", "du"), row("1", "de", "Entity=(e1-x-1"), row("2", "le"), row("3", "roi", "Entity=e1)"))
    (example,) = read(tmp_path, *HEAD, *rows).splits["train"]
    assert words(example) == [("x", ["du roi"])]


def test_mentions_of_empty_nodes_and_brackets_that_do_not_match_are_counted(tmp_path):
    rows = (row("1", "a", "Entity=e9)(e8-x-1"), row("1.1", "_", "Entity=(e1-x-1)"))
    assert reasons(read(tmp_path, *HEAD, *rows)) == [
        ("mention", "it closes a bracket that is not open"),
        ("mention", "it begins or ends at an empty node, which has no text"),
        ("mention", "its bracket is never closed"),
    ]


def test_pieces_become_the_span_that_covers_them_and_missing_types_are_counted(tmp_path):
    rows = (row("1", "a", "Entity=(e1[1/2]--1)"), row("2", "b"), row("3", "c", "Entity=(e1[2/2]--1)"))
    imported = read(tmp_path, *HEAD, *rows)
    assert words(imported.splits["train"][0]) == [("MISC", ["a b c"])]
    assert [what for what, _ in changes(imported)] == ["mention", "mention"]


@pytest.mark.parametrize("line", ["1\ta", row("x", "a"), row("", "a")])
def test_a_row_that_is_none_is_named(tmp_path, line):
    with pytest.raises(UserError, match=r"conllu:3: "):
        read(tmp_path, *HEAD, line)
    with pytest.raises(UserError, match="has no document to import"):
        read(tmp_path, *HEAD)
