"""What a score is made of, over all documents: the classes of wrong predictions, and the counts of each type.

Both are counted from the same verdicts, in one pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from m3dllm.labels import LabelSet
from m3dllm.score.by_type import ByType, types_in
from m3dllm.score.corpus import Answered, Answers, Golds, protocols, tasks
from m3dllm.score.errors import ErrorCounts, errors_in, none
from m3dllm.score.scores import Pairs
from m3dllm.score.settings import Settings
from m3dllm.score.verdicts import judged
from m3dllm.types import PRF, Example, Prediction, Subset, Task


class Breakdown(NamedTuple):
    """By language, protocol and task."""

    errors: dict[str, dict[Pairs, dict[Task, ErrorCounts]]]
    types: dict[str, dict[Pairs, dict[Task, ByType]]]


class BreakingDown:
    """The breakdown of documents that come one by one."""

    def __init__(self, answers: Answers, *, labels: LabelSet | None, settings: Settings) -> None:
        self._settings, self._symmetric = settings, labels.symmetric if labels else frozenset[str]()
        self._errors: dict[str, dict[Pairs, dict[Task, ErrorCounts]]] = {
            lang: {pairs: {task: none(task) for task in tasks(passes, pairs, settings)} for pairs in protocols(passes)}
            for lang, passes in answers.passes.items()
        }
        self._types: dict[tuple[str, Pairs, Task], dict[str, PRF]] = {}

    def add(self, document: Answered) -> None:
        gold = document.gold
        for case in document.cases(self._settings):
            for task, pred in case.preds.items():
                found = judged(task, gold.annotation, pred, frames=gold.frames, symmetric=self._symmetric)
                self._errors[gold.lang][case.pairs][task] += errors_in(task, found)
                sums = self._types.setdefault((gold.lang, case.pairs, task), {})
                for name, counts in types_in(task, found, gold.annotation, pred).items():
                    sums[name] = sums[name] + counts if name in sums else counts

    def done(self) -> Breakdown:
        types: dict[str, dict[Pairs, dict[Task, ByType]]] = {}
        for (lang, pairs, task), sums in self._types.items():
            types.setdefault(lang, {}).setdefault(pairs, {})[task] = dict(sorted(sums.items()))
        return Breakdown(self._errors, types)


def break_down(
    examples: Sequence[Example],
    predictions: Iterable[Prediction],
    *,
    labels: LabelSet | None = None,
    settings: Settings | None = None,
    subsets: Mapping[str, Subset] | None = None,
) -> Breakdown:
    """The error counts, and the counts of each type; arguments and errors are those of `score`."""
    settings, golds = settings or Settings(), Golds(examples, subsets or {})
    answers = Answers(golds, predictions, settings.threshold)
    found = BreakingDown(answers, labels=labels, settings=settings)
    for gold in golds:
        found.add(answers.of(gold))
    return found.done()


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
