"""Figures: laid out once, written the same in the page, in SVG and in PDF."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from m3dllm.report.axes import bounds, log_ticks, ticks
from m3dllm.report.drawing import Dot, Group, Path, Words, draw
from m3dllm.report.layout import Forest, Interval, Panel, Plot, Point, Series
from m3dllm.report.pdf import pdf
from m3dllm.report.svg import svg

FOREST = Forest(
    "f",
    "Differences to <b>",
    "caption & more",
    "points",
    ("one", '系统 "two" $x$'),
    (("entity", (Interval(-3, -5, -1, True, "a < b"), None)), ("chain", (None, Interval(1, -1, 3, False)))),
)
PLOT = Plot(
    "p",
    "Cost",
    "",
    "frames",
    "F1",
    (
        Panel(
            "entity",
            (Series("a", (Point(1, 50), Point(2, 60, 55, 65)), 1), Series("b", (Point(1, 40),), 5)),
            (Point(1, 50),),
        ),
    ),
)


@pytest.mark.parametrize("figure", [FOREST, PLOT])
def test_a_figure_gives_the_same_bytes_again(figure):
    assert svg(figure, origin="x") == svg(figure, origin="x")
    assert pdf(figure, "x") == pdf(figure, "x")


@pytest.mark.parametrize("figure", [FOREST, PLOT])
def test_a_figure_is_well_formed_and_names_nothing_outside(figure):
    text = svg(figure, origin="made of <runs>")
    root = ElementTree.fromstring(text)
    assert root.find("{http://www.w3.org/2000/svg}desc").text == "made of <runs>"
    assert "href" not in text
    assert "url(" not in text
    assert pdf(figure, "made of runs").startswith(b"%PDF")


def test_a_pdf_tells_no_time():
    assert b"CreationDate" not in pdf(FOREST, "x")


def test_control_characters_are_no_part_of_a_drawing():
    figure = Forest("f", "t", "", "x", ("a\x00\x1bb",), (("entity", (Interval(0, -1, 1, False),)),))
    ElementTree.fromstring(svg(figure, origin="x"))
    assert pdf(figure, "x")


def test_a_sure_difference_is_filled_and_an_unsure_one_is_not():
    dots = [i for g in draw(FOREST).items if isinstance(g, Group) for i in g.items if isinstance(i, Dot)]
    assert [dot.style for dot in dots] == ["sign", "open"]


def test_an_interval_ends_where_its_numbers_are():
    one = draw(Forest("f", "t", "", "x", ("a",), (("entity", (Interval(-2, -4, 0, True),)),)))
    zero = next(i for i in one.items if isinstance(i, Path) and i.style == "zero")
    group = next(i for i in one.items if isinstance(i, Group))
    dot, line = group.items[2], group.items[1]
    assert line.points[1][0] == pytest.approx(zero.points[0][0])
    assert dot.x == pytest.approx((line.points[0][0] + line.points[1][0]) / 2)


def test_nothing_is_drawn_outside_the_drawing():
    for figure in (FOREST, PLOT):
        drawing = draw(figure)
        for item in drawing.items:
            if isinstance(item, Words):
                assert 0 <= item.x <= drawing.width
                assert 0 <= item.y <= drawing.height


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-3, 7, [-2, 0, 2, 4, 6]), (98.7, 99.1, [98.7, 98.8, 98.9, 99, 99.1])],
)
def test_ticks_are_round(low, high, found):
    assert ticks(low, high, most=5) == pytest.approx(found)


def test_bounds_of_one_value_are_not_empty():
    assert bounds([0.0])[0] < 0 < bounds([0.0])[1]
    assert bounds([math.nan])[0] < bounds([])[1]


def test_logarithmic_ticks_are_at_least_two():
    assert log_ticks(0.5, 200) == [1, 10, 100]
    assert len(log_ticks(1.1, 2.3)) >= 2
