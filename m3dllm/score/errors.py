"""What is wrong with the predictions that are wrong: the classes of Table VI of the M3D paper.

The denominator is the number of predictions of the task. For entity, relation and grounding the classes add up to 1
less the precision; for chains, to 1 less the share of chains that are exactly correct. The classes depend neither on
order nor on which of several best matchings is taken. Errors of form (invented text, broken JSON) are not here: they
are issues of normalization.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from m3dllm.labels import LabelSet
from m3dllm.score.corpus import Answers, Gold
from m3dllm.score.scores import Pairs
from m3dllm.score.settings import Settings
from m3dllm.score.verdicts import Outcome, of_chains, of_mentions, of_regions, of_relations
from m3dllm.types import Annotation, Example, Prediction, Subset, Task

CLASSES: dict[Task, tuple[str, str]] = {
    "entity": ("type", "boundary"),
    "chain": ("incorrect", "missing"),
    "relation": ("wrong_type", "false_relation"),
    "grounding": ("type", "boundary"),
}


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """How many predictions a task has, how many are correct, and how many wrong ones are of each class."""

    predictions: int = 0
    correct: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        names = dict.fromkeys((*self.classes, *other.classes))
        classes = {name: self.classes.get(name, 0) + other.classes.get(name, 0) for name in names}
        return ErrorCounts(self.predictions + other.predictions, self.correct + other.correct, classes)

    @property
    def rates(self) -> dict[str, float] | None:
        """The classes as fractions of the predictions; None where there is none."""
        return {name: n / self.predictions for name, n in self.classes.items()} if self.predictions else None


def count_errors(
    examples: Sequence[Example],
    predictions: Iterable[Prediction],
    *,
    labels: LabelSet | None = None,
    settings: Settings | None = None,
    subsets: Mapping[str, Subset] | None = None,
) -> dict[str, dict[Pairs, dict[Task, ErrorCounts]]]:
    """The error counts by language, protocol and task; arguments and errors are those of `score`."""
    settings, subsets = settings or Settings(), subsets or {}
    golds = [Gold.of(example, subsets.get(example.document.id)) for example in examples]
    answers = Answers(golds, predictions)
    symmetric = labels.symmetric if labels else frozenset()
    found: dict[str, dict[Pairs, dict[Task, ErrorCounts]]] = {}
    for lang in sorted({gold.lang for gold in golds}):
        found[lang] = {
            pairs: {task: _none(task) for task in answers.tasks(lang, pairs, settings)}
            for pairs in answers.protocols(lang)
        }
    for gold in golds:
        for case in answers.cases(gold, settings):
            counts = found[gold.lang][case.pairs]
            for task, pred in case.preds.items():
                counts[task] += errors_of(task, gold.annotation, pred, frames=gold.frames, symmetric=symmetric)
    return found


def errors_of(
    task: Task,
    gold: Annotation,
    pred: Annotation,
    *,
    frames: Collection[int] | None = None,
    symmetric: Collection[str] = (),
) -> ErrorCounts:
    """The error counts of one document and task."""
    match task:
        case "entity":
            return entity_errors(gold, pred)
        case "chain":
            return chain_errors(gold, pred)
        case "relation":
            return relation_errors(gold, pred, symmetric=symmetric)
        case "grounding":
            return grounding_errors(gold, pred, frames=frames)


def entity_errors(gold: Annotation, pred: Annotation) -> ErrorCounts:
    """type: gold has the span with another type; boundary: gold does not have the span."""
    return _counted("entity", of_mentions(gold, pred)[0].values())


def chain_errors(gold: Annotation, pred: Annotation) -> ErrorCounts:
    """missing: the chain is a part of one gold chain; incorrect: no gold chain has all of it."""
    return _counted("chain", (verdict.outcome for verdict in of_chains(gold, pred).preds.values()))


def relation_errors(gold: Annotation, pred: Annotation, *, symmetric: Collection[str] = ()) -> ErrorCounts:
    """wrong_type: gold joins the same chains, in either order, by another type only; false_relation: all else.

    A relation that finds its gold taken by another prediction is false.
    """
    of_pred = of_relations(gold, pred, symmetric=symmetric).preds
    return _counted("relation", (verdict.outcome for verdict in of_pred.values()))


def grounding_errors(gold: Annotation, pred: Annotation, *, frames: Collection[int] | None = None) -> ErrorCounts:
    """type: a gold region of another type only stands there (IoU > 0.5); boundary: all else.

    A region that finds its gold taken by another prediction counts as boundary.
    """
    of_pred = of_regions(gold, pred, frames=frames).preds
    return _counted("grounding", (verdict.outcome for verdict in of_pred.values()))


def _counted(task: Task, outcomes: Iterable[Outcome]) -> ErrorCounts:
    counts: Counter[str] = Counter(outcomes)
    return ErrorCounts(counts.total(), counts["true_positive"], {name: counts[name] for name in CLASSES[task]})


def _none(task: Task) -> ErrorCounts:
    return ErrorCounts(classes=dict.fromkeys(CLASSES[task], 0))
