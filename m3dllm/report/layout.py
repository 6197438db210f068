"""The content of a report as plain values: sections of text, tables and figures.

Every table and figure is made once, here, and written in several ways: HTML, Markdown, LaTeX and CSV for tables, inline
SVG and matplotlib files for figures. A cell holds both the printed text and the unrounded value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Value = float | int | str | None
Mark = Literal["", "best", "second"]
RowKind = Literal["system", "seed", "heuristic", "quoted"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: the `text` that is printed and the `value` behind it.

    `small` is printed after the text, smaller (a variance, a unit, a sign); `mark`: best or second best of its column
    or row; `share`, from 0 to 1, draws a faint bar behind the number; `refs` are letters of notes under the table.
    """

    text: str
    value: Value = None
    small: str = ""
    mark: Mark = ""
    share: float | None = None
    refs: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `key` names it in CSV, `title` in print; columns of one `group` share a head.

    A `number` column is right-aligned; a `quiet` one is printed in a lighter colour.
    """

    key: str
    title: str
    group: str = ""
    number: bool = True
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row: a system, one of its seeds, a heuristic baseline, or a quote from a paper.

    `starts` begins a block of rows.
    """

    cells: tuple[Cell, ...]
    kind: RowKind = "system"
    starts: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table. `name` is the stem of its files; `notes` are printed below, each with the letter that cells refer to."""

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(f"table {self.name!r}: a row of {len(row.cells)} cells, {len(self.columns)} columns")

    @property
    def groups(self) -> list[tuple[str, int]]:
        """(head, number of columns) for the groups of columns; the head is "" over columns without one."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            if found and column.group and found[-1][0] == column.group:
                found[-1] = (column.group, found[-1][1] + 1)
            else:
                found.append((column.group, 1))
        return found


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with its interval; `significant`: of a difference, after correction for multiple comparisons."""

    value: float
    low: float
    high: float
    significant: bool
    text: str = ""


@dataclass(frozen=True, slots=True)
class Forest:
    """Numbers with intervals, in percentage points: one panel per score, one line per system.

    Differences are drawn around 0. With a `scale`, all panels share it, each line has its own of `colors`, and
    the `marks` are grey lines, one per panel.
    """

    name: str
    title: str
    caption: str
    axis: str
    lines: tuple[str, ...]
    panels: tuple[tuple[str, tuple[Interval | None, ...]], ...]
    colors: tuple[int, ...] = ()
    marks: tuple[float | None, ...] = ()
    scale: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A point; `low` and `high` are the range of its y over several runs."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """The points of one name; `color` counts from 0 and is the same for a system in every figure of a report."""

    label: str
    points: tuple[Point, ...]
    color: int = 0


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes. `front`: the points that no other beats on both axes (the Pareto front)."""

    title: str
    x_label: str
    series: tuple[Series, ...]
    front: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class Plot:
    """Small multiples of one score: by an option, or against cost. `y_label` is shared by all panels."""

    name: str
    title: str
    caption: str
    y_label: str
    panels: tuple[Panel, ...]
    lines: bool = True
    log_x: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; the one of `kind` "lead" is the most important."""

    text: str
    kind: Literal["", "lead", "aside"] = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values; `code`: the names whose value is printed as code."""

    rows: tuple[tuple[str, str], ...]
    code: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of names with descriptions."""

    rows: tuple[tuple[str, str], ...]


Block = Text | Facts | Bullets | Table | Forest | Plot
Figure = Forest | Plot


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report with its parts. A `folded` one shows only its title until it is opened."""

    title: str
    anchor: str
    blocks: tuple[Block, ...] = ()
    sections: tuple[Section, ...] = ()
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Glimpse:
    """A sample document: its page, its name, the beginning of its text, and one of its frames (as a `data:`
    address) with the gold boxes in it (x, y, width, height as shares of the frame, and the type)."""

    href: str
    name: str
    text: str
    frame: str = ""
    boxes: tuple[tuple[float, float, float, float, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """A whole report. `again` is the command that makes it, `origin` one line about its sources.

    `glance` is the overview: one chart per language, and a table.
    """

    title: str
    lead: str
    findings: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    again: str
    origin: str
    glance: Section = Section("At a glance", "glance")
    pages: str | None = None
    """The page of the documents."""
    glimpse: Glimpse | None = None

    def walk(self) -> Iterator[Section]:
        """Every section, each before its subsections."""

        def below(sections: Sequence[Section]) -> Iterator[Section]:
            for section in sections:
                yield section
                yield from below(section.sections)

        return below((self.glance, *self.sections))

    @property
    def tables(self) -> list[Table]:
        return [block for section in self.walk() for block in section.blocks if isinstance(block, Table)]

    @property
    def figures(self) -> list[Figure]:
        return [block for section in self.walk() for block in section.blocks if isinstance(block, Forest | Plot)]


def ranked(cells: Sequence[Cell], candidates: Sequence[int]) -> list[Cell]:
    """`cells` with the best and second best of the `candidates` marked, by printed value; equal ones share a mark.

    Nothing is marked if fewer than two candidates have a number, or all are printed alike.
    """
    printed = {i: float(cells[i].text) for i in candidates if isinstance(cells[i].value, float | int)}
    places = sorted(set(printed.values()), reverse=True)
    marked = list(cells)
    if len(printed) > 1 and len(places) > 1:
        for i, number in printed.items():
            if number == places[0]:
                marked[i] = replace(cells[i], mark="best")
            elif number == places[1] and sum(n == places[0] for n in printed.values()) == 1:
                marked[i] = replace(cells[i], mark="second")
    return marked
