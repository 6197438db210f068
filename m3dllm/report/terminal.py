"""Scores as plain text: a summary and the full scores of a run, and the systems of a report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from m3dllm.columns import columns, counted
from m3dllm.report.layout import Report, Table
from m3dllm.report.numbers import count, percent
from m3dllm.report.scores import BELOW
from m3dllm.runs import Run
from m3dllm.score import Ratio, Scores, TaskScores
from m3dllm.score.calibration import Calibration
from m3dllm.score.heuristics import HeuristicBaseline
from m3dllm.score.metric import headline
from m3dllm.score.scores import PAIRS, Pairs, answered
from m3dllm.scored import ScoredRun, read_run
from m3dllm.types import PRF, TASKS, Task

PAIRS_WORDS: dict[Pairs, str] = {"end_to_end": "end to end", "gold_pairs": "gold mentions and chains"}
COLUMNS = ("", "P", "R", "F1", "correct", "predicted", "gold")
Heuristics = Mapping[tuple[str, Pairs], Sequence[HeuristicBaseline]]
"""(language, protocol) -> the heuristic baselines beside the scores."""


def run_summary(run: Run) -> str:
    """The F1 of a run, one row per language and protocol. Raises UserError if it is broken or not scored."""
    found = read_run(run.path)
    keys = [key for key in headline() if key in TASKS or any(key in part.tasks for _, _, part in _parts(found))]
    rows, below = [("F1", "documents", *keys, "average")], False
    for lang, pairs, part in _parts(found):
        of, heuristics = found.scores.languages[lang], found.heuristics(lang, pairs)
        row = [f"{lang}, {PAIRS_WORDS[pairs]}", answered(of) if of.failed else str(of.documents)]
        for key in keys:
            f1 = part.tasks[key].f1 if key in part.tasks else None
            beaten = f1 is not None and any(h.task == key and f1 < (h.score.f1 or 0.0) for h in heuristics)
            below = below or beaten
            row.append(f"{percent(f1)}{f' {BELOW}' if beaten else ''}")
        rows.append((*row, percent(part.average_f1)))
    notes = [f"{BELOW} below the best heuristic baseline"] if below else []
    return "\n".join([*columns(rows, left=1), *notes, *_notes(found)])


def overview(report: Report) -> str:
    """The F1 of all systems of a report, one block per language and protocol."""
    return "\n\n".join(
        "\n".join([f"{section.title} · {part.title.lower()}", *_f1_rows(table)])
        for section in report.sections
        for part in section.sections
        for table in part.blocks
        if isinstance(table, Table) and table.title == "Scores"
    )


def _f1_rows(table: Table) -> list[str]:
    kept = [i for i, column in enumerate(table.columns) if not column.number or column.key.endswith(".f1")]
    if len(kept) == 1:
        return ["nothing to score in these documents"]
    heads = [table.columns[i].group or table.columns[i].title for i in kept]
    rows = [[f"{row.cells[i].text} {row.cells[i].small}".strip() for i in kept] for row in table.rows]
    return columns([heads, *rows], left=1)


def run_table(run: Run) -> str:
    """All scores of a run, with heuristic baselines and issues. Raises UserError as `run_summary` does."""
    found = read_run(run.path)
    beside = {(lang, pairs): found.heuristics(lang, pairs) for lang, pairs, _ in _parts(found)}
    return "\n\n".join(filter(None, [table(found.scores, beside), "\n".join(_notes(found))]))


def _parts(run: ScoredRun) -> Iterator[tuple[str, Pairs, TaskScores]]:
    """(language, protocol, scores) of everything that was scored."""
    for lang in run.scores.languages:
        for pairs in PAIRS:
            if (part := run.part(lang, pairs)) is not None:
                yield lang, pairs, part


def _notes(run: ScoredRun) -> list[str]:
    """Notes on the scores."""
    notes = []
    for lang, of in run.scores.languages.items():
        if codes := run.of(lang).issues:
            notes.append(f"issues ({lang}): {', '.join(f'{code} {n}' for code, n in codes.items())}")
        if of.failed:
            rest = "the others failed: this is not a score over all documents"
            notes.append(f"{lang}: {answered(of)} documents answered; {rest}")
        if of.unanswered:
            notes.append(f"not answered ({lang}): {of.unanswered}, scored as empty")
    if run.record.status != "done":
        notes.append(f"the run is {run.record.status}: run the same command again to finish it")
    return notes


def table(scores: Scores | Mapping[str, Any], heuristics: Heuristics | None = None) -> str:
    """One block per language and protocol: P, R and F1 in percent, their counts, the average, the heuristic baselines.

    `scores` may be the object of `scores.json`. A chain score is a mean and has no counts; those of its parts are
    listed below it.
    """
    found = scores if isinstance(scores, Scores) else Scores.from_wire(scores)
    blocks = []
    least = "" if found.settings.threshold is None else f" · confidence at least {found.settings.threshold:g}"
    for lang, of in found.languages.items():
        for pairs in PAIRS:
            part = of.gold_pairs if pairs == "gold_pairs" else of.end_to_end
            if part is not None:
                n = counted(of.documents, "document")
                n = f"{answered(of)} documents answered" if of.failed else n
                lines = [f"{lang} · {n} · {PAIRS_WORDS[pairs]} · modality {found.settings.modality}{least}"]
                lines += columns([COLUMNS, *_rows(part)], left=1)
                lines += [_average(part), *_beside((heuristics or {}).get((lang, pairs), ()), pairs)]
                if sure := of.calibration.get(pairs):
                    lines.append(f"confidence (ECE; average precision): {_calibration(sure)}")
                if of.frames_shown is not None and of.frames_annotated:
                    share = percent(of.frames_shown / of.frames_annotated)
                    saw = f"{of.frames_shown} of {of.frames_annotated} annotated frames ({share} %)"
                    lines.append(f"grounding saw {saw}; regions in the others count as missed")
                if of.failed:
                    lines.append(f"failed: {of.failed} (not scored: this is not a score over all documents)")
                if of.unanswered:
                    lines.append(f"not answered: {of.unanswered} (scored as empty)")
                if of.regions_unannotated:
                    lines.append(f"regions in unannotated frames: {of.regions_unannotated} (not scored)")
                blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _rows(part: TaskScores) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, score in part.tasks.items():
        ratios = percent(score.precision), percent(score.recall), percent(score.f1)
        counts = ("", "", "") if isinstance(score, Ratio) else (correct(score), count(score.p_den), count(score.r_den))
        label = name if name in headline() else f"  {name.partition('.')[2] or name}"
        rows.append((label, *ratios, *counts))
    return rows


def correct(score: PRF) -> str:
    """The true positives; both numerators if they differ (B3), precision's first."""
    tp = [score.p_num] if score.p_num == score.r_num else [score.p_num, score.r_num]
    return " / ".join(map(count, tp))


def _calibration(sure: Mapping[Task, Calibration]) -> str:
    found = (f"{task} {percent(of.ece)}; {percent(of.average_precision)}" for task, of in sure.items())
    return ", ".join(found)


def _average(part: TaskScores) -> str:
    return f"average F1 {percent(part.average_f1)} ({', '.join(part.average_of) or 'of nothing'})"


def _beside(heuristics: Sequence[HeuristicBaseline], pairs: Pairs) -> list[str]:
    """One line per task: the F1 of the heuristic baselines."""
    if not heuristics:
        return []
    by_task: dict[str, list[str]] = defaultdict(list)
    for heuristic in heuristics:
        by_task[heuristic.task].append(f"{heuristic.name} {percent(heuristic.score.f1)}")
    over = "predicted mentions and chains" if pairs == "end_to_end" else "gold mentions and chains"
    return [
        f"heuristic baselines (F1, over {over}; frequencies of these documents):",
        *(f"  {task}: {', '.join(found)}" for task, found in by_task.items()),
    ]
