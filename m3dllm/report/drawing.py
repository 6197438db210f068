"""Figures as lines, shapes and text at positions, from which page, SVG and PDF are written alike.

Positions are in units of 1/96 inch, origin top left. A `style` names the role of an item; the writers choose its looks.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from m3dllm.report.axes import COLORS, SIGNS, bounds, log_bounds, log_ticks, tick_text, ticks
from m3dllm.report.layout import Figure, Forest, Interval, Panel, Plot, Point

Anchor = Literal["start", "middle", "end"]
Style = Literal[
    "grid", "zero", "mark", "range", "curve", "front", "sign", "open", "hit", "title", "label", "tick", "axis"
]


@dataclass(frozen=True, slots=True)
class Path:
    """A polyline; `closed` makes it a filled shape."""

    points: tuple[tuple[float, float], ...]
    style: Style
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Dot:
    """A filled circle."""

    x: float
    y: float
    r: float
    style: Style


@dataclass(frozen=True, slots=True)
class Words:
    """Text on its baseline."""

    x: float
    y: float
    text: str
    style: Style
    anchor: Anchor = "start"


@dataclass(frozen=True, slots=True)
class Group:
    """Items of one system, in its colour, with a tooltip."""

    color: int
    items: tuple[Item, ...]
    tooltip: str = ""


Item = Path | Dot | Words | Group


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure, laid out."""

    width: float
    height: float
    items: tuple[Item, ...]


WIDTHS = (900.0, 700.0, 340.0)
"""The widths of figures: beside the contents of a page, on paper and narrow screens, and on a phone."""
ON_PAPER = WIDTHS[1]


def draw(figure: Figure, width: float = ON_PAPER) -> Drawing:
    """The figure, laid out at most `width` wide: panels that do not fit go below."""
    return _forest(figure, width) if isinstance(figure, Forest) else _plot(figure, width)


