"""Breakdowns of a score: F1 by type, by modality given, and by the size of a document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from m3dllm.report import cells
from m3dllm.report.groups import ComparisonGroup, SystemRuns
from m3dllm.report.layout import Cell, Column, Row, Table, ranked
from m3dllm.report.numbers import ABSENT
from m3dllm.report.published import Published
from m3dllm.report.scores import by_rank
from m3dllm.score.errors import CLASSES
from m3dllm.score.scores import Pairs
from m3dllm.scored import ScoredRun
from m3dllm.types import TASKS, Subset, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from m3dllm.score.per_document import Ids

SUBSETS: dict[Subset, str] = {"full": "text and video", "no_text": "video only", "no_video": "text only"}
TYPED: tuple[Task, ...] = ("entity", "relation", "grounding")
PARTS = 3
MEASURES = {"length": "tokens of text", "mentions": "gold mentions", "chains": "gold chains"}
ERROR_WORDS = {
    "type": "type",
    "boundary": "boundary",
    "incorrect": "wrong mentions",
    "missing": "missing mentions",
    "wrong_type": "wrong type",
    "false_relation": "no relation",
}


@dataclass(frozen=True, slots=True)
class _Part:
    """One row of a breakdown: its name, its size, and the F1 of each run by the run's name."""

    task: str
    name: str
    size: int
    f1: Mapping[str, float | None]


def type_table(name: str, group: ComparisonGroup, pairs: Pairs) -> Table | None:
    """F1 of each type of entity, relation and region, those with most gold first."""
    systems = by_rank(group, pairs)
    parts = []
    for task in TYPED:
        found = {run.name: run.of(group.lang).types.get(pairs, {}).get(task, {}) for s in systems for run in s.runs}
        gold: dict[str, int] = {}
        for kind, counts in (item for of in found.values() for item in of.items()):
            gold[kind] = max(gold.get(kind, 0), int(counts.r_den))
        for kind, size in sorted(gold.items(), key=lambda item: (-item[1], item[0])):
            f1 = {run: of[kind].f1 if kind in of else (0.0 if size and of else None) for run, of in found.items()}
            parts.append(_Part(task, kind, size, f1))
    caption = "F1 in percent for each type, with its frequency in the gold; the best system of a row in bold."
    return _table(name, "By type", caption, ("type", "gold"), systems, parts)


def shown_table(name: str, group: ComparisonGroup, pairs: Pairs) -> Table | None:
    """F1 by the modalities given; None if every document was given whole."""
    first = group.runs[0].counts(group.lang, "end_to_end")
    if not any(run.subsets for run in group.runs) and len(first.subsets) < 2:
        return None
    caption = "F1 in percent by given modality; a task is not scored where its modality is missing."
    which = {subset: first.subset == i for i, subset in enumerate(first.subsets)}
    groups = {words: which.get(subset, first.subset < 0) for subset, words in SUBSETS.items()}
    return _document_table(name, "By given modality", caption, "shown", group, pairs, first.documents, groups)


def measure_table(name: str, measure: str, group: ComparisonGroup, pairs: Pairs) -> Table | None:
    """F1 by thirds of the documents, sorted by a measure of size; None if all have about the same."""
    words, run = MEASURES[measure], group.runs[0]
    groups = dict(thirds(run.of(group.lang).sizes[measure]))
    if len(groups) < 2:
        return None
    caption = f"F1 in percent by {words}: the documents in {len(groups)} groups of about equal size."
    return _document_table(name, f"By {words}", caption, words, group, pairs, run.ids(group.lang), groups)


