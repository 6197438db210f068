"""Numbers as table cells: scores over seeds, with variance, marks and bars."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from math import fsum
from statistics import variance

from m3dllm.report.layout import Cell
from m3dllm.report.numbers import ABSENT, decimals, percent, points, probability

NOTHING = Cell(ABSENT)


def word(text: str, *, refs: str = "") -> Cell:
    return Cell(text, text, refs=refs)


def score(values: Sequence[float], *, spread: bool = True, sign: str = "", bar: bool = False) -> Cell:
    """The mean of fractions as a percentage; of several, with their sample variance in points²."""
    if not values:
        return NOTHING
    mean = fsum(values) / len(values)
    small = f"({decimals(Decimal(repr(variance([100 * v for v in values]))))})" if spread and len(values) > 1 else ""
    return Cell(percent(mean), mean, " ".join(filter(None, (small, sign))), share=mean if bar else None)


def share(part: float | None, *, bar: bool = False) -> Cell:
    """A fraction as a percentage."""
    return NOTHING if part is None else Cell(percent(part), part, share=part if bar else None)


def difference(value: float) -> Cell:
    return Cell(points(value), value)


def p_value(value: float) -> Cell:
    return Cell(probability(value), value)


def number(value: float | None, *, places: int = 0, zero: str | None = None) -> Cell:
    """A plain number with separated thousands; `zero` is printed instead of 0."""
    if value is None:
        return NOTHING
    if value == 0 and zero is not None:
        return Cell(zero, 0)
    rounded = Decimal(decimals(Decimal(repr(float(value))), places={0: "1", 1: "0.1"}.get(places, "0.01")))
    return Cell(f"{rounded:,}", value)
