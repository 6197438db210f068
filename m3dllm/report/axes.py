"""What the figures on the page and in files share: colours, markers, and round numbers for axes.

The colours are those of Okabe and Ito, distinguishable with colour blindness; each has its own marker, so that a figure
can also be read in grey.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B6F00", "#666666")
SIGNS = ("circle", "square", "triangle", "diamond", "down", "plus", "cross", "bar")


def ticks(low: float, high: float, *, most: int = 5) -> list[float]:
    """At most `most` round numbers from `low` to `high`, in steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10, 20) if (high - low) / (m * power) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`; with 2 and 5 times them if there are fewer than two."""
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high]
        if len(found) > 1:
            return found
    return [low, high] if high > low else [low]


def bounds(values: Iterable[float], *, margin: float = 0.08) -> tuple[float, float]:
    """The minimum and maximum of `values`, with a margin; never empty."""
    found = [value for value in values if math.isfinite(value)]
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    room = (high - low) * margin or abs(high) * margin or 1.0
    return low - room, high + room


def log_bounds(values: Iterable[float]) -> tuple[float, float]:
    """`bounds` of positive values on a logarithmic axis."""
    low, high = bounds((math.log10(value) for value in values), margin=0.12)
    if high - low < 0.3:
        low, high = low - 0.15, high + 0.15
    return 10**low, 10**high


def tick_text(value: float) -> str:
    """A tick without needless digits."""
    return f"{value:.6g}" if abs(value) < 1e5 else f"{value:.0e}"
