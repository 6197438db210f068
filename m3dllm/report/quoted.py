"""Comparison with a paper: its rows, and the systems of a report by the same metrics and over the same tasks."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum

from m3dllm.report import cells
from m3dllm.report.groups import ComparisonGroup, SystemRuns
from m3dllm.report.layout import Cell, Column, Row, Table
from m3dllm.report.numbers import percent
from m3dllm.report.published import Published, Quoted
from m3dllm.report.scores import SYSTEM, by_rank

RELEASED = {"chain": "chain.released", "relation": "relation.released"}
"""The metrics as computed by the paper's own code, where they differ."""
OWN_RULE = "own rule"


def paper_table(name: str, where: str, group: ComparisonGroup, published: Published | None) -> Table | None:
    """The systems over gold mentions and chains, and the quoted ones; None if nothing is quoted.

    `where`: the documents of the systems. Averages are over the tasks of the best system.
    """
    quoted = published.scores.get(group.lang, ()) if published else ()
    systems = by_rank(group, "gold_pairs")
    if not quoted or not systems or published is None:
        return None
    tasks = systems[0].average_of(group.lang, "gold_pairs")
    n = group.runs[0].of(group.lang).counts.documents
    rows = [_own(system, group.lang, tasks, f"{where}: {n} documents") for system in systems]
    rows += [_quoted(row, tasks, published.measured_on, starts=i == 0) for i, row in enumerate(quoted)]
    heads = [Column(f"{task}.f1", task + (", released" if task in RELEASED else "")) for task in tasks]
    caption = (
        f"F1 in percent over gold mentions and chains. Chain and relation by the rules of the code that the authors of "
        f"{published.title} released ('{OWN_RULE}': those of the tables above, where a run was not scored with "
        f"--variant released). The average is over {', '.join(tasks)}, in every row. Quoted from {published.source}. "
        "Other documents: neither ranked nor compared."
    )
    columns = (SYSTEM, Column("measured_on", "measured on", number=False), *heads, Column("average.f1", "average"))
    return Table(name, f"Beside {published.title}", caption, columns, tuple(rows))


def has_released(system: SystemRuns, lang: str) -> bool:
    """Whether its runs were also scored as by the paper's code."""
    return all(key in part.tasks for part in system.parts(lang, "gold_pairs") for key in RELEASED.values())


def _own(system: SystemRuns, lang: str, tasks: Sequence[str], where: str) -> Row:
    found, means = [], []
    for task in tasks:
        key = RELEASED.get(task, task)
        own = system.f1s(lang, "gold_pairs", key)
        values = own or system.f1s(lang, "gold_pairs", task)
        found.append(cells.score(values, sign=OWN_RULE if values and not own else ""))
        means += [fsum(values) / len(values)] if values else []
    average = cells.score([fsum(means) / len(means)]) if len(means) == len(tasks) else cells.NOTHING
    return Row((cells.word(system.label), cells.word(where), *found, average))


def _quoted(row: Quoted, tasks: Sequence[str], where: str, *, starts: bool) -> Row:
    numbers = [row.scores.get(task) for task in tasks]
    there = [number[0] for number in numbers if number]
    average = _cell([fsum(there) / len(there)]) if len(there) == len(tasks) else cells.NOTHING
    words = cells.word(f"{row.system}, quoted"), cells.word(where)
    return Row((*words, *map(_cell, numbers), average), "quoted", starts=starts)


def _cell(printed: Sequence[float] | None) -> Cell:
    if not printed:
        return cells.NOTHING
    f1, *spread = printed
    return Cell(percent(f1 / 100), f1 / 100, f"({spread[0]:.2f})" if spread else "")
