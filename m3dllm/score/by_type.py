"""The counts of each type: what a score is made of.

Entities, relations and regions match only within their type, so the counts of the types add up to those of the task.
Chains have none: they are compared as sets of spans.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from m3dllm.labels import LabelSet
from m3dllm.score.corpus import Answers, Gold
from m3dllm.score.scores import Pairs
from m3dllm.score.settings import Settings
from m3dllm.score.verdicts import Verdicts, of_mentions, of_regions, of_relations
from m3dllm.types import PRF, Annotation, Example, Prediction, Region, Relation, Subset, Task

ByType = dict[str, PRF]


def count_types(
    examples: Sequence[Example],
    predictions: Iterable[Prediction],
    *,
    labels: LabelSet | None = None,
    settings: Settings | None = None,
    subsets: Mapping[str, Subset] | None = None,
) -> dict[str, dict[Pairs, dict[Task, ByType]]]:
    """The counts by language, protocol, task and type; arguments and errors are those of `score`."""
    settings, subsets = settings or Settings(), subsets or {}
    golds = [Gold.of(example, subsets.get(example.document.id)) for example in examples]
    answers = Answers(golds, predictions)
    symmetric = labels.symmetric if labels else frozenset()
    rows: dict[tuple[str, Pairs, Task], dict[str, list[PRF]]] = {}
    for gold in golds:
        for case in answers.cases(gold, settings):
            for task, pred in case.preds.items():
                columns = rows.setdefault((gold.lang, case.pairs, task), {})
                counted = types_of(task, gold.annotation, pred, frames=gold.frames, symmetric=symmetric)
                for name, counts in counted.items():
                    columns.setdefault(name, []).append(counts)
    found: dict[str, dict[Pairs, dict[Task, ByType]]] = {}
    for (lang, pairs, task), columns in rows.items():
        sums = {name: PRF.sum(counts) for name, counts in sorted(columns.items())}
        found.setdefault(lang, {}).setdefault(pairs, {})[task] = sums
    return found


def types_of(
    task: Task,
    gold: Annotation,
    pred: Annotation,
    *,
    frames: Collection[int] | None = None,
    symmetric: Collection[str] = (),
) -> ByType:
    """The counts of one document and task by type; types that neither side has are skipped."""
    match task:
        case "entity":
            outcomes, missed = of_mentions(gold, pred)
            tp = [mention.type for mention, outcome in outcomes.items() if outcome == "true_positive"]
            return _counted(tp, [mention.type for mention in outcomes], [mention.type for mention in missed])
        case "relation":
            return _of_verdicts(of_relations(gold, pred, symmetric=symmetric), gold.relations, pred.relations)
        case "grounding":
            return _of_verdicts(of_regions(gold, pred, frames=frames), gold.regions, pred.regions)
        case "chain":
            return {}


def _of_verdicts(verdicts: Verdicts, gold: Sequence[Relation | Region], pred: Sequence[Relation | Region]) -> ByType:
    tp = [pred[i].type for i, verdict in verdicts.preds.items() if verdict.outcome == "true_positive"]
    return _counted(tp, [pred[i].type for i in verdicts.preds], [gold[i].type for i in verdicts.missed])


def _counted(tp: Sequence[str], of_pred: Sequence[str], missed: Sequence[str]) -> ByType:
    """From the types of true positives, predictions and false negatives. A true positive has the type of its gold."""
    found, n_pred, n_gold = Counter(tp), Counter(of_pred), Counter((*tp, *missed))
    return {name: PRF(found[name], n_pred[name], found[name], n_gold[name]) for name in n_gold | n_pred}
