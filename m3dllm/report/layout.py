"""What a report is, before anyone draws it: sections of text, tables and figures, as plain values.

Every table and figure is made once, here, and written in several ways: HTML, Markdown, LaTeX and CSV for tables, inline
SVG and matplotlib files for figures. A cell keeps both what is printed and the unrounded value behind it.
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

    `small` is printed after the text, smaller (a variance, a unit, a sign); `mark` says best or second best of its
    column or row; `share` from 0 to 1 draws a faint bar behind the number; `refs` are letters of notes under the table.
    """

    text: str
    value: Value = None
    small: str = ""
    mark: Mark = ""
    share: float | None = None
    refs: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `key` names it in CSV, `title` in print; columns of one `group` stand under one head.

    A `number` is set to the right; a `quiet` column is printed less loud than the others.
    """

    key: str
    title: str
    group: str = ""
    number: bool = True
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row: of a system, one of its seeds, a heuristic baseline, or quoted from a paper.

    `starts` begins a block of rows.
    """

    cells: tuple[Cell, ...]
    kind: RowKind = "system"
    starts: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table. `name` is that of its files; `notes` stand under it, each with the letter that its cells refer to."""

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
        """The heads over the columns and how many columns each spans; "" over columns without one."""
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
    """Numbers with intervals, in percentage points: a panel a score, a line a system.

    Differences are drawn about 0. Where a `scale` is given, all panels have it, each line has its own of `colors`, and
    the `marks` are grey lines, one a panel.
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
    """A point; `low` and `high` bound its y where several runs stand behind it."""

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
    """One pair of axes. `front` are the points that no other beats in both axes (a Pareto figure)."""

    title: str
    x_label: str
    series: tuple[Series, ...]
    front: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class Plot:
    """Small multiples of one score: by an option, or against cost. `y_label` says what goes up in all of them."""

    name: str
    title: str
    caption: str
    y_label: str
    panels: tuple[Panel, ...]
    lines: bool = True
    log_x: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; of `kind` "lead" it is the one to read if only one is read."""

    text: str
    kind: Literal["", "lead", "aside"] = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and what they are; `code` are the names whose value is printed as it would be typed."""

    rows: tuple[tuple[str, str], ...]
    code: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list: a name each, and what is said of it."""

    rows: tuple[tuple[str, str], ...]


Block = Text | Facts | Bullets | Table | Forest | Plot
Figure = Forest | Plot


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report with its parts. One that is `folded` shows its title until it is asked for."""

    title: str
    anchor: str
    blocks: tuple[Block, ...] = ()
    sections: tuple[Section, ...] = ()
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Glimpse:
    """A document to look at: where its page is, its name, how its text begins, and one of its frames (as a `data:`
    address) with the gold boxes in it (x, y, width, height as shares of the frame, and the type)."""

    href: str
    name: str
    text: str
    frame: str = ""
    boxes: tuple[tuple[float, float, float, float, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """A whole report. `again` is the command that makes it, `origin` one line that says what it was made from.

    `glance` is what is seen first: a chart a language, and a table.
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
        """Every section, each before its parts."""

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
    """`cells` with the best and the second best of the `candidates` marked, as printed; equals share their mark.

    Where fewer than two candidates have a number, or all are printed alike, nothing is marked.
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
