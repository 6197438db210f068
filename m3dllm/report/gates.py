"""The distribution of a system's gates between text and frames, by task (UMIE, figure 4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from m3dllm.report.groups import ComparisonGroup
from m3dllm.report.layout import Panel, Plot, Point, Series
from m3dllm.scored import ScoredRun
from m3dllm.types import TASKS

BINS = 20
"""Bins of equal width from the smallest gate of a task to the largest."""


def gate_plot(name: str, group: ComparisonGroup) -> Plot | None:
    """One panel per task, one line per system that records its gates (`gate` of its tally); None if none does."""
    panels = []
    for task in TASKS:
        found = [(system, values) for system in group.systems if (values := _gates(system.runs[0], task))]
        if found:
            low, high = min(min(values) for _, values in found), max(max(values) for _, values in found)
            series = (Series(s.label, tuple(_shares(values, low, high)), s.color) for s, values in found)
            panels.append(Panel(task, "gate", tuple(series)))
    caption = (
        f"The percentage of questions whose gate is in each of {BINS} bins; at 0 the answer is written "
        "from the text alone. For several runs, the first one, over all its languages and passes."
    )
    return Plot(name, "Gates between frames and text", caption, "questions", tuple(panels)) if panels else None


def _gates(run: ScoredRun, task: str) -> list[float]:
    kept = run.record.tally.get("gate")
    values = kept.get(task, ()) if isinstance(kept, dict) else ()
    return [float(value) for value in values if isinstance(value, int | float)]


def _shares(values: Sequence[float], low: float, high: float) -> Iterator[Point]:
    """The middle of each bin and the share of the values in it."""
    width = (high - low) / BINS or 1.0
    count = Counter(min(int((value - low) / width), BINS - 1) for value in values)
    for i in range(BINS if high > low else 1):
        yield Point(low + (i + 0.5) * width * (high > low), 100 * count[i] / len(values))
