"""The numbers of a report as tidy rows, for CSV files and data frames.

Fractions are unrounded, counts are unchanged, and missing values are empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from m3dllm.report.comparison import Comparison
from m3dllm.report.groups import ComparisonGroup
from m3dllm.report.layout import Table
from m3dllm.score import Ratio
from m3dllm.score.scores import PAIRS, Pairs
from m3dllm.scored import LeftOut, ScoredRun
from m3dllm.sheets import csv_lines
from m3dllm.types import PRF

Values = Sequence[object]
Comparisons = Mapping[tuple[ComparisonGroup, Pairs], tuple[Comparison, ...]]

WHERE = ("corpus", "split", "lang", "documents_sha256", "labels_sha256", "shown_sha256", "modality", "pairs")
RATIOS = ("precision", "recall", "f1")
COUNTS = ("p_num", "p_den", "r_num", "r_den")
RUN = ("run", "system", "label", "seed", "commit")


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows under one head."""

    name: str
    head: tuple[str, ...]
    rows: tuple[Values, ...]


def sheets(
    groups: Sequence[ComparisonGroup], skipped: Sequence[LeftOut], comparisons: Comparisons
) -> tuple[Sheet, ...]:
    """Scores, heuristic baselines, differences, issues, and the runs that were skipped."""
    difference = ("label", "reference", *WHERE, "score", "difference", "low", "high", "p", "p_holm", "resamples")
    return (
        Sheet("scores", (*RUN, *WHERE, "documents", "score", *RATIOS, *COUNTS), tuple(_scores(groups))),
        Sheet("heuristics", (*RUN, *WHERE, "score", "heuristic", *RATIOS, *COUNTS), tuple(_heuristics(groups))),
        Sheet("differences", difference, tuple(_differences(comparisons))),
        Sheet("issues", (*RUN, "corpus", "split", "lang", "code", "count"), tuple(_issues(groups))),
        Sheet("skipped", ("run", "why"), tuple((run.name, run.why) for run in skipped)),
    )


def sheet_csv(sheet: Sheet) -> str:
    return _csv(sheet.head, sheet.rows)


def table_csv(table: Table) -> str:
    """A table as printed, with the unrounded values; `kind` tells systems, heuristics and quoted rows apart."""
    rows = ((row.kind, *(cell.value for cell in row.cells)) for row in table.rows)
    return _csv(("kind", *(column.key for column in table.columns)), rows)


def _where(group: ComparisonGroup, pairs: Pairs) -> Values:
    of = group.protocol
    return of.corpus, of.split, of.lang, of.documents, of.labels, of.shown, of.modality, pairs


def _runs(groups: Iterable[ComparisonGroup]) -> Iterator[tuple[ComparisonGroup, ScoredRun, Values]]:
    """(group, run, first values of its rows) of every run in every group."""
    for group in groups:
        for system in group.systems:
            for run in system.runs:
                yield group, run, (run.name, run.record.system, system.label, run.record.seed, run.record.git)


def _scores(groups: Iterable[ComparisonGroup]) -> Iterator[Values]:
    for group, run, head in _runs(groups):
        for pairs in PAIRS:
            if (part := run.part(group.lang, pairs)) is not None:
                where = (*head, *_where(group, pairs), run.scores.languages[group.lang].documents)
                for key, score in part.tasks.items():
                    yield *where, key, *_numbers(score)
                average = Ratio(f1=part.average_f1)
                yield *where, f"average of {' '.join(part.average_of) or 'nothing'}", *_numbers(average)


def _heuristics(groups: Iterable[ComparisonGroup]) -> Iterator[Values]:
    for group, run, head in _runs(groups):
        for pairs in PAIRS:
            if run.part(group.lang, pairs) is not None:
                for heuristic in group.heuristics[run.name, pairs]:
                    yield *head, *_where(group, pairs), heuristic.task, heuristic.name, *_numbers(heuristic.score)


def _differences(comparisons: Comparisons) -> Iterator[Values]:
    for (group, pairs), found in comparisons.items():
        for comparison in found:
            for row in comparison.rows:
                of = row.found
                numbers = of.difference, of.low, of.high, of.p, row.adjusted, of.resamples
                yield row.system.label, comparison.reference.label, *_where(group, pairs), row.key, *numbers


def _issues(groups: Iterable[ComparisonGroup]) -> Iterator[Values]:
    for group, run, head in _runs(groups):
        for code, n in run.of(group.lang).issues.items():
            yield *head, group.protocol.corpus, group.protocol.split, group.protocol.lang, code, n


def _numbers(score: PRF | Ratio) -> Values:
    """Precision, recall and F1, and the counts if the score has any."""
    ratios = [getattr(score, name) for name in RATIOS]
    if isinstance(score, Ratio):
        return [*ratios, *[None] * len(COUNTS)]
    counts = [getattr(score, name) for name in COUNTS]
    return [*ratios, *(int(n) if n == int(n) else n for n in counts)]


def _csv(head: Values, rows: Iterable[Values]) -> str:
    return "".join(csv_lines((head, *rows)))
