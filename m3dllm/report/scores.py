"""The tables of scores: systems, heuristic baselines, single seeds, differences with intervals; and their charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import fsum

from m3dllm.report import cells
from m3dllm.report.comparison import Compared, Comparison, best
from m3dllm.report.groups import ComparisonGroup, SystemRuns
from m3dllm.report.layout import Cell, Column, Forest, Interval, Row, Table, ranked
from m3dllm.report.numbers import percent, points, probability
from m3dllm.score.heuristics import HeuristicBaseline
from m3dllm.score.metric import headline
from m3dllm.score.scores import Pairs
from m3dllm.scored import ScoredRun
from m3dllm.types import TASKS

Intervals = Mapping[tuple[str, str], tuple[float, float]]
"""95 % confidence intervals of F1 by a system's label and the score."""
BELOW = "↓"
FAILED = " Systems with failed documents are scored on the others, and neither ranked nor compared."
IN_PART = "in part"
"""The mark of a score over only a part of the documents, in a row with several groups."""
FEWER = ' An average "of 1" is over one task and is not compared.'
RATIOS = {"precision": "P", "recall": "R", "f1": "F1"}
LETTERS = "abcdeghijklmnopqrstuvwxyz"  # of notes; f is for heuristic baselines
SYSTEM = Column("system", "system", number=False)


def main_table(name: str, group: ComparisonGroup, pairs: Pairs) -> Table:
    """Every system under one protocol, P, R and F1 of each headline metric; the best heuristics below."""
    systems = by_rank(group, pairs)
    heuristics = best_heuristics(group, pairs, systems)
    notes = _notes(systems)
    keys = _headline(systems, group, pairs)
    columns = [SYSTEM, *_score_columns(keys), Column("average.f1", "F1", "average")]
    n_ranked = sum(not system.has_failed(group.lang) for system in systems)
    rows = _marked([_system_row(system, group, pairs, keys, notes) for system in systems], columns, n_ranked)
    if heuristics:
        cells_of = [_heuristic_cell(heuristics.get(key), ratio) for key in keys for ratio in RATIOS]
        rows.append(Row((cells.word("best heuristic", refs="f"), *cells_of, cells.NOTHING), "heuristic", starts=True))
    under = [(letter, note) for note, letter in notes.items()]
    if heuristics:
        under.append(("f", "the heuristic with the highest F1: " + _which(heuristics, pairs, systems[0])))
    caption = (
        "F1, precision and recall in percent; the best F1 of a column in bold, the second best underlined"
        f"{'; for several seeds the mean, with the sample variance in brackets' if _has_seeds(systems) else ''}. "
        f"{BELOW} below the best heuristic.{_average_of(systems, group, pairs)}"
        f"{'' if n_ranked == len(systems) else FAILED}"
    )
    table = Table(name, "Scores", caption, tuple(columns), tuple(rows), tuple(under))
    return without_empty(table)


def chart(name: str, title: str, group: ComparisonGroup, pairs: Pairs, intervals: Intervals) -> Forest | None:
    """The F1 of every system with its interval, one panel per task; a grey line marks the best heuristic.

    None where nothing has a score.
    """
    systems = by_rank(group, pairs)
    heuristics = best_heuristics(group, pairs, systems)
    keys = [key for key in (*TASKS, "average") if any(system.f1s(group.lang, pairs, key) for system in systems)]
    if not keys:
        return None
    panels, marks = [], []
    for key in keys:
        fewer = {system.label for system in systems if key == "average" and _few(system, group, pairs)}
        dots = (None if s.label in fewer else _f1(s, group.lang, pairs, key, intervals) for s in systems)
        panels.append((key, tuple(dots)))
        f1 = heuristics[key].score.f1 if key in heuristics else None
        marks.append(None if f1 is None else 100 * f1)
    over = f", over the mentions and chains predicted by {systems[0].label}" if pairs == "end_to_end" else ""
    caption = (
        f"Dots: 95 % confidence intervals by bootstrap over source videos; grey: the best heuristic baseline{over}."
    )
    lines, colors = tuple(system.label for system in systems), tuple(system.color for system in systems)
    return Forest(name, title, caption, "F1, percent", lines, tuple(panels), colors, tuple(marks), (0.0, 100.0))


def _f1(system: SystemRuns, lang: str, pairs: Pairs, key: str, intervals: Intervals) -> Interval | None:
    found = system.f1s(lang, pairs, key)
    if not found:
        return None
    mean = fsum(found) / len(found)
    low, high = intervals.get((system.label, key), (mean, mean))
    text = f"{system.label}, {key}: {percent(mean)} ({percent(low)} to {percent(high)})"
    return Interval(100 * mean, 100 * low, 100 * high, True, text)


