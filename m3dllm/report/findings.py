"""The main findings of a table in sentences: the best system, by task, its lead, and whether it is significant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import fsum

from m3dllm.report import scores
from m3dllm.report.comparison import Compared, Comparison
from m3dllm.report.groups import ComparisonGroup, SystemRuns
from m3dllm.report.numbers import percent, points, probability
from m3dllm.score.scores import Pairs
from m3dllm.types import TASKS


def finding(group: ComparisonGroup, pairs: Pairs, comparisons: Sequence[Comparison]) -> str:
    """A few sentences: the best on average, the best in each task, and where it is below a heuristic baseline."""
    every = scores.by_rank(group, pairs)
    systems = [system for system in every if not system.has_failed(group.lang)]
    if failed := [system.label for system in every if system.has_failed(group.lang)]:
        note = f"Not ranked, because documents failed: {joined(failed)}"
        return " ".join([f"{note}.", *([_finding(systems, group, pairs, comparisons)] if systems else [])])
    return _finding(systems, group, pairs, comparisons)


def _finding(
    systems: Sequence[SystemRuns], group: ComparisonGroup, pairs: Pairs, comparisons: Sequence[Comparison]
) -> str:
    first = systems[0]
    f1s = first.f1s(group.lang, pairs, "average")
    mean = f", average F1 {percent(fsum(f1s) / len(f1s))}" if f1s else ""
    if len(systems) == 1:
        sentences = [f"{first.label} alone{mean}"]
    else:
        row = comparisons[0].row(systems[1], "average") if comparisons else None
        sentences = [f"{first.label} ranks first of {len(systems)}{mean}{'' if row is None else _lead_over(row)}"]
        sentences += _by_task(systems, group, pairs, comparisons[0]) if comparisons else []
    below = [task for task in TASKS if all(scores.is_below(run, group, pairs, task) for run in first.runs)]
    if below:
        who = "It" if len(systems) == 1 else first.label
        sentences.append(f"{who} is below a heuristic baseline in {joined(below)}")
    return ". ".join(sentences) + "."


def _lead_over(row: Compared) -> str:
    """The lead of the best over one other system."""
    found = row.found
    low, high = (points(-value).replace("-", "−") for value in (found.high, found.low))
    interval = f"95\N{NO-BREAK SPACE}% CI {low} to {high}; p = {probability(row.adjusted)} after Holm"
    if percent(found.difference) == "0.00":
        return f", the same as {row.system.label} ({interval})"
    verdict = "significant" if row.is_significant else "not significant"
    return f", {percent(abs(found.difference))} points ahead of {row.system.label}, {verdict} ({interval})"


def _by_task(
    systems: Sequence[SystemRuns], group: ComparisonGroup, pairs: Pairs, comparison: Comparison
) -> Iterator[str]:
    """The tasks in which the best on average is first too, with significance, and who is first in the others."""
    first, others = comparison.reference, [system for system in systems if system is not comparison.reference]
    tasks = first.average_of(group.lang, pairs)
    own: list[str] = []
    ties: dict[str, list[str]] = {}
    elsewhere = []
    for task in tasks:
        reached = {system.label: _mean(system, group, pairs, task) for system in systems}
        most = max(reached.values())
        leaders = [system for system in systems if reached[system.label] == most]
        if leaders == [first]:
            own.append(task)
        elif first in leaders:
            ties.setdefault(joined([system.label for system in leaders if system is not first]), []).append(task)
        else:
            row = comparison.row(leaders[0], task)
            verdict = "" if row is None else ", significant" if row.is_significant else ", not significant"
            ahead = f"{most - reached[first.label]:.2f} points ahead of it{verdict}"
            elsewhere.append(f"In {task} {leaders[0].label} is first, {ahead}")
    if own:
        yield _own(own, [task for task in own if all(_is_behind(comparison.row(s, task)) for s in others)], tasks)
    yield from (f"In {joined(where)} it ties with {others_there}" for others_there, where in ties.items())
    yield from elsewhere


def _own(own: Sequence[str], significant: Sequence[str], tasks: Sequence[str]) -> str:
    """The tasks in which the best is first, and in which of them significantly."""
    where = "every task" if len(own) == len(tasks) > 1 else joined(own)
    if significant == own:
        return f"It is first in {where}, significantly"
    return (
        f"It is first in {where}, {f'significantly in {joined(significant)}' if significant else 'not significantly'}"
    )


def _mean(system: SystemRuns, group: ComparisonGroup, pairs: Pairs, task: str) -> float:
    """The F1 in a task as it is printed; below 0 where there is none."""
    f1s = system.f1s(group.lang, pairs, task)
    return float(percent(fsum(f1s) / len(f1s))) if f1s else -1.0


def _is_behind(row: Compared | None) -> bool:
    """Whether a system is significantly behind; True for one that does not answer the task."""
    return row is None or (row.is_significant and row.found.difference < 0)


def joined(words: Sequence[str]) -> str:
    """Words as a list in a sentence."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
