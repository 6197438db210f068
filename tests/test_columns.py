"""Rows of words in columns."""

from __future__ import annotations

from m3dllm.columns import columns


def test_columns_are_as_wide_as_their_widest_cell_and_nothing_is_cut():
    assert columns([("a", "x" * 300, "1"), ("longer", "y", "2")]) == [
        "a       " + "x" * 300 + "  1",
        "longer  y" + " " * 301 + "2",
    ]


def test_numbers_stand_to_the_right():
    assert columns([("entity", "100.00"), ("  muc", "2")], left=1) == ["entity  100.00", "  muc        2"]


def test_chinese_takes_two_cells_a_character():
    assert columns([("汉字", "1"), ("abcd", "2"), ("", "3")]) == ["汉字  1", "abcd  2", "      3"]


def test_brackets_are_no_markup():
    assert columns([("pip install 'm3dllm[llm]'", "[b]")]) == ["pip install 'm3dllm[llm]'  [b]"]


def test_no_rows_are_no_lines():
    assert columns([]) == []
