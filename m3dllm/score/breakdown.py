"""Breakdowns of a score over all documents: the classes of wrong predictions, and the counts of each type.

Both are counted from the same verdicts, in one pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from m3dllm.labels import LabelSet
from m3dllm.score.by_type import ByType, types_in
from m3dllm.score.corpus import Answered, Answers, Golds, protocols
from m3dllm.score.errors import ErrorCounts, errors_in
from m3dllm.score.scores import Pairs
from m3dllm.score.settings import Settings
from m3dllm.score.verdicts import Outcomes
from m3dllm.types import Example, Prediction, Subset, Task


class Breakdown(NamedTuple):
    """By language, protocol and task."""

    errors: dict[str, dict[Pairs, dict[Task, ErrorCounts]]]
    types: dict[str, dict[Pairs, dict[Task, ByType]]]


class BreakingDown:
    """The breakdown of documents, added one by one."""

    def __init__(self, answers: Answers, *, labels: LabelSet | None, settings: Settings) -> None:
        self._settings, self._symmetric = settings, labels.symmetric if labels else frozenset[str]()
        self._outcomes: dict[str, dict[Pairs, dict[Task, Outcomes]]] = {
            lang: {
                pairs: {task: Outcomes() for task in tasks}
                for pairs, tasks in protocols(passes, settings.scored).items()
            }
            for lang, passes in answers.passes.items()
        }
        self._counted: set[tuple[str, Pairs, Task]] = set()
        """(language, protocol, task) with a document on which the task counts."""

    def add(self, document: Answered) -> None:
        gold = document.gold
        frames = gold.frames_in(self._settings)
        for case in document.cases(self._settings):
            for task, pred in case.preds.items():
                outcomes = self._outcomes[gold.lang][case.pairs][task]
                outcomes.add(task, gold.annotation, pred, frames=frames, symmetric=self._symmetric)
                self._counted.add((gold.lang, case.pairs, task))

    def done(self) -> Breakdown:
        found = Breakdown({}, {})
        for lang, of_lang in self._outcomes.items():
            for pairs, of_tasks in of_lang.items():
                errors = {task: errors_in(task, outcomes) for task, outcomes in of_tasks.items()}
                found.errors.setdefault(lang, {})[pairs] = errors
                for task in of_tasks:
                    if (lang, pairs, task) in self._counted:
                        types = found.types.setdefault(lang, {}).setdefault(pairs, {})
                        types[task] = types_in(task, of_tasks[task])
        return found


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