def glance_table(name: str, groups: Mapping[str, ComparisonGroup], pairs: Pairs) -> Table:
    """The F1 of every system, the `groups` side by side under their names; for more than two, averages only."""
    keys = (*TASKS, "average") if len(groups) <= 2 else ("average",)
    labels = dict.fromkeys(system.label for group in groups.values() for system in by_rank(group, pairs))
    columns, grid, best = [SYSTEM], {label: [cells.word(label)] for label in labels}, [cells.word("best heuristic")]
    for title, group in groups.items():
        systems = {system.label: system for system in by_rank(group, pairs)}
        heuristics = best_heuristics(group, pairs, list(systems.values()))
        for key in keys:
            columns.append(Column(f"{title}.{key}.f1", key, title))
            for label, row in grid.items():
                system = systems.get(label)
                below = system is not None and all(is_below(run, group, pairs, key) for run in system.runs)
                values = [] if system is None else system.f1s(group.lang, pairs, key)
                sign = BELOW if below else _few(system, group, pairs) if system and key == "average" else ""
                sign = IN_PART if system and system.has_failed(group.lang) else sign
                row.append(cells.score(values, spread=False, sign=sign))
            best.append(_heuristic_cell(heuristics.get(key), "f1"))
    rows = _marked([Row(tuple(row)) for row in grid.values()], columns, len(grid))
    rows.append(Row(tuple(best), "heuristic", starts=True))
    own = " over its predicted mentions and chains" if pairs == "end_to_end" else ""
    signs = " ".join(cell.small for row in grid.values() for cell in row)
    caption = (
        "F1 in percent; the best of a column in bold, the second best underlined; "
        f"{BELOW} below the best heuristic{own}."
        f"{FEWER if 'of ' in signs else ''}{FAILED if IN_PART in signs else ''}"
    )
    return without_empty(Table(name, "All systems", caption, tuple(columns), tuple(rows)))


def seed_table(name: str, group: ComparisonGroup, pairs: Pairs) -> Table | None:
    """F1 of every run of the systems with several runs; None if there are none."""
    rows = []
    for system in by_rank(group, pairs):
        for i, run in enumerate(system.runs if len(system.runs) > 1 else ()):
            one = replace(system, runs=(run,))
            f1s = [cells.score(one.f1s(group.lang, pairs, key)) for key in (*TASKS, "average")]
            heads = cells.word(system.label), cells.word(run.name), Cell(str(run.record.seed), run.record.seed)
            rows.append(Row((*heads, *f1s), "seed", starts=i == 0))
    columns = (SYSTEM, Column("run", "run", number=False), Column("seed", "seed"))
    scores = tuple(Column(f"{key}.f1", key) for key in (*TASKS, "average"))
    caption = "F1 in percent of each single run."
    return without_empty(Table(name, "Single runs", caption, columns + scores, tuple(rows))) if rows else None


def part_table(
    name: str, title: str, caption: str, group: ComparisonGroup, pairs: Pairs, keys: Mapping[str, str]
) -> Table | None:
    """P, R and F1 of the scores `keys` (name to title) that any system has; None if none has one."""
    systems = by_rank(group, pairs)
    there = [key for key in keys if any(key in part.tasks for s in systems for part in s.parts(group.lang, pairs))]
    if not there:
        return None
    rows = [
        Row(
            (
                cells.word(system.label),
                *(
                    cells.score(_ratios(system, group.lang, pairs, key, ratio), spread=ratio == "f1")
                    for key in there
                    for ratio in RATIOS
                ),
            )
        )
        for system in systems
    ]
    columns = (SYSTEM, *_score_columns(there, keys))
    n_ranked = sum(not system.has_failed(group.lang) for system in systems)
    return without_empty(Table(name, title, caption, columns, tuple(_marked(rows, columns, n_ranked))))


def heuristic_table(name: str, group: ComparisonGroup, pairs: Pairs) -> Table | None:
    """F1 of every heuristic baseline: one column per run if the rules use predicted chains, else one for all."""
    runs = [run for system in by_rank(group, pairs) for run in system.runs]
    columns = runs if pairs == "end_to_end" else runs[:1]
    found = {(run.name, f.task, f.name): f.score.f1 for run in columns for f in group.heuristics[run.name, pairs]}
    names = dict.fromkeys((f.task, f.name) for run in columns for f in group.heuristics[run.name, pairs])
    if not names:
        return None
    rows = [
        Row(
            (
                cells.word(task),
                cells.word(heuristic),
                *(cells.share(found.get((run.name, task, heuristic))) for run in columns),
            ),
            "heuristic",
        )
        for task, heuristic in sorted(names, key=lambda pair: TASKS.index(pair[0].split(".")[0]))
    ]
    over = "over the mentions and chains of each run" if pairs == "end_to_end" else "over the gold mentions and chains"
    caption = (
        f"F1 in percent of heuristics without a model, {over}. The heuristics for relations and boxes use "
        "the frequencies of the scored documents themselves."
    )
    heads = [Column(run.name, run.name if pairs == "end_to_end" else "F1") for run in columns]
    words = (Column("score", "score", number=False), Column("heuristic", "heuristic", number=False))
    return Table(name, "Heuristic baselines", caption, (*words, *heads), tuple(rows))


