"""What is wrong with the predictions that are wrong: the classes of Table VI of the M3D paper.

The denominator is the number of predictions of the task. For entity, relation and grounding the classes add up to 1
less the precision; for chains, to 1 less the share of chains that are exactly right. The classes depend neither on
order nor on which of several best matchings is taken. Errors of form (invented text, broken JSON) are not here: they
are issues of normalization.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from m3dllm.labels import LabelSet
from m3dllm.score.chain import partition
from m3dllm.score.corpus import Answers, Gold
from m3dllm.score.entity import typed_spans
from m3dllm.score.grounding import THRESHOLD, iou, regions_in
from m3dllm.score.grounding import partners as region_partners
from m3dllm.score.matching import largest_matching
from m3dllm.score.relation import facts, same_chains
from m3dllm.score.relation import partners as fact_partners
from m3dllm.score.scores import Pairs
from m3dllm.score.settings import Settings
from m3dllm.types import Annotation, Example, Prediction, Subset, Task

CLASSES: dict[Task, tuple[str, str]] = {
    "entity": ("type", "boundary"),
    "chain": ("incorrect", "missing"),
    "relation": ("wrong_type", "false_relation"),
    "grounding": ("type", "boundary"),
}


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """How many predictions a task has, how many are right, and how many wrong ones are of each class."""

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
    wanted, said = typed_spans(gold), typed_spans(pred)
    spans = {mention.span for mention in wanted}
    return _counted("entity", len(said), ["type" if m.span in spans else "boundary" for m in said - wanted])


def chain_errors(gold: Annotation, pred: Annotation) -> ErrorCounts:
    """missing: the chain is a part of one gold chain; incorrect: no gold chain has all of it."""
    wanted, said = partition(gold), partition(pred)
    exact = set(wanted)
    place = {span: chain for chain in wanted for span in chain}
    return _counted(
        "chain",
        len(said),
        [
            "missing" if chain <= place.get(next(iter(chain)), frozenset()) else "incorrect"
            for chain in said
            if chain not in exact
        ],
    )


def relation_errors(gold: Annotation, pred: Annotation, *, symmetric: Collection[str] = ()) -> ErrorCounts:
    """wrong_type: gold joins the same chains, in either order, by another type only; false_relation: all else.

    A relation that finds its gold taken by another prediction is false.
    """
    wanted, said = facts(gold, symmetric), facts(pred, symmetric)
    found = fact_partners(wanted, said, symmetric)
    wrong_type = sum(
        not partners and any(g.type != p.type and same_chains(g, p, unordered=True) for g in wanted)
        for p, partners in zip(said, found, strict=True)
    )
    return _split("relation", len(said), largest_matching(found), wrong_type)


def grounding_errors(gold: Annotation, pred: Annotation, *, frames: Collection[int] | None = None) -> ErrorCounts:
    """type: a gold region of another type only stands there (IoU > 0.5); boundary: all else.

    A region that finds its gold taken by another prediction counts as boundary.
    """
    wanted, said = regions_in(gold, frames), regions_in(pred, frames)
    found = region_partners(wanted, said)
    wrong_type = sum(
        not partners and any(g.frame == p.frame and iou(g.box, p.box) > THRESHOLD for g in wanted)
        for p, partners in zip(said, found, strict=True)
    )
    return _split("grounding", len(said), largest_matching(found), wrong_type)


def _counted(task: Task, n_pred: int, wrong: Sequence[str]) -> ErrorCounts:
    classes = Counter(wrong)
    return ErrorCounts(n_pred, n_pred - len(wrong), {name: classes[name] for name in CLASSES[task]})


def _split(task: Task, n_pred: int, hits: int, wrong_type: int) -> ErrorCounts:
    first, second = CLASSES[task]
    return ErrorCounts(n_pred, hits, {first: wrong_type, second: n_pred - hits - wrong_type})


def _none(task: Task) -> ErrorCounts:
    return ErrorCounts(classes=dict.fromkeys(CLASSES[task], 0))
