"""The lines of `.ann` files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.corpora.standoff import Link, TextBound, parse_standoff


def test_a_text_bound_line_has_id_type_offsets_and_text():
    found = parse_standoff("T1\tPerson 0 3\tAda\n")
    assert found.texts == {"T1": TextBound("T1", "Person", ((0, 3),), "Ada", 1)}
    assert found.faults == []


def test_a_discontinuous_line_keeps_its_pieces():
    assert parse_standoff("T1\t器官 0 5;10 15\tright atrium").texts["T1"].fragments == ((0, 5), (10, 15))


def test_numbers_in_the_text_are_no_offsets():
    bound = parse_standoff("T1\tDate 3 7\t2030 4 5").texts["T1"]
    assert (bound.fragments, bound.text) == (((3, 7),), "2030 4 5")


def test_spaces_may_stand_for_tabs():
    bound = parse_standoff("T1 Person 0 5 Ada 1 2").texts["T1"]
    assert (bound.type, bound.fragments, bound.text) == ("Person", ((0, 5),), "Ada 1 2")


def test_a_type_may_be_chinese_or_hold_spaces():
    found = parse_standoff("T1\t人物 0 2\t苏珊\nT2\tNew type 3 4\tx").texts
    assert [bound.type for bound in found.values()] == ["人物", "New type"]


def test_a_text_may_hold_a_line_separator_that_is_no_line_end():
    assert parse_standoff("T1\tPerson 0 3\ta\u2028b").texts["T1"].text == "a\u2028b"


def test_line_ends_may_be_cr_lf():
    assert parse_standoff("T1\tPerson 0 3\tAda\r\n").texts["T1"].text == "Ada"


@pytest.mark.parametrize("line", ["R1\tFamily Arg1:T4 Arg2:T5\t", "R1\tFamily Arg2:T5 Arg1:T4", "R1 Family A:T4 B:T5"])
def test_the_head_of_a_relation_is_arg1_or_the_first_end(line):
    assert parse_standoff(line).relations == [Link("Family", ("T4", "T5"), 1)]


def test_a_star_line_has_a_name_and_members():
    assert parse_standoff("*\tEquiv T3 T4 T5").equivalences == [Link("Equiv", ("T3", "T4", "T5"), 1)]


def test_an_event_names_its_trigger_and_is_left_out():
    found = parse_standoff("E1\tMerge:T2 Org:T1")
    assert found.triggers == {"E1": "T2"}
    assert [(fault.what, fault.line) for fault in found.faults] == [("event", 1)]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("A1\tNegation E1", "attribute"),
        ("M1\tNegation E1", "attribute"),
        ("N1\tReference T1 Wikipedia:1\tAda", "normalization"),
        ("#1\tAnnotatorNotes T1\tsure?", "note"),
        ("hello", "line"),
        ("{}", "line"),
        ("T1\tPerson 5\tAda", "mention"),
        ("T1\tPerson 5 x\tAda", "mention"),
        ("T1\tPerson 5 5\tAda", "mention"),
        ("T1\tPerson 5 3\tAda", "mention"),
        ("T1\tPerson 5 9;1 3\tAda", "mention"),
        ("T1\tPerson ５ ９\tAda", "mention"),
        (f"T1\tPerson 0 {10**400}\tAda", "mention"),
        ("T", "mention"),
        ("R1", "relation"),
        ("R1\tFamily Arg1:T1", "relation"),
        ("R1\tFamily Arg1:T1 Arg2:T2 Arg3:T3", "relation"),
        ("R1\tFamily T1 T2", "relation"),
        ("*\tEquiv T1", "equivalence"),
        ("*", "equivalence"),
        ("E1", "event"),
    ],
)
def test_a_line_that_cannot_be_used_is_a_fault_of_its_kind(line, what):
    found = parse_standoff(f"\n{line}\n")
    assert [(fault.what, fault.line) for fault in found.faults] == [(what, 2)]
    assert not found.texts
    assert not found.relations
    assert not found.equivalences


def test_the_second_line_of_an_id_is_a_fault():
    found = parse_standoff("T1\tPerson 0 3\tAda\nT1\tPerson 4 7\tBob")
    assert found.texts["T1"].text == "Ada"
    assert [fault.why for fault in found.faults] == ["its id is already used"]


@given(st.text("TRE*AMN#123 \t:;\n\rPerson苏"))
def test_every_line_is_something_or_a_fault(text):
    found = parse_standoff(text)
    lines = {number for number, line in enumerate(text.split("\n"), 1) if line.strip()}
    said = [
        *(bound.line for bound in found.texts.values()),
        *(link.line for link in (*found.relations, *found.equivalences)),
        *(fault.line for fault in found.faults),
    ]
    assert sorted(said) == sorted(lines)
