"""F1 of runs, and their mean over folds or seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from m3dllm.runs import Run
from m3dllm.score import Scores
from m3dllm.types import TASKS

Row = dict[tuple[str, str, str], float]
"""F1 by language, protocol and task."""


def f1s(done: Run) -> Row:
    """The F1 of each task in a scored run."""
    found: Row = {}
    for lang, part in Scores.from_wire(done.scores()).languages.items():
        for pairs, tasks in (("end to end", part.end_to_end), ("gold pairs", part.gold_pairs)):
            for task in TASKS if tasks is not None else ():
                f1 = tasks.tasks[task].f1 if task in tasks.tasks else None
                if f1 is not None:
                    found[lang, pairs, task] = f1
    return found


def tell(title: str, rows: Sequence[Row]) -> None:
    """Print mean, minimum and maximum F1 in percent."""
    print(title)
    for key in sorted({key for row in rows for key in row}):
        values = [100 * row[key] for row in rows if key in row]
        print(f"  {' · '.join(key):32} {statistics.mean(values):6.2f}  ({min(values):.2f} to {max(values):.2f})")
