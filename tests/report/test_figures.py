"""Figures: laid out once, written the same in the page, in SVG and in PDF."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from m3dllm.report.axes import bounds, log_ticks, ticks
from m3dllm.report.drawing import WIDTHS, Dot, Group, Path, Words, draw, text_width
from m3dllm.report.layout import Forest, Interval, Panel, Plot, Point, Series
from m3dllm.report.pdf import _present, _written, pdf
from m3dllm.report.svg import inline_svg, svg

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
    "F1",
    (
        Panel(
            "entity",
            "frames",
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


MANY = replace(
    FOREST,
    lines=("one", '系统 "two" $x$', *(f"a system with a rather long name, {i}" for i in range(4))),
    panels=tuple((name, FOREST.panels[0][1] * 3) for name in ("entity", "chain", "relation", "grounding", "average")),
)
PANELS = replace(PLOT, panels=tuple(replace(PLOT.panels[0], title=f"panel {i}") for i in range(5)))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("figure", [FOREST, PLOT, MANY, PANELS])
def test_nothing_is_drawn_outside_the_drawing(figure, width):
    drawing = draw(figure, width)
    for item in drawing.items:
        if isinstance(item, Words):
            begins = {"start": 0, "middle": 0.5, "end": 1}[item.anchor] * text_width(item.text)
            assert item.x >= begins
            assert 0 <= item.x <= drawing.width
            assert 0 <= item.y <= drawing.height


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("figure", [FOREST, PLOT, MANY, PANELS])
def test_a_figure_is_no_wider_than_its_place(figure, width):
    assert draw(figure, width).width <= width


def test_the_page_holds_a_drawing_for_each_width_and_no_two_alike():
    assert re.findall('class="(w[^"]*)"', inline_svg(MANY)) == ["w0", "w1", "w2"]
    assert re.findall('class="(w[^"]*)"', inline_svg(PLOT)) == ["w0 w1 w2"]


@pytest.mark.parametrize("width", WIDTHS)
def test_every_system_and_panel_of_a_figure_is_there_at_every_width(width):
    words = [item.text for item in draw(MANY, width).items if isinstance(item, Words)]
    assert {name for name, _ in MANY.panels} <= set(words)
    assert sum(isinstance(item, Group) for item in draw(MANY, width).items) == 15


@pytest.mark.parametrize("low", [-41, -99, -3.2, -0.6])
def test_a_scale_has_two_numbers_at_least(low):
    one = Interval(low / 2, low, -0.7 * low, True)
    drawing = draw(replace(MANY, panels=tuple((name, (one,)) for name, _ in MANY.panels), lines=("a",)))
    ticks_of = [item for item in drawing.items if isinstance(item, Words) and item.style == "tick"]
    assert len(ticks_of) >= 2 * len(MANY.panels)


def test_a_plot_says_what_goes_up_and_what_goes_across():
    words = [item.text for item in draw(PLOT).items if isinstance(item, Words)]
    assert "entity F1" in words
    assert "frames" in words


def test_an_axis_that_panels_share_is_named_once():
    words = [item.text for item in draw(PANELS).items if isinstance(item, Words)]
    assert words.count("frames") == 1


def test_systems_past_the_last_colour_have_other_signs():
    first, again = (
        next(
            i
            for g in draw(
                replace(PLOT, panels=(replace(PLOT.panels[0], series=(Series("a", (Point(1, 1),), n),)),))
            ).items
            if isinstance(g, Group)
            for i in g.items
        )
        for n in (0, 8)
    )
    assert type(first) is not type(again)


def test_a_character_that_no_font_has_is_written_as_its_code(monkeypatch):
    monkeypatch.setattr("m3dllm.report.pdf._present", lambda: ("DejaVu Sans",))
    _written.cache_clear()
    assert "".join(map(_written, "a系\x00")) == "a\\u7cfb "
    _written.cache_clear()


def test_a_chinese_label_is_drawn_where_a_font_has_it():
    if _present() == ("DejaVu Sans",):
        pytest.skip("needs a font with Chinese characters (Debian: fonts-noto-cjk)")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pdf(FOREST, "x") != pdf(replace(FOREST, lines=("one", '统系 "two" $x$')), "x")


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


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("low", [-41, -0.02, -75, -6])
def test_numbers_of_a_scale_do_not_touch(low, width):
    one = Interval(low / 2, low, -0.7 * low, True)
    drawing = draw(replace(MANY, panels=tuple((name, (one,)) for name, _ in MANY.panels), lines=("a",)), width)
    numbers = [item for item in drawing.items if isinstance(item, Words) and item.style == "tick"]
    for left, right in pairwise(numbers):
        if left.y == right.y and left.x < right.x:
            assert right.x - left.x >= 0.85 * (text_width(left.text) + text_width(right.text)) / 2
