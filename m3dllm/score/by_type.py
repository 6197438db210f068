"""The counts of a score by type.

Entities, relations and regions match only within their type, so the counts of the types add up to those of the task.
Chains have none: they are compared as sets of spans.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from m3dllm.score.verdicts import Outcomes
from m3dllm.types import PRF, Annotation, Task

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
    outcomes = Outcomes()
    outcomes.add(task, gold, pred, frames=frames, symmetric=symmetric)
    return types_in(task, outcomes)


def types_in(task: Task, outcomes: Outcomes) -> ByType:
    """The counts of the verdicts by type, in the order of their names; chains are not included."""
    if task == "chain":
        return {}
    said, found, wanted = Counter[str](), Counter[str](), Counter(outcomes.missed)
    for (name, outcome), n in outcomes.preds.items():
        said[name] += n
        if outcome == "true_positive":  # counts for the type of its gold
            found[name] += n
            wanted[name] += n
    return {name: PRF(found[name], said[name], found[name], wanted[name]) for name in sorted(said | wanted)}
