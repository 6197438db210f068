"""Tables as values, and the forms that they are written in."""

from __future__ import annotations

import csv
import re

import pytest

from m3dllm.report import cells
from m3dllm.report.html import html
from m3dllm.report.latex import escape, latex
from m3dllm.report.layout import Cell, Column, Report, Row, Section, Table, Text, ranked
from m3dllm.report.markdown import markdown
from m3dllm.report.tidy import table_csv

EVIL = "<script>alert(1)</script>\"'\\&{}$%_#^~|`[x](y)"


def table(*numbers: float | None, name: str = "a") -> Table:
    found = ranked([cells.share(n) for n in numbers], range(len(numbers)))
    rows = [Row((cells.word(f"{name}{i}"), cell)) for i, cell in enumerate(found)]
    columns = (Column("system", "system", number=False), Column("entity.f1", "F1", "entity"))
    return Table("t", "Scores", "A caption.", columns, tuple(rows), (("a", "a note"),))


def report(*tables: Table, title: str = "T") -> Report:
    return Report(
        title, "lead", (("where", "what"),), (Section("S", "s", tables),), "m3dllm report x --out DIR", "origin"
    )


def marks(*numbers: float | None) -> list[str]:
    return [row.cells[1].mark for row in table(*numbers).rows]


def test_the_best_and_the_second_best_are_marked():
    assert marks(0.3, 0.5, None, 0.4) == ["", "best", "", "second"]


def test_equals_share_the_first_place_and_leave_no_second():
    assert marks(0.5, 0.5, 0.4) == ["best", "best", ""]


def test_what_is_printed_alike_is_equal():
    assert marks(0.50001, 0.500012, 0.4) == ["best", "best", ""]


@pytest.mark.parametrize("numbers", [(0.5,), (0.5, None), (0.5, 0.5), ()])
def test_where_nothing_is_better_nothing_is_marked(numbers):
    assert set(marks(*numbers)) <= {""}


def test_a_row_has_a_cell_for_each_column():
    with pytest.raises(ValueError, match="a row of 1 cells, 2 columns"):
        Table("t", "", "", (Column("a", "a"), Column("b", "b")), (Row((cells.NOTHING,)),))


def test_one_table_says_the_same_in_every_form():
    made = table(1 / 3, 0.5)
    assert "| a0 | _33.33_ |" in markdown(report(made))
    assert r"a0 & \underline{33.33} \\" in latex(made, "origin", "again")
    assert next(csv.DictReader(table_csv(made).splitlines())) == {
        "kind": "system",
        "system": "a0",
        "entity.f1": repr(1 / 3),
    }
    assert re.search(r'<td class="n second"><span>33\.33</span>', html(report(made)))


def test_latex_uses_the_rules_of_booktabs_and_says_where_it_is_from():
    text = latex(table(0.1), "of runs x", "m3dllm report x")
    for word in (r"\toprule", r"\midrule", r"\bottomrule", r"\cmidrule(lr){2-2}", "% of runs x", "% m3dllm report x"):
        assert word in text
    assert text.count(r"\begin{tabular}{lr}") == text.count(r"\end{tabular}") == 1


def small(*texts: str) -> Table:
    """A table of one column, of numbers with small print beside."""
    rows = tuple(Row((Cell(f"{n}.00", float(n), text),)) for n, text in enumerate(texts, start=-1))
    return Table("t", "", "", (Column("d", "F1"),), rows)


def test_small_print_in_latex_takes_the_same_room_in_each_row():
    rows = [line for line in latex(small("", "(0.10)"), "", "").splitlines() if line.endswith(r"\\")]
    assert [re.search(r"makebox\[(.*?)\]", row)[1] for row in rows] == ["3.1em"] * 3


def test_a_number_below_0_has_a_minus_in_latex():
    assert "$-$1.00" in latex(small("", ""), "", "")


def test_latex_says_where_a_table_needs_more_than_pdflatex():
    assert "XeLaTeX" in latex(table(0.1, name="系统"), "", "")
    assert "XeLaTeX" not in latex(table(0.1, name="système"), "", "")


def test_latex_never_leaves_a_sign_that_means_something():
    rest = escape(EVIL)
    for command in (
        r"\textbackslash{}",
        r"\textasciicircum{}",
        r"\textasciitilde{}",
        r"\textless{}",
        r"\textgreater{}",
        r"\textbar{}",
    ):
        rest = rest.replace(command, "")
    assert not re.search(r"(?<!\\)[&%$#_{}~^\\](?![&%$#_{}])", rest)


def test_latex_comments_stay_comments():
    made = table(0.1)
    lines = latex(made, "one\ntwo", "again\r\nmore").splitlines()
    assert [line for line in lines if "two" in line or "more" in line] == ["% one two", "% again more"]


def test_the_page_takes_no_name_for_markup():
    text = html(report(table(0.1, name=EVIL), title=EVIL))
    assert "<script>alert" not in text
    assert text.count("<script>") == 1
    assert "&lt;script&gt;alert(1)" in text


def test_markdown_takes_no_name_for_markup():
    text = markdown(report(table(0.1, name=EVIL)))
    assert "<script>" not in text
    line = next(line for line in text.splitlines() if "alert" in line)
    assert re.sub(r"\\.", "", line).count("|") == 3


def test_the_page_needs_nothing_from_outside():
    text = html(report(table(0.1), title="T"))
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)
    assert "@import" not in text
    assert "url(" not in text
    assert "default-src 'none'" in text


def test_a_text_of_an_unknown_kind_is_no_class():
    page = html(Report("T", "", (), (Section("S", "s", (Text("x", "lead"),)),), "", ""))
    assert '<p class="lead">x</p>' in page


def test_a_variance_stands_beside_its_mean():
    cell = cells.score([0.5, 0.6])
    assert (cell.text, cell.small, cell.value) == ("55.00", "(50.00)", pytest.approx(0.55))
    assert cells.score([0.5]).small == ""
    assert cells.score([]) == Cell("–")


def test_thousands_stand_apart():
    assert [cells.number(n).text for n in (0.0, 999.4, 1234567.0, -1234.0)] == ["0", "999", "1,234,567", "-1,234"]
