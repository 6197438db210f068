"""Records as text and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.errors import UserError
from m3dllm.labels import Label, LabelSet
from m3dllm.systems.generative.language import (
    Form,
    check_types,
    number,
    object_name,
    plain,
    read,
    read_number,
    read_object,
    write,
)

TYPES = st.sampled_from(["PER", "LOC", "PER-PER_couple", "人物"])
TEXTS = st.text(st.sampled_from("Ada, <spot><asoc>[3] O1。北京\n\t"), min_size=1).map(plain).filter(bool)
NUMBERS = st.integers(0, 999).map(number)


@pytest.mark.parametrize(
    ("form", "records", "text"),
    [
        (Form(2), [("PER", "Ada Byron"), ("LOC", "London")], "PER, Ada Byron <spot> LOC, London"),
        (Form(3), [("[0]", "PER-LOC_birth", "[2]")], "[0], PER-LOC_birth, [2]"),
        (Form(0), [("[0]", "[2]"), ("[1]",)], "[0] <asoc> [2] <spot> [1]"),
        (Form(2), [("PER", "Smith, Jr.")], "PER, Smith, Jr."),
        (Form(2), [], ""),
    ],
)
def test_records_are_written_as_the_card_shows_and_read_again(form, records, text):
    assert " ".join(write(records, form)) == text
    assert read(text, form) == (records, [])


@given(st.lists(st.tuples(TYPES, TEXTS)))
def test_what_is_written_of_mentions_is_read_whatever_the_text_holds(records):
    assert read(" ".join(write(records, Form(2))), Form(2)) == (records, [])


@given(st.lists(st.lists(NUMBERS, min_size=1).map(tuple)))
def test_what_is_written_of_chains_is_read(records):
    assert read(" ".join(write(records, Form(0))), Form(0)) == (records, [])


@given(st.lists(st.tuples(NUMBERS, TYPES, NUMBERS)))
def test_what_is_written_of_relations_is_read(records):
    assert read(" ".join(write(records, Form(3))), Form(3)) == (records, [])


@given(st.text(st.sampled_from("PER, <spot><asoc>[3]O1 x")))
def test_every_text_is_read_and_each_piece_is_a_record_or_malformed(text):
    records, malformed = read(text, Form(2))
    assert len(records) + len(malformed) == (len(text.split("<spot>")) if text.strip() else 0)


@pytest.mark.parametrize(
    "text", ["PER", "PER,", ", Ada", "PER, Ada <spot>", "<spot> PER, Ada", "PER <asoc> Ada, x", "PER, <asoc> Ada"]
)
def test_half_a_record_is_none(text):
    assert len(read(text, Form(2))[1]) == 1


def test_what_looks_like_a_mark_in_a_document_is_written_as_none():
    assert plain("a <spot>\n b<asoc>") == "a < spot> b< asoc>"


@pytest.mark.parametrize("part", ["[3]", "[ 3 ]"])
def test_a_number_is_one_that_there_is(part):
    assert read_number(part, 4) == 3
    assert read_number(part, 3) is None


@pytest.mark.parametrize("part", ["3", "[-1]", "[x]", "[٣]", "[3] more", ""])
def test_anything_else_is_no_number(part):
    assert read_number(part, 1000) is None


def test_a_candidate_is_one_that_there_is():
    assert read_object(object_name(7), 8) == 7
    assert read_object("O8", 8) is None
    assert read_object("PER", 8) is None


@pytest.mark.parametrize("name", ["A, B", "a  b", "x<spot>"])
def test_a_type_that_cannot_be_written_is_one_line(name):
    with pytest.raises(UserError, match="rename it"):
        check_types(LabelSet(mentions=(Label(name),)))
