"""The four-task table as plain text, for the end of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from m3dllm.columns import columns
from m3dllm.report.numbers import count, percent
from m3dllm.runs import Run
from m3dllm.score import Ratio, Scores, TaskScores
from m3dllm.score.heuristics import HeuristicBaseline
from m3dllm.score.metric import headline
from m3dllm.score.scores import Pairs, answered
from m3dllm.scored import PAIRS, read_run
from m3dllm.types import PRF

PAIRS_WORDS: dict[Pairs, str] = {"end_to_end": "end to end", "gold_pairs": "gold mentions and chains"}
COLUMNS = ("", "P", "R", "F1", "correct", "predicted", "gold")
Heuristics = Mapping[tuple[str, Pairs], Sequence[HeuristicBaseline]]
"""The heuristic baselines that stand beside the scores of a language under a protocol."""


def run_table(run: Run) -> str:
    """The scores of a run, with heuristic baselines and issues. Raises UserError where it is broken or not scored."""
    found = read_run(run.path)
    beside = {
        (lang, pairs): found.heuristics(lang, pairs)
        for lang in found.scores.languages
        for pairs in PAIRS
        if found.part(lang, pairs) is not None
    }
    notes = []
    for lang in found.scores.languages:
        if codes := found.issues(lang):
            notes.append(f"issues ({lang}): {', '.join(f'{code} {n}' for code, n in codes.items())}")
    if found.record.status != "done":
        notes.append(f"the run is {found.record.status}: give the same command again to finish it")
    return "\n\n".join([table(found.scores, beside), *(["\n".join(notes)] if notes else [])])


def table(scores: Scores | Mapping[str, Any], heuristics: Heuristics | None = None) -> str:
    """One block a language and protocol: P, R and F1 in percent, their counts, the average, the heuristic baselines.

    `scores` may be the object of `scores.json`. A chain score is a mean and has no counts; those of its parts stand
    under it.
    """
    found = scores if isinstance(scores, Scores) else Scores.from_wire(scores)
    blocks = []
    least = "" if found.settings.threshold is None else f" · confidence at least {found.settings.threshold:g}"
    for lang, of in found.languages.items():
        for pairs in PAIRS:
            part = of.gold_pairs if pairs == "gold_pairs" else of.end_to_end
            if part is not None:
                n = f"{of.documents} document{'' if of.documents == 1 else 's'}"
                n = f"{answered(of)} documents answered" if of.failed else n
                lines = [f"{lang} · {n} · {PAIRS_WORDS[pairs]} · modality {found.settings.modality}{least}"]
                lines += columns([COLUMNS, *_rows(part)], left=1)
                lines += [_average(part), *_beside((heuristics or {}).get((lang, pairs), ()), pairs)]
                if of.frames_shown is not None and of.frames_annotated:
                    share = percent(of.frames_shown / of.frames_annotated)
                    counted = f"{of.frames_shown} of {of.frames_annotated} annotated frames ({share} %)"
                    lines.append(f"grounding saw {counted}; regions in the others count as missed")
                if of.failed:
                    lines.append(f"failed: {of.failed} (they count nowhere: this is no score of all documents)")
                if of.unanswered:
                    lines.append(f"not answered: {of.unanswered} (scored as empty)")
                if of.regions_unannotated:
                    lines.append(f"regions in frames that nobody annotated: {of.regions_unannotated} (not scored)")
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
    """The true positives; both numerators where they differ (B3), precision's first."""
    tp = [score.p_num] if score.p_num == score.r_num else [score.p_num, score.r_num]
    return " / ".join(map(count, tp))


def _average(part: TaskScores) -> str:
    return f"average F1 {percent(part.average_f1)} ({', '.join(part.average_of) or 'of nothing'})"


def _beside(heuristics: Sequence[HeuristicBaseline], pairs: Pairs) -> list[str]:
    """One line a task: the F1 of the heuristic baselines."""
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
