"""The counts of each type: what a score is made of.

Entities, relations and regions match only within their type, so the counts of the types add up to those of the task.
Chains have none: they are compared as sets of spans.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from m3dllm.labels import LabelSet
from m3dllm.score.corpus import Answers, Gold
from m3dllm.score.entity import typed_spans
from m3dllm.score.grounding import partners as region_partners
from m3dllm.score.grounding import regions_in
from m3dllm.score.matching import largest_matching
from m3dllm.score.relation import facts
from m3dllm.score.relation import partners as fact_partners
from m3dllm.score.scores import Pairs
from m3dllm.score.settings import Settings
from m3dllm.types import PRF, Annotation, Example, Prediction, Subset, Task

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
    """The counts of one document and task by type; types that neither side has are left out."""
    match task:
        case "entity":
            spans = typed_spans(gold), typed_spans(pred)
            hits = Counter(mention.type for mention in spans[0] & spans[1])
            return _counted(*spans, hits)
        case "relation":
            both = facts(gold, symmetric), facts(pred, symmetric)
            return _counted(*both, _hits(both[1], fact_partners(*both, symmetric)))
        case "grounding":
            regions = regions_in(gold, frames), regions_in(pred, frames)
            return _counted(*regions, _hits(regions[1], region_partners(*regions)))
        case "chain":
            return {}


def _hits(pred: Sequence[Any], partners: Sequence[list[int]]) -> Mapping[str, int]:
    """How many of each type find their gold in a largest matching, which never crosses types."""
    of_type: dict[str, list[list[int]]] = defaultdict(list)
    for said, found in zip(pred, partners, strict=True):
        if found:
            of_type[said.type].append(found)
    return {name: largest_matching(rows) for name, rows in of_type.items()}


def _counted(gold: Collection[Any], pred: Collection[Any], hits: Mapping[str, int]) -> ByType:
    wanted, said = Counter(g.type for g in gold), Counter(p.type for p in pred)
    return {name: PRF(hits.get(name, 0), said[name], hits.get(name, 0), wanted[name]) for name in wanted | said}
