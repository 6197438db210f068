"""How numbers are printed: percentages with two decimals, half up; missing values are a dash."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal

ABSENT = "–"


def percent(fraction: float | None) -> str:
    """A fraction as a percentage with two decimals; a dash for None and NaN."""
    return ABSENT if fraction is None or not math.isfinite(fraction) else decimals(100 * Decimal(repr(fraction)))


def points(difference: float | None) -> str:
    """A difference of fractions in percentage points, with its sign."""
    text = percent(difference)
    return text if text == ABSENT or text.startswith("-") or text == "0.00" else f"+{text}"


def count(value: float) -> str:
    """A count: whole numbers as such, others (B3, CEAF) with two decimals."""
    return str(int(value)) if value == int(value) else decimals(Decimal(repr(value)))


def probability(value: float) -> str:
    """A p-value with four decimals."""
    return decimals(Decimal(repr(value)), places="0.0001")


def decimals(value: Decimal, *, places: str = "0.01") -> str:
    """A number rounded half up (away from zero), never "-0.00"."""
    rounded = value.quantize(Decimal(places), rounding=ROUND_HALF_UP)
    return str(abs(rounded) if rounded == 0 else rounded)
