"""Cells of a table are shown by a spreadsheet, and never run."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.sheets import csv_lines, defused, noted, restored


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "'=1", "''@x"])
def test_what_begins_as_a_formula_gets_a_mark_before_it(text):
    assert defused(text) == f"'{text}"


@pytest.mark.parametrize("value", ["Ada", "", "'tis", "a=b", "苏珊", -1, -0.5, None])
def test_everything_else_stays(value):
    assert defused(value) == value


@given(st.text(alphabet="'=+-@a ＝\t"))
def test_what_stood_there_is_found_again(text):
    assert restored(str(defused(text))) == text


def test_lines_hold_commas_quotes_and_line_ends():
    rows = [("a,b", 'say "x"', "two\nlines", None, "=1")]
    text = "".join(csv_lines(rows))
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["a,b", 'say "x"', "two\nlines", "", "'=1"]]


def test_each_defused_cell_is_noted():
    notes = []
    assert list(noted([("=1", 2)], lambda *note: notes.append(note), "table")) == [("=1", 2)]
    assert [where for _, _, where in notes] == ["table: =1"]