def _across(panels: int, room: float, least: float, between: float) -> int:
    """The number of panels per row, each at least `least` wide; the rows are about equally long."""
    most = max(1, int((room + between) // (least + between)))
    return math.ceil(panels / math.ceil(panels / most))


# --- differences ------------------------------------------------------------------------------------------------------

LETTER = 6.3
TOP, PANEL, BETWEEN, EDGE = 34, (100, 142), 30, 14
ROW, ROW_UNDER_LABEL = 26, 38


class _Lines(NamedTuple):
    """The positions of the lines of one panel."""

    left: float
    top: float
    width: float
    row: float

    def middle(self, line: int) -> float:
        """The y of a line's dot: half a usual row above the lower edge of its row."""
        return self.top + self.row * (line + 1) - ROW / 2


def _forest(figure: Forest, width: float) -> Drawing:
    labels = [_short(line, min(44, int(width / LETTER) - 4)) for line in figure.lines]
    wide = max(map(text_width, labels))
    over = wide > 0.4 * width  # too little room beside: each label goes above its line
    left, row = (EDGE, ROW_UNDER_LABEL) if over else (wide + 14, ROW)
    room = width - left - EDGE
    across = _across(len(figure.panels), room, PANEL[0], BETWEEN)
    panel = min(PANEL[1], (room - (across - 1) * BETWEEN) / across)
    deep = TOP + row * len(labels) + 30
    items: list[Item] = []
    names: list[Item] = []
    for i, (title, intervals) in enumerate(figure.panels):
        down, column = divmod(i, across)
        place = _Lines(left + column * (panel + BETWEEN), down * deep + TOP, panel, row)
        if column == 0:
            names += (_label(label, place, k, over=over) for k, label in enumerate(labels))
        mark = figure.marks[i] if figure.marks else None
        items += _intervals(title, intervals, place, colors=figure.colors, mark=mark, scale=figure.scale)
    below = math.ceil(len(figure.panels) / across) * deep
    items.append(Words(left, below + 8, figure.axis, "axis"))
    return Drawing(left + across * (panel + BETWEEN) - BETWEEN + EDGE, below + 12, (*items, *names))


def _label(text: str, place: _Lines, line: int, *, over: bool) -> Words:
    if over:
        return Words(place.left, place.middle(line) - 13, text, "label")
    return Words(place.left - 12, place.middle(line) + 4, text, "label", "end")


def _intervals(
    title: str,
    intervals: tuple[Interval | None, ...],
    place: _Lines,
    *,
    colors: tuple[int, ...],
    mark: float | None,
    scale: tuple[float, float] | None,
) -> Iterator[Item]:
    left, top, width, row = place
    there = [interval for interval in intervals if interval is not None]
    low, high = scale or bounds([0.0, *(x for i in there for x in (i.low, i.high, i.value))])

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * width

    bottom = top + row * len(intervals)
    yield Words(left, top - 16, title, "title")
    marks = _two_or_more(low, high, int(width // 35))
    numbers = _apart(marks, x(marks[1]) - x(marks[0]))
    for tick in marks:
        yield Path(((x(tick), top - 4), (x(tick), bottom)), "zero" if tick == 0 and not scale else "grid")
        if tick in numbers:
            yield Words(x(tick), bottom + 14, tick_text(tick) if scale else _signed(tick), "tick", "middle")
    if mark is not None:
        yield Path(((x(mark), top - 4), (x(mark), bottom)), "mark")
    for i, interval in enumerate(intervals):
        if interval is not None:
            y = place.middle(i)
            above, below = y - ROW / 2, y + ROW / 2
            corners = ((left, above), (left + width, above), (left + width, below), (left, below))
            yield Group(
                colors[i] if colors else 0,
                (
                    Path(corners, "hit", closed=True),
                    Path(((x(interval.low), y), (x(interval.high), y)), "range"),
                    Dot(x(interval.value), y, 4.2, "sign" if interval.significant else "open"),
                ),
                interval.text,
            )


def _two_or_more(low: float, high: float, most: int) -> list[float]:
    """`ticks`, but more than `most` if there would be only one: one number is no scale."""
    return next(found for n in range(most, most + 4) if len(found := ticks(low, high, most=n)) > 1)


def _apart(marks: list[float], step: float) -> list[float]:
    """The marks, `step` apart, whose labels do not touch: starting from 0, or from the first."""
    every = math.ceil(0.9 * max(text_width(_signed(mark)) for mark in marks) / step)
    with_zero = marks[marks.index(0) % every :: every] if 0 in marks else []
    return with_zero if len(with_zero) > 1 else marks[::every]


def _signed(value: float) -> str:
    return f"+{tick_text(value)}" if value > 0 else tick_text(value).replace("-", "−")


# --- plots ------------------------------------------------------------------------------------------------------------

BOX, BOX_HEIGHT = (165, 240), 165
BETWEEN_BOXES, UNDER_BOX = 54, 60
CORNER = (40, 30)
LEGEND = 560
Scale = Callable[[float], float]


def _plot(figure: Plot, width: float) -> Drawing:
    room = width - CORNER[0] - 14
    across = min(3, _across(len(figure.panels), room, BOX[0], BETWEEN_BOXES))
    box = min(BOX[1], (room - (across - 1) * BETWEEN_BOXES) / across)
    shared = len({panel.x_label for panel in figure.panels}) == 1  # then it is printed once, below all
    deep = BOX_HEIGHT + UNDER_BOX + (0 if shared else 14)
    items: list[Item] = []
    for i, panel in enumerate(figure.panels):
        row, column = divmod(i, across)
        left, top = CORNER[0] + column * (box + BETWEEN_BOXES), CORNER[1] + row * deep
        items += _panel(figure, panel, left, top, box)
        if not shared or i == len(figure.panels) - 1:
            below = top + BOX_HEIGHT + 34
            items.append(Words(CORNER[0] if shared else left, below, panel.x_label, "axis"))
    wide = CORNER[0] + across * (box + BETWEEN_BOXES) - BETWEEN_BOXES + 14
    entries, right, bottom = _legend(figure, below + 24, min(width, max(wide, LEGEND)))
    return Drawing(max(wide, right), bottom + 14, (*items, *entries))


def _legend(figure: Plot, top: float, width: float) -> tuple[list[Item], float, float]:
    """(the systems' markers and names in lines at most `width` long, their right end, the y of the last line)."""
    items: list[Item] = []
    x, y, right = float(CORNER[0]), top, 0.0
    for label, color in dict.fromkeys((s.label, s.color) for panel in figure.panels for s in panel.series):
        text = _short(label, min(60, int((width - CORNER[0] - 16) / LETTER)))
        if x > CORNER[0] and x + 16 + text_width(text) > width:
            x, y = float(CORNER[0]), y + 20
        items += [Group(color, (_sign(color, x + 5, y),)), Words(x + 16, y + 4, text, "label")]
        right = max(right, x + 16 + text_width(text))
        x += 36 + text_width(text)
    return items, right, y


def _panel(figure: Plot, panel: Panel, left: float, top: float, width: float) -> Iterator[Item]:
    height = BOX_HEIGHT
    points = [*panel.front, *(point for series in panel.series for point in series.points)]
    share, x_ticks = _x_axis(figure, points)
    low, high = bounds([v for p in points for v in (p.y, p.low, p.high) if v is not None], margin=0.12)

    def x(value: float) -> float:
        return left + share(value) * width

    def y(value: float) -> float:
        return top + height - (value - low) / (high - low) * height

    yield Words(left, top - 12, f"{panel.title} {figure.y_label}".strip(), "title")
    for tick in ticks(low, high, most=4):
        yield Path(((left, y(tick)), (left + width, y(tick))), "grid")
        yield Words(left - 7, y(tick) + 4, tick_text(tick), "tick", "end")
    for tick in x_ticks:
        yield Path(((x(tick), top + height), (x(tick), top + height + 4)), "zero")
        yield Words(x(tick), top + height + 17, tick_text(tick if figure.log_x else round(tick, 2)), "tick", "middle")
    yield Path(((left, top + height), (left + width, top + height)), "zero")
    if len(panel.front) > 1:
        yield Path(tuple((x(p.x), y(p.y)) for p in panel.front), "front")
    for series in panel.series:
        if figure.lines and len(series.points) > 1:
            yield Group(series.color, (Path(tuple((x(p.x), y(p.y)) for p in series.points), "curve"),))
        for p in series.points:
            spread = (
                (Path(((x(p.x), y(p.low)), (x(p.x), y(p.high))), "range"),)
                if p.low is not None and p.high is not None
                else ()
            )
            tooltip = f"{series.label}: {tick_text(p.x)}, {p.y:.2f}"
            yield Group(series.color, (*spread, _sign(series.color, x(p.x), y(p.y))), tooltip)


def _x_axis(figure: Plot, points: list[Point]) -> tuple[Scale, list[float]]:
    """(the function from a value to its fraction of the axis, the ticks)."""
    values = [point.x for point in points]
    if figure.log_x:
        least, most = log_bounds(values)
        return lambda v: math.log(v / least) / math.log(most / least), log_ticks(least, most)
    low, high = bounds(values)
    there = sorted(set(values))
    return lambda v: (v - low) / (high - low), there if len(there) <= 6 else ticks(low, high)


CORNERS: dict[str, tuple[tuple[float, float], ...]] = {
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "triangle": ((0, -1.2), (1.1, 0.9), (-1.1, 0.9)),
    "diamond": ((0, -1.3), (1.1, 0), (0, 1.3), (-1.1, 0)),
    "down": ((0, 1.2), (1.1, -0.9), (-1.1, -0.9)),
    "plus": (
        *((-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4)),
        *((0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4)),
    ),
    "cross": (
        *((-1.1, -0.6), (-0.6, -1.1), (0, -0.5), (0.6, -1.1), (1.1, -0.6), (0.5, 0)),
        *((1.1, 0.6), (0.6, 1.1), (0, 0.5), (-0.6, 1.1), (-1.1, 0.6), (-0.5, 0)),
    ),
    "bar": ((-1.2, -0.5), (1.2, -0.5), (1.2, 0.5), (-1.2, 0.5)),
}


def _sign(color: int, x: float, y: float, r: float = 4.6) -> Item:
    """The marker of a system at a point; when colours repeat, markers differ."""
    sign = SIGNS[(color + color // len(COLORS)) % len(SIGNS)]
    if sign == "circle":
        return Dot(x, y, r, "sign")
    return Path(tuple((x + dx * r, y + dy * r) for dx, dy in CORNERS[sign]), "sign", closed=True)


def text_width(text: str) -> float:
    """The approximate width of a label."""
    return sum(2 * LETTER if unicodedata.east_asian_width(c) in "WF" else LETTER for c in text)


def _short(text: str, most: int) -> str:
    """`text`, cut if it is wider than `most` letters."""
    if text_width(text) <= most * LETTER:
        return text
    kept = text
    while kept and text_width(kept) > (most - 1) * LETTER:
        kept = kept[:-1]
    return kept + "…"