def difference_table(name: str, comparison: Comparison) -> Table:
    """Every system against the reference: difference, confidence interval, and p before and after correction."""
    rows = []
    for i, row in enumerate(comparison.rows):
        begins = i == 0 or comparison.rows[i - 1].system is not row.system
        numbers = (
            cells.share(row.found.other),
            cells.share(row.found.reference),
            cells.difference(row.found.difference),
            cells.difference(row.found.low),
            cells.difference(row.found.high),
            cells.p_value(row.found.p),
            cells.p_value(row.adjusted),
        )
        label = Cell(row.system.label if begins else "", row.system.label)
        rows.append(Row((label, cells.word(row.key), *numbers), starts=begins and i > 0))
    columns = (
        SYSTEM,
        Column("score", "score", number=False),
        Column("f1", "F1"),
        Column("reference_f1", "reference"),
        Column("difference", "difference"),
        Column("low", "low", "95 %"),
        Column("high", "high", "95 %"),
        Column("p", "p"),
        Column("p_holm", "p (Holm)"),
    )
    caption = (
        f"F1 minus that of {comparison.reference.label}, in percentage points: 95 % confidence interval and p of a "
        f"paired bootstrap over source videos ({comparison.resamples:,} resamples), p after Holm's correction over the "
        "systems. The counts of several seeds are averaged per document."
    )
    return Table(name, f"Differences from {comparison.reference.label}", caption, columns, tuple(rows))


def forest(name: str, comparison: Comparison, systems: Sequence[SystemRuns]) -> Forest | None:
    """The differences as intervals, one panel per score; None if there are none."""
    others = [system for system in systems if system is not comparison.reference]
    panels = []
    for key in (*TASKS, "average"):
        rows = [comparison.row(system, key) for system in others]
        if any(rows):
            panels.append((key, tuple(None if row is None else _interval(row) for row in rows)))
    if not panels:
        return None
    which = "the best" if comparison.best else "the baseline"
    caption = (
        f"F1 minus that of {comparison.reference.label}, {which}. Dots with 95 % confidence intervals; filled: "
        "significant at 5 % after Holm's correction. Each panel has its own scale."
    )
    title = f"Differences from {comparison.reference.label}"
    lines = tuple(system.label for system in others)
    return Forest(name, title, caption, "difference in F1, points", lines, tuple(panels))


# --- parts ------------------------------------------------------------------------------------------------------------


def by_rank(group: ComparisonGroup, pairs: Pairs) -> list[SystemRuns]:
    """The systems of a protocol, by number of tasks, then by score."""
    left, found = group.with_pairs(pairs), []
    while left:
        found.append(best(left, group.lang, pairs))
        left.remove(found[-1])
    return found


def best_heuristics(
    group: ComparisonGroup, pairs: Pairs, systems: Sequence[SystemRuns]
) -> dict[str, HeuristicBaseline]:
    """The best heuristic of each task that a system answers; end to end, over the predictions of the first system."""
    answered = {key for system in systems for part in system.parts(group.lang, pairs) for key in part.tasks}
    found: dict[str, HeuristicBaseline] = {}
    for heuristic in group.heuristics[systems[0].runs[0].name, pairs]:
        if heuristic.task in TASKS and heuristic.task in answered:
            so_far = found.get(heuristic.task)
            if so_far is None or (heuristic.score.f1 or 0.0) > (so_far.score.f1 or 0.0):
                found[heuristic.task] = heuristic
    return found


def is_below(run: ScoredRun, group: ComparisonGroup, pairs: Pairs, task: str) -> bool:
    """Whether the run's F1 in a task is below the best of its heuristics."""
    part = run.part(group.lang, pairs)
    f1 = part.tasks[task].f1 if part is not None and task in part.tasks else None
    reached = [heuristic.score.f1 or 0.0 for heuristic in group.heuristics[run.name, pairs] if heuristic.task == task]
    return f1 is not None and bool(reached) and f1 < max(reached)