def thirds(sizes: Sequence[int | None]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """(sizes in words, which of the documents have them) of up to three ranges with about as many documents each.

    Equal sizes stay together; a document without a size is in none.
    """
    import numpy as np

    found = np.array([-1 if size is None else size for size in sizes])
    ordered = np.sort(found[found >= 0])
    cuts = sorted({int(ordered[len(ordered) * i // PARTS]) for i in range(1, PARTS)}) if len(ordered) else []
    edges = [int(ordered[0]) if len(ordered) else 0, *(cut for cut in cuts if cut > ordered[0]), float("inf")]
    for low, high in pairwise(edges):
        chosen = (low <= found) & (found < high)
        if chosen.any():
            last = int(found[chosen].max())
            yield (f"{low}" if last == low else f"{low} to {last}"), chosen


def error_table(name: str, group: ComparisonGroup, pairs: Pairs, published: Published | None) -> Table | None:
    """The classes of wrong predictions as shares of all predictions of their task."""
    systems = by_rank(group, pairs)
    keys = [(task, kind) for task in TASKS for kind in CLASSES[task]]
    rows = [
        Row(
            (
                cells.word(system.label),
                *(cells.share(system.mean(_rate, group.lang, pairs, task, kind), bar=True) for task, kind in keys),
            )
        )
        for system in systems
    ]
    quoted = published.errors.get(group.lang) if published and pairs == "gold_pairs" else None
    notes: tuple[tuple[str, str], ...] = ()
    if quoted and published:
        values = [quoted[task][kind] / 100 for task, kind in keys]
        label = cells.word("DFFM+MMCM, quoted", refs="q")
        rows.append(Row((label, *(cells.share(value, bar=True) for value in values)), "quoted", starts=True))
        notes = (("q", f"quoted from {published.errors_source}. Other documents"),)
    if all(cell.value is None for row in rows for cell in row.cells[1:]):
        return None
    caption = (
        "Wrong predictions in percent of all predictions of the task. Entities, relations, regions: only the type is "
        "wrong, or nothing in the gold matches. Chains: some mentions are wrong, or some are missing."
    )
    columns = (
        Column("system", "system", number=False),
        *(Column(f"{task}.{kind}", ERROR_WORDS[kind], task) for task, kind in keys),
    )
    return Table(name, "Wrong predictions", caption, columns, tuple(rows), notes)


# --- parts ------------------------------------------------------------------------------------------------------------


def _rate(run: ScoredRun, lang: str, pairs: Pairs, task: Task, kind: str) -> float | None:
    counts = run.of(lang).errors.get(pairs, {}).get(task)
    return (counts.rates or {}).get(kind) if counts else None


def _document_table(
    name: str,
    title: str,
    caption: str,
    words: str,
    group: ComparisonGroup,
    pairs: Pairs,
    ids: Ids,
    groups: Mapping[str, NDArray[np.bool_]],
) -> Table | None:
    """F1 over groups of documents, one block of rows per task. `groups`: which of the documents `ids` are in each."""
    systems = by_rank(group, pairs)
    counts = {run.name: run.counts(group.lang, pairs) for system in systems for run in system.runs}
    places = {name: of.places_in(ids) for name, of in counts.items()}
    tasks: dict[str, dict[str, dict[str, float | None]]] = {}
    for label, chosen in groups.items():
        for run in (run for system in systems for run in system.runs):
            found = counts[run.name].total((places[run.name] >= 0) & chosen[places[run.name]])
            f1s = {task: score.f1 for task, score in found.tasks.items() if task in TASKS}
            for task, f1 in (f1s | {"average": found.average_f1}).items():
                tasks.setdefault(task, {}).setdefault(label, {})[run.name] = f1
    parts = [
        _Part(task, label, int(groups[label].sum()), f1)
        for task in (*TASKS, "average")
        for label, f1 in tasks.get(task, {}).items()
        if any(value is not None for value in f1.values())
    ]
    return _table(name, title, caption, (words, "documents"), systems, parts)


def _table(
    name: str,
    title: str,
    caption: str,
    words: tuple[str, str],
    systems: Sequence[SystemRuns],
    parts: Iterable[_Part],
) -> Table | None:
    """One row per part, one column per system: means over seeds, the best of a row marked."""
    rows: list[Row] = []
    task = ""
    for part in parts:
        found = [_mean(system, part.f1) for system in systems]
        marked = ranked(found, [i for i, cell in enumerate(found) if cell.text != ABSENT])
        best = (replace(cell, mark="") if cell.mark == "second" else cell for cell in marked)
        begins = part.task != task
        head = Cell(part.task if begins else "", part.task), cells.word(part.name), cells.number(part.size)
        rows.append(Row((*head, *best), starts=begins and bool(rows)))
        task = part.task
    if not rows:
        return None
    columns = (
        Column("score", "score", number=False),
        Column(words[0].replace(" ", "_"), words[0], number=False),
        Column(words[1], words[1], quiet=True),
        *(Column(system.label, system.label) for system in systems),
    )
    return Table(name, title, caption, columns, tuple(rows))


def _mean(system: SystemRuns, f1: Mapping[str, float | None]) -> Cell:
    return cells.score([v for run in system.runs if (v := f1.get(run.name)) is not None], spread=False, bar=True)
