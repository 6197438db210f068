"""The classes of wrong predictions: Table VI of the M3D paper.

The denominator is the number of predictions of the task. For entity, relation and grounding the classes add up to 1
minus the precision; for chains, to 1 minus the share of exactly correct chains. The classes depend neither on
order nor on which of several best matchings is used. Errors of form (invented text, broken JSON) are not here: they
are issues of normalization.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from m3dllm.score.verdicts import Outcomes
from m3dllm.types import Annotation, Task

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
        """The classes as fractions of the predictions; None if there are none."""
        return {name: n / self.predictions for name, n in self.classes.items()} if self.predictions else None


def errors_of(
    task: Task,
    gold: Annotation,
    pred: Annotation,
    *,
    frames: Collection[int] | None = None,
    symmetric: Collection[str] = (),
) -> ErrorCounts:
    """The error counts of one document and task."""
    outcomes = Outcomes()
    outcomes.add(task, gold, pred, frames=frames, symmetric=symmetric)
    return errors_in(task, outcomes)


def errors_in(task: Task, outcomes: Outcomes) -> ErrorCounts:
    """The error counts of the verdicts; the function of each task defines its classes."""

    def n(name: str) -> int:
        return sum(n for (_, outcome), n in outcomes.preds.items() if outcome == name)

    return ErrorCounts(outcomes.preds.total(), n("true_positive"), {name: n(name) for name in CLASSES[task]})


def entity_errors(gold: Annotation, pred: Annotation) -> ErrorCounts:
    """type: gold has the span with another type; boundary: gold does not have the span."""
    return errors_of("entity", gold, pred)


def chain_errors(gold: Annotation, pred: Annotation) -> ErrorCounts:
    """missing: the chain is a part of one gold chain; incorrect: no gold chain has all of it."""
    return errors_of("chain", gold, pred)


def relation_errors(
    gold: Annotation, pred: Annotation, *, symmetric: Collection[str] = (), frames: Collection[int] | None = None
) -> ErrorCounts:
    """wrong_type: gold joins the same sides, in either order, only by another type; false_relation: all others.

    A relation whose gold is matched by another prediction is false.
    """
    return errors_of("relation", gold, pred, symmetric=symmetric, frames=frames)


def grounding_errors(gold: Annotation, pred: Annotation, *, frames: Collection[int] | None = None) -> ErrorCounts:
    """type: there is only a gold region of another type (IoU > 0.5); boundary: all others.

    A region whose gold is matched by another prediction counts as boundary.
    """
    return errors_of("grounding", gold, pred, frames=frames)