def without_empty(table: Table) -> Table:
    """`table` without its groups of number columns in which no cell has a number."""
    empty = {
        column.group or column.key
        for column in table.columns
        if column.number
        and not any(
            isinstance(row.cells[i].value, float | int)
            for i, other in enumerate(table.columns)
            if (other.group or other.key) == (column.group or column.key)
            for row in table.rows
        )
    }
    kept = [i for i, column in enumerate(table.columns) if (column.group or column.key) not in empty]
    rows = tuple(replace(row, cells=tuple(row.cells[i] for i in kept)) for row in table.rows)
    return replace(table, columns=tuple(table.columns[i] for i in kept), rows=rows)


def _score_columns(keys: Sequence[str], titles: Mapping[str, str] | None = None) -> Iterator[Column]:
    for key in keys:
        for ratio, short in RATIOS.items():
            yield Column(f"{key}.{ratio}", short, (titles or {}).get(key, key), quiet=ratio != "f1")


def _headline(systems: Sequence[SystemRuns], group: ComparisonGroup, pairs: Pairs) -> tuple[str, ...]:
    """The tasks and the headline metrics of other packages that a system has."""
    there = {key for system in systems for part in system.parts(group.lang, pairs) for key in part.tasks}
    return tuple(key for key in headline() if key in TASKS or key in there)


def _system_row(
    system: SystemRuns, group: ComparisonGroup, pairs: Pairs, keys: Sequence[str], notes: Mapping[str, str]
) -> Row:
    lang, found = group.lang, []
    for key in keys:
        below = BELOW if all(is_below(run, group, pairs, key) for run in system.runs) else ""
        for ratio in RATIOS:
            values = _ratios(system, lang, pairs, key, ratio)
            found.append(cells.score(values, spread=ratio == "f1", sign=below if ratio == "f1" else ""))
    refs = "".join(notes[note] for note in system.notes)
    average = cells.score(system.f1s(lang, pairs, "average"), sign=_few(system, group, pairs))
    return Row((cells.word(system.label, refs=refs), *found, average))


def _few(system: SystemRuns, group: ComparisonGroup, pairs: Pairs) -> str:
    """The number of tasks in the system's average, if others answer more: "of 1"."""
    tasks = system.average_of(group.lang, pairs)
    most = max((one.average_of(group.lang, pairs) for one in group.with_pairs(pairs)), key=len)
    return "" if tasks == most else f"of {len(tasks)}"


def _average_of(systems: Sequence[SystemRuns], group: ComparisonGroup, pairs: Pairs) -> str:
    """The tasks of the average, if not all."""
    tasks = systems[0].average_of(group.lang, pairs)
    return "" if tasks == TASKS else f" The average is over {', '.join(tasks) or 'nothing'}."


def _ratios(system: SystemRuns, lang: str, pairs: Pairs, key: str, ratio: str) -> list[float]:
    found = [getattr(part.tasks[key], ratio) for part in system.parts(lang, pairs) if key in part.tasks]
    return [value for value in found if value is not None]


def _marked(rows: Sequence[Row], columns: Sequence[Column], n_ranked: int) -> list[Row]:
    """`rows` with the best and second best of each F1 column marked, among the first `n_ranked`: the others failed on
    documents. An average over fewer tasks does not compete, nor does a score over a part of the documents."""
    grid = [list(row.cells) for row in rows]
    for j, column in enumerate(columns):
        if column.key.endswith(".f1"):
            among = [i for i, row in enumerate(grid[:n_ranked]) if not {"of", "in"}.intersection(row[j].small.split())]
            for row, cell in zip(grid, ranked([row[j] for row in grid], among), strict=True):
                row[j] = cell
    return [replace(row, cells=tuple(found)) for row, found in zip(rows, grid, strict=True)]


def _heuristic_cell(heuristic: HeuristicBaseline | None, ratio: str) -> Cell:
    return cells.share(None if heuristic is None else getattr(heuristic.score, ratio))


def _which(heuristics: Mapping[str, HeuristicBaseline], pairs: Pairs, first: SystemRuns) -> str:
    over = f"; over the mentions and chains predicted by {first.label}" if pairs == "end_to_end" else ""
    return ", ".join(f"{task}: {heuristic.name}" for task, heuristic in heuristics.items()) + over


def _notes(systems: Sequence[SystemRuns]) -> dict[str, str]:
    """A letter for each note of a system."""
    found = dict.fromkeys(note for system in systems for note in system.notes)
    return {note: LETTERS[i % len(LETTERS)] for i, note in enumerate(found)}


def _has_seeds(systems: Sequence[SystemRuns]) -> bool:
    return any(len(system.runs) > 1 for system in systems)


def _interval(row: Compared) -> Interval:
    found = row.found
    text = f"{points(found.difference)} ({points(found.low)} to {points(found.high)}), p = {probability(row.adjusted)}"
    return Interval(100 * found.difference, 100 * found.low, 100 * found.high, row.is_significant, text)
