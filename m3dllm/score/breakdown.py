"""What a score is made of, over all documents: the classes of wrong predictions, and the counts of each type.

Both are counted from the same verdicts, in one pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from m3dllm.labels import LabelSet
from m3dllm.score.by_type import ByType, types_in
from m3dllm.score.corpus import Answers, Gold
from m3dllm.score.errors import ErrorCounts, errors_in, none
from m3dllm.score.scores import Pairs
from m3dllm.score.settings import Settings
from m3dllm.score.verdicts import judged
from m3dllm.types import PRF, Example, Prediction, Subset, Task


class Breakdown(NamedTuple):
    """By language, protocol and task."""

    errors: dict[str, dict[Pairs, dict[Task, ErrorCounts]]]
    types: dict[str, dict[Pairs, dict[Task, ByType]]]


def break_down(
    examples: Sequence[Example],
    predictions: Iterable[Prediction],
    *,
    labels: LabelSet | None = None,
    settings: Settings | None = None,
    subsets: Mapping[str, Subset] | None = None,
) -> Breakdown:
    """The error counts, and the counts of each type; arguments and errors are those of `score`."""
    settings, subsets = settings or Settings(), subsets or {}
    golds = [Gold.of(example, subsets.get(example.document.id)) for example in examples]
    answers = Answers(golds, predictions, settings.threshold)
    symmetric = labels.symmetric if labels else frozenset()
    errors: dict[str, dict[Pairs, dict[Task, ErrorCounts]]] = {
        lang: {
            pairs: {task: none(task) for task in answers.tasks(lang, pairs, settings)}
            for pairs in answers.protocols(lang)
        }
        for lang in sorted({gold.lang for gold in golds})
    }
    rows: dict[tuple[str, Pairs, Task], dict[str, list[PRF]]] = {}
    for gold in golds:
        for case in answers.cases(gold, settings):
            for task, pred in case.preds.items():
                found = judged(task, gold.annotation, pred, frames=gold.frames, symmetric=symmetric)
                errors[gold.lang][case.pairs][task] += errors_in(task, found)
                columns = rows.setdefault((gold.lang, case.pairs, task), {})
                for name, counts in types_in(task, found, gold.annotation, pred).items():
                    columns.setdefault(name, []).append(counts)
    types: dict[str, dict[Pairs, dict[Task, ByType]]] = {}
    for (lang, pairs, task), columns in rows.items():
        sums = {name: PRF.sum(counts) for name, counts in sorted(columns.items())}
        types.setdefault(lang, {}).setdefault(pairs, {})[task] = sums
    return Breakdown(errors, types)


def count_errors(
    examples: Sequence[Example], predictions: Iterable[Prediction], **scored_as: Any
) -> dict[str, dict[Pairs, dict[Task, ErrorCounts]]]:
    """The error counts by language, protocol and task; arguments and errors are those of `score`."""
    return break_down(examples, predictions, **scored_as).errors


def count_types(
    examples: Sequence[Example], predictions: Iterable[Prediction], **scored_as: Any
) -> dict[str, dict[Pairs, dict[Task, ByType]]]:
    """The counts by language, protocol, task and type; arguments and errors are those of `score`."""
    return break_down(examples, predictions, **scored_as).types
