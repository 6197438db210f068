"""The calibration of confidences: a table, reliability diagrams, precision-recall curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from m3dllm.report import cells
from m3dllm.report.groups import ComparisonGroup, SystemRuns
from m3dllm.report.layout import Column, Panel, Plot, Point, Row, Series, Table
from m3dllm.report.scores import by_rank
from m3dllm.score.calibration import BINS, Calibration
from m3dllm.score.scores import Pairs
from m3dllm.scored import ScoredRun
from m3dllm.types import TASKS, Task

SHOWN = 20
"""The most points drawn of a precision-recall curve."""
WORDS: dict[Task, str] = {"entity": "entity", "chain": "chain links", "relation": "relation", "grounding": "grounding"}
DIAGONAL = (Point(0, 0), Point(100, 100))


def calibration_table(name: str, group: ComparisonGroup, pairs: Pairs) -> Table | None:
    """The calibration of each task and system; None if no system has confidences."""
    rows: list[Row] = []
    for task in TASKS:
        carrying = [(system, found) for system in by_rank(group, pairs) if (found := _of(system, group, pairs, task))]
        for i, (system, found) in enumerate(carrying):
            several = len(found) > 1
            rows.append(
                Row(
                    (
                        cells.word(WORDS[task]),
                        cells.word(system.label),
                        cells.number(math.fsum(one.predictions for one in found) / len(found), places=int(several)),
                        cells.score([one.confidence for one in found]),
                        cells.score([one.correct for one in found]),
                        cells.score([one.ece for one in found]),
                        cells.score([p for one in found if (p := one.average_precision) is not None]),
                    ),
                    starts=bool(rows) and not i,
                )
            )
    if not rows:
        return None
    caption = (
        f"In percent, over predictions with a confidence: its mean, how many are correct, ECE over {BINS} bins of "
        "equal width (Guo et al. 2017), and average precision, the area under the precision-recall curve."
    )
    columns = (
        Column("task", "task", number=False),
        Column("system", "system", number=False),
        Column("predictions", "predictions", quiet=True),
        Column("confidence", "confidence"),
        Column("correct", "correct"),
        Column("ece", "ECE"),
        Column("average_precision", "average precision"),
    )
    return Table(name, "Confidence", caption, columns, tuple(rows))


def reliability_plot(name: str, group: ComparisonGroup, pairs: Pairs) -> Plot | None:
    """Reliability diagrams: the share of correct predictions, by confidence."""
    caption = (
        f"For the predictions in each of {BINS} bins, the share that is correct over their mean confidence; on the "
        "diagonal, confidence equals accuracy. For several runs, the first one."
    )
    panels = _panels(group, pairs, "confidence", _bins, front=DIAGONAL)
    return Plot(name, "Reliability", caption, "correct", panels) if panels else None


def curve_plot(name: str, group: ComparisonGroup, pairs: Pairs) -> Plot | None:
    """Precision-recall curves, from the most confident predictions to all."""
    caption = (
        "Precision and recall in percent of the predictions of at least some confidence, from the most confident to "
        "all; for chains, of the links between their mentions. For several runs, the first one."
    )
    panels = _panels(group, pairs, "recall", _curve)
    return Plot(name, "Precision-recall curves", caption, "precision", panels) if panels else None


def _panels(
    group: ComparisonGroup,
    pairs: Pairs,
    x_label: str,
    points: Callable[[Calibration], Iterator[Point]],
    *,
    front: tuple[Point, ...] = (),
) -> tuple[Panel, ...]:
    """One panel per task, one line per system."""
    panels = []
    for task in TASKS:
        series = tuple(
            Series(system.label, drawn, system.color)
            for system in by_rank(group, pairs)
            if (found := _of(system, group, pairs, task)) and (drawn := tuple(points(found[0])))
        )
        if series:
            panels.append(Panel(WORDS[task], x_label, series, front))
    return tuple(panels)


def _bins(found: Calibration) -> Iterator[Point]:
    for one in found.bins:
        if one.confidence is not None and one.correct is not None:
            yield Point(100 * one.confidence, 100 * one.correct)


def _curve(found: Calibration) -> Iterator[Point]:
    every = math.ceil(len(found.curve) / SHOWN)
    last = len(found.curve) - 1
    for i, point in enumerate(found.curve):
        if i % every == 0 or i == last:
            yield Point(100 * point.recall, 100 * point.precision)


def _of(system: SystemRuns, group: ComparisonGroup, pairs: Pairs, task: Task) -> list[Calibration]:
    return [found for run in system.runs if (found := _of_run(run, group.lang, pairs, task)) is not None]


def _of_run(run: ScoredRun, lang: str, pairs: Pairs, task: Task) -> Calibration | None:
    return run.scores.languages[lang].calibration.get(pairs, {}).get(task)
