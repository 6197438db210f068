"""The files of a report: `report.md` for people, CSV for programs.

CSV holds fractions unrounded, counts as they are, and nothing where there is nothing. A file is written whole or not at
all, and never into a run.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from m3dllm.errors import UserError
from m3dllm.files import write_atomic
from m3dllm.report.comparison import RESAMPLES, Comparison, compare
from m3dllm.report.markdown import markdown
from m3dllm.report.sources import PAIRS, Field, fields, read_runs
from m3dllm.score import Ratio
from m3dllm.score.scores import Pairs
from m3dllm.types import PRF

Row = Sequence[object]
Comparisons = Mapping[tuple[Field, Pairs], Comparison | None]

WHERE = ("corpus", "split", "lang", "documents_sha256", "labels_sha256", "shown_sha256", "modality", "pairs")
RATIOS = ("precision", "recall", "f1")
COUNTS = ("p_num", "p_den", "r_num", "r_den")


def write_report(runs: Sequence[Path | str], out: Path | str, *, resamples: int = RESAMPLES) -> list[Path]:
    """Write the report of `runs` into the folder `out`, and give its files: the same runs, the same bytes.

    A run that is unfinished, broken or of another format is named in the report and left out. Raises UserError where
    none is left, where `out` lies in a run, or cannot be written.
    """
    folder, paths = Path(out), [Path(run) for run in runs]
    for run in paths:
        if folder.resolve().is_relative_to(run.resolve()):
            raise UserError.at(folder, f"lies in the run {run}, which a report does not touch: name another --out")
    found, left_out = read_runs(paths)
    sets = fields(found)
    comparisons = {(field, pairs): compare(field, pairs, resamples=resamples) for field in sets for pairs in PAIRS}
    texts = {
        "report.md": markdown(sets, left_out, comparisons),
        "scores.csv": _csv(("run", "system", "seed", *WHERE, "documents", "score", *RATIOS, *COUNTS), _scores(sets)),
        "floors.csv": _csv(("run", "system", *WHERE, "score", "floor", *RATIOS, *COUNTS), _floors(sets)),
        "differences.csv": _csv(
            ("system", "reference", *WHERE, "score", "difference", "low", "high", "p", "p_holm", "resamples"),
            _differences(comparisons),
        ),
        "issues.csv": _csv(("run", "system", "corpus", "split", "lang", "code", "count"), _issues(sets)),
        "left_out.csv": _csv(("run", "why"), ((run.name, run.why) for run in left_out)),
    }
    for name, text in texts.items():
        write_atomic(folder / name, text)
    return [folder / name for name in texts]


def _where(field: Field, pairs: Pairs) -> Row:
    of = field.protocol
    return of.corpus, of.split, of.lang, of.documents, of.labels, of.shown, of.modality, pairs


def _scores(sets: Iterable[Field]) -> Iterator[Row]:
    for field in sets:
        for run in field.runs:
            for pairs in PAIRS:
                part = run.part(field.lang, pairs)
                if part is None:
                    continue
                n = run.scores.languages[field.lang].documents
                row = (run.name, run.record.system, run.record.seed, *_where(field, pairs), n)
                for key, score in part.tasks.items():
                    yield *row, key, *_numbers(score)
                yield *row, f"average of {' '.join(part.average_of) or 'nothing'}", *_numbers(Ratio(f1=part.average_f1))


def _floors(sets: Iterable[Field]) -> Iterator[Row]:
    for field in sets:
        for run in field.runs:
            for pairs in PAIRS:
                if run.part(field.lang, pairs) is not None:
                    for floor in field.floors[run.name, pairs]:
                        row = (run.name, run.record.system, *_where(field, pairs), floor.task, floor.name)
                        yield *row, *_numbers(floor.score)


def _numbers(score: PRF | Ratio) -> Row:
    """Precision, recall and F1, and the counts where the score has some."""
    ratios = [getattr(score, name) for name in RATIOS]
    if isinstance(score, Ratio):
        return [*ratios, *[None] * len(COUNTS)]
    counts = [getattr(score, name) for name in COUNTS]
    return [*ratios, *(int(n) if n == int(n) else n for n in counts)]


def _differences(comparisons: Comparisons) -> Iterator[Row]:
    for (field, pairs), comparison in comparisons.items():
        for row in comparison.rows if comparison else ():
            found = row.found
            numbers = found.difference, found.low, found.high, found.p, row.adjusted, found.resamples
            where = _where(field, pairs)
            yield row.system.label, comparison.reference.label if comparison else "", *where, row.key, *numbers


def _issues(sets: Iterable[Field]) -> Iterator[Row]:
    for field in sets:
        for run in field.runs:
            for code, n in run.issues(field.lang).items():
                yield run.name, run.record.system, field.protocol.corpus, field.protocol.split, field.lang, code, n


def _csv(head: Row, rows: Iterable[Row]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return out.getvalue()
