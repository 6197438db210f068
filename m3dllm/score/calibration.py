"""Calibration of confidences: reliability diagrams, expected calibration error, precision-recall curves.

Each prediction with a confidence gets a correctness from 0 to 1, by the rules of its task:

- entity, relation, grounding: 1 for a true positive, else 0. If several predictions match one gold item, the most
  confident one takes it, so that at every threshold the true positives are a maximum matching;
- chain: of each link (`Mention.link`), the share of the mentions before it in its chain that are in one gold chain
  with it.

**Reliability** (Guo et al. 2017, "On Calibration of Modern Neural Networks"): predictions in 10 bins of equal width,
the lower edge belonging to a bin and 1 to the last; in each the mean confidence and the share that is correct. **ECE**,
the expected calibration error (Naeini et al. 2015), is the mean distance of the two, weighted by the predictions of a
bin.

**Precision-recall curve**: precision and recall of the predictions of at least each confidence of 0, 0.01, …, 0.99,
with all gold in the denominator of recall (for chains, gold links as in MUC: mentions minus chains). For entity,
relation and grounding a point equals `score --threshold` if the threshold applies only to that task. **Average
precision** is the sum of precisions, each weighted by the recall that it adds.

Predictions without a confidence are ignored.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum

from m3dllm.score.grounding import partners as region_partners
from m3dllm.score.grounding import regions_in
from m3dllm.score.matching import matched_in_order
from m3dllm.score.relation import facts_of_both
from m3dllm.score.relation import partners as fact_partners
from m3dllm.types import Annotation, Task

BINS = 10
STEPS = tuple(k / 100 for k in range(100))
Outcome = tuple[float, float]
"""(confidence, correctness), both from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions with a confidence from `low` to below `high` (the last: to 1); their number and means."""

    low: float
    high: float
    predictions: int
    confidence: float | None
    correct: float | None


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Precision and recall of predictions with a confidence of at least `threshold`."""

    threshold: float
    precision: float
    recall: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration of one task, over its `predictions` with a confidence; `confidence` and `correct` are means."""

    predictions: int
    confidence: float
    correct: float
    ece: float
    average_precision: float | None
    """None where there is no gold."""
    bins: tuple[Bin, ...]
    curve: tuple[CurvePoint, ...]


@dataclass(slots=True)
class Confidences:
    """The outcomes of one task, added up document by document in constant memory."""

    number: list[int] = field(default_factory=lambda: [0] * len(STEPS))
    sure: list[float] = field(default_factory=lambda: [0.0] * len(STEPS))
    correct: list[float] = field(default_factory=lambda: [0.0] * len(STEPS))

    def add(self, outcomes: Iterator[Outcome]) -> None:
        for confidence, correct in outcomes:
            step = bisect_right(STEPS, confidence) - 1
            self.number[step] += 1
            self.sure[step] += confidence
            self.correct[step] += correct

    def calibration(self, gold: float) -> Calibration | None:
        """The calibration, with this number of gold items; None if no prediction has a confidence."""
        n = sum(self.number)
        if not n:
            return None
        bins = tuple(map(self._bin, range(BINS)))
        gaps = (b.predictions * abs((b.confidence or 0) - (b.correct or 0)) for b in bins)
        curve = tuple(self._curve(gold)) if gold else ()
        recalls = [0.0, *(point.recall for point in curve)]
        area = fsum(p.precision * (p.recall - before) for p, before in zip(curve, recalls, strict=False))
        return Calibration(
            n, fsum(self.sure) / n, fsum(self.correct) / n, fsum(gaps) / n, area if gold else None, bins, curve
        )

    def _bin(self, i: int) -> Bin:
        own = slice(i * len(STEPS) // BINS, (i + 1) * len(STEPS) // BINS)
        n = sum(self.number[own])
        means = (fsum(self.sure[own]) / n, fsum(self.correct[own]) / n) if n else (None, None)
        return Bin(i / BINS, (i + 1) / BINS, n, *means)

    def _curve(self, gold: float) -> Iterator[CurvePoint]:
        """The points from the most confident predictions to all; thresholds that add none are skipped."""
        n, correct = 0, 0.0
        for step in reversed(range(len(STEPS))):
            if self.number[step]:
                n += self.number[step]
                correct += self.correct[step]
                yield CurvePoint(STEPS[step], correct / n, correct / gold)


def outcomes(
    task: Task,
    gold: Annotation,
    pred: Annotation,
    *,
    frames: Collection[int] | None = None,
    symmetric: Collection[str] = (),
) -> Iterator[Outcome]:
    """The outcomes of a document's predictions of one task that have a confidence."""
    if not _carries(task, pred):
        return iter(())
    match task:
        case "entity":
            return _of_mentions(gold, pred)
        case "chain":
            return _of_links(gold, pred)
        case "relation":
            of_gold, of_pred = facts_of_both(gold, pred, symmetric, frames)
            sure = [pred.relations[i].confidence for i in of_pred]
            return _of_matched(sure, fact_partners(list(of_gold.values()), list(of_pred.values()), symmetric))
        case "grounding":
            of_gold_regions, of_pred_regions = regions_in(gold, frames), regions_in(pred, frames)
            sure = [region.confidence for region in of_pred_regions]
            return _of_matched(sure, region_partners(of_gold_regions, of_pred_regions))


def _carries(task: Task, pred: Annotation) -> bool:
    match task:
        case "entity":
            return any(m.confidence is not None for chain in pred.chains for m in chain.mentions)
        case "chain":
            return any(m.link is not None for chain in pred.chains for m in chain.mentions)
        case "relation":
            return any(relation.confidence is not None for relation in pred.relations)
        case "grounding":
            return any(region.confidence is not None for region in pred.regions)


def _of_mentions(gold: Annotation, pred: Annotation) -> Iterator[Outcome]:
    there = frozenset(gold.mentions)
    sure: dict[object, float] = {}
    for mention in pred.mentions:
        if mention.confidence is not None:
            sure[mention] = max(mention.confidence, sure.get(mention, 0.0))
    return ((confidence, float(mention in there)) for mention, confidence in sure.items())


def _of_links(gold: Annotation, pred: Annotation) -> Iterator[Outcome]:
    owner: dict[tuple[int, int], str] = {}
    for chain in gold.chains:
        for mention in chain.mentions:
            owner.setdefault(mention.span, chain.id)
    for chain in pred.chains:
        before: dict[str | None, int] = {}
        for n, mention in enumerate(chain.mentions):
            own = owner.get(mention.span)
            if mention.link is not None and n:
                yield mention.link, (before.get(own, 0) / n if own is not None else 0.0)
            before[own] = before.get(own, 0) + 1


def _of_matched(sure: Sequence[float | None], partners: Sequence[Sequence[int]]) -> Iterator[Outcome]:
    """One-to-one matching with gold, the most confident first; predictions without a confidence are ignored."""
    ranked = [(confidence, i) for i, confidence in enumerate(sure) if confidence is not None]
    ranked.sort(key=lambda one: -one[0])
    taken = matched_in_order([partners[i] for _, i in ranked])
    return ((confidence, float(n in taken)) for n, (confidence, _) in enumerate(ranked))


GOLD_OF: Mapping[Task, str] = {
    "entity": "entity",
    "chain": "chain.muc",
    "relation": "relation",
    "grounding": "grounding",
}
"""The metric whose number of gold items is the denominator of recall, by task."""
