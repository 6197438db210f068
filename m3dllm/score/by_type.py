"""The counts of each type: what a score is made of.

Entities, relations and regions match only within their type, so the counts of the types add up to those of the task.
Chains have none: they are compared as sets of spans.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from m3dllm.score.verdicts import Judged, Verdicts, judged
from m3dllm.types import PRF, Annotation, Region, Relation, Task

ByType = dict[str, PRF]


def types_of(
    task: Task,
    gold: Annotation,
    pred: Annotation,
    *,
    frames: Collection[int] | None = None,
    symmetric: Collection[str] = (),
) -> ByType:
    """The counts of one document and task by type; types that neither side has are skipped."""
    return types_in(task, judged(task, gold, pred, frames=frames, symmetric=symmetric), gold, pred)


def types_in(task: Task, found: Judged, gold: Annotation, pred: Annotation) -> ByType:
    """The counts of the verdicts by type; nothing of those on chains."""
    if not isinstance(found, Verdicts):
        outcomes, missed = found
        tp = [mention.type for mention, outcome in outcomes.items() if outcome == "true_positive"]
        return _counted(tp, [mention.type for mention in outcomes], [mention.type for mention in missed])
    if task == "relation":
        return _of_verdicts(found, gold.relations, pred.relations)
    return _of_verdicts(found, gold.regions, pred.regions) if task == "grounding" else {}


def _of_verdicts(verdicts: Verdicts, gold: Sequence[Relation | Region], pred: Sequence[Relation | Region]) -> ByType:
    tp = [pred[i].type for i, verdict in verdicts.preds.items() if verdict.outcome == "true_positive"]
    return _counted(tp, [pred[i].type for i in verdicts.preds], [gold[i].type for i in verdicts.missed])


def _counted(tp: Sequence[str], of_pred: Sequence[str], missed: Sequence[str]) -> ByType:
    """From the types of true positives, predictions and false negatives. A true positive has the type of its gold."""
    found, n_pred, n_gold = Counter(tp), Counter(of_pred), Counter((*tp, *missed))
    return {name: PRF(found[name], n_pred[name], found[name], n_gold[name]) for name in n_gold | n_pred}
