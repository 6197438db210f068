"""How numbers are printed."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest

from m3dllm.report.numbers import count, decimals, percent, points, probability


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0, "0.00"),
        (1.0, "100.00"),
        (2 / 3, "66.67"),
        (0.12345, "12.35"),  # 12.345 is half up, not half to even
        (0.12355, "12.36"),
        (0.00005, "0.01"),
        (0.00004, "0.00"),
        (1e-17, "0.00"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_percentages_have_two_decimals_half_up(fraction, text):
    assert percent(fraction) == text


@pytest.mark.parametrize(
    ("difference", "text"), [(0.125, "+12.50"), (-0.12345, "-12.35"), (0.0, "0.00"), (-1e-9, "0.00"), (math.nan, "–")]
)
def test_points_have_a_sign_unless_they_are_0(difference, text):
    assert points(difference) == text


@pytest.mark.parametrize(("value", "text"), [(3, "3"), (3.0, "3"), (0, "0"), (20 / 3, "6.67"), (0.125, "0.13")])
def test_whole_counts_have_no_decimals(value, text):
    assert count(value) == text


def test_p_values_have_four_decimals():
    assert probability(0.00005) == "0.0001"


def test_there_is_no_negative_zero():
    assert decimals(Decimal("-0.001")) == "0.00"
