"""Figures as lines, shapes and words at places, before anyone writes them: page, SVG and PDF show the same.

Places are in units of 1/96 inch, origin top left. A `style` names what a thing is, not how it looks: the writers know.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from m3dllm.report.axes import SIGNS, bounds, log_bounds, log_ticks, tick_text, ticks
from m3dllm.report.layout import Figure, Forest, Interval, Panel, Plot, Point

Anchor = Literal["start", "middle", "end"]
Style = Literal["grid", "zero", "range", "curve", "front", "sign", "open", "hit", "title", "label", "tick", "axis"]


@dataclass(frozen=True, slots=True)
class Path:
    """Straight lines through points; `closed` makes it a filled shape."""

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
    """Things of one system, in its colour, and what is said of them when they are pointed at."""

    color: int
    items: tuple[Item, ...]
    told: str = ""


Item = Path | Dot | Words | Group


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure, laid out."""

    width: float
    height: float
    items: tuple[Item, ...]


def draw(figure: Figure) -> Drawing:
    """The figure, laid out."""
    return _forest(figure) if isinstance(figure, Forest) else _plot(figure)


# --- differences ------------------------------------------------------------------------------------------------------

LETTER = 6.3
ROW, TOP, PANEL, BETWEEN = 26, 34, 142, 34


def _forest(figure: Forest) -> Drawing:
    labels = [_short(line, 44) for line in figure.lines]
    left = max(map(_width, labels)) + 14
    height = TOP + ROW * len(labels) + 42
    items: list[Item] = [
        Words(left - 12, TOP + ROW * (i + 0.5) + 4, label, "label", "end") for i, label in enumerate(labels)
    ]
    for i, (title, intervals) in enumerate(figure.panels):
        items += _intervals(title, intervals, left + i * (PANEL + BETWEEN))
    items.append(Words(left, height - 4, figure.axis, "axis"))
    return Drawing(left + len(figure.panels) * (PANEL + BETWEEN) - 10, height, tuple(items))


def _intervals(title: str, intervals: tuple[Interval | None, ...], at: float) -> Iterator[Item]:
    there = [interval for interval in intervals if interval is not None]
    low, high = bounds([0.0, *(x for i in there for x in (i.low, i.high, i.value))])

    def x(value: float) -> float:
        return at + (value - low) / (high - low) * PANEL

    bottom = TOP + ROW * len(intervals)
    yield Words(at, 18, title, "title")
    for tick in ticks(low, high, most=4):
        yield Path(((x(tick), TOP - 4), (x(tick), bottom)), "zero" if tick == 0 else "grid")
        yield Words(x(tick), bottom + 14, _signed(tick), "tick", "middle")
    for i, interval in enumerate(intervals):
        if interval is not None:
            y = TOP + ROW * (i + 0.5)
            corners = ((at, y - ROW / 2), (at + PANEL, y - ROW / 2), (at + PANEL, y + ROW / 2), (at, y + ROW / 2))
            yield Group(
                0,
                (
                    Path(corners, "hit", closed=True),
                    Path(((x(interval.low), y), (x(interval.high), y)), "range"),
                    Dot(x(interval.value), y, 4.2, "sign" if interval.sure else "open"),
                ),
                interval.text,
            )


def _signed(value: float) -> str:
    return f"+{tick_text(value)}" if value > 0 else tick_text(value).replace("-", "−")


# --- plots ------------------------------------------------------------------------------------------------------------

BOX = (240, 165)
GAP = (54, 64)
CORNER = (40, 30)
Scale = Callable[[float], float]


def _plot(figure: Plot) -> Drawing:
    across = min(3, len(figure.panels))
    down = math.ceil(len(figure.panels) / across)
    width = CORNER[0] + across * (BOX[0] + GAP[0]) - GAP[0] + 14
    items: list[Item] = []
    for i, panel in enumerate(figure.panels):
        row, column = divmod(i, across)
        items += _panel(figure, panel, CORNER[0] + column * (BOX[0] + GAP[0]), CORNER[1] + row * (BOX[1] + GAP[1]))
    x, y = float(CORNER[0]), CORNER[1] + down * (BOX[1] + GAP[1]) - (10.0 if figure.x_label else 26.0)
    for label, color in dict.fromkeys((s.label, s.color) for panel in figure.panels for s in panel.series):
        text = _short(label, 60)
        if x > CORNER[0] and x + 22 + _width(text) > width:
            x, y = float(CORNER[0]), y + 20
        items += [Group(color, (_sign(color, x + 5, y),)), Words(x + 16, y + 4, text, "label")]
        x += 36 + _width(text)
    return Drawing(max(width, x if down == 1 and across == 1 else 0), y + 14, tuple(items))


def _panel(figure: Plot, panel: Panel, left: float, top: float) -> Iterator[Item]:
    width, height = BOX
    points = [point for series in panel.series for point in series.points]
    share, x_ticks = _x_axis(figure, points)
    low, high = bounds([v for p in points for v in (p.y, p.low, p.high) if v is not None], margin=0.12)

    def x(value: float) -> float:
        return left + share(value) * width

    def y(value: float) -> float:
        return top + height - (value - low) / (high - low) * height

    yield Words(left, top - 12, panel.title, "title")
    for tick in ticks(low, high, most=4):
        yield Path(((left, y(tick)), (left + width, y(tick))), "grid")
        yield Words(left - 7, y(tick) + 4, tick_text(tick), "tick", "end")
    for tick in x_ticks:
        yield Path(((x(tick), top + height), (x(tick), top + height + 4)), "zero")
        yield Words(x(tick), top + height + 17, tick_text(tick), "tick", "middle")
    yield Path(((left, top + height), (left + width, top + height)), "zero")
    if figure.x_label:
        yield Words(left, top + height + 34, figure.x_label, "axis")
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
            told = f"{series.label}: {tick_text(p.x)}, {p.y:.2f}"
            yield Group(series.color, (*spread, _sign(series.color, x(p.x), y(p.y))), told)


def _x_axis(figure: Plot, points: list[Point]) -> tuple[Scale, list[float]]:
    """From a value to its share of the axis, and the ticks."""
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
    """The sign of a system, around a point."""
    sign = SIGNS[color % len(SIGNS)]
    if sign == "circle":
        return Dot(x, y, r, "sign")
    return Path(tuple((x + dx * r, y + dy * r) for dx, dy in CORNERS[sign]), "sign", closed=True)


def _width(text: str) -> float:
    """About how wide a label is."""
    return sum(2 * LETTER if unicodedata.east_asian_width(c) in "WF" else LETTER for c in text)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
