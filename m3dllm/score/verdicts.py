"""The verdict on each mention, chain, relation and region of a document: the scorer's rules, item by item.

`errors` counts these verdicts, and document pages show them. A prediction is a true positive or in an error class of
Table VI of the M3D paper; gold without a true positive is missed. If several best matchings exist, the counts are the
same for all, and which of two equal items is the true positive depends on their order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from m3dllm.score.chain import placed_chains
from m3dllm.score.entity import TypedSpan, typed_spans
from m3dllm.score.grounding import THRESHOLD, iou
from m3dllm.score.grounding import partners as region_partners
from m3dllm.score.matching import matched
from m3dllm.score.relation import facts_of_both, same_sides
from m3dllm.score.relation import partners as fact_partners
from m3dllm.types import Annotation, Chain, Region, Relation, Task

Outcome = Literal["true_positive", "type", "boundary", "missing", "incorrect", "wrong_type", "false_relation"]


class Verdict(NamedTuple):
    """The outcome of a prediction, and the position of its gold (None: none, or it has no position)."""

    outcome: Outcome
    gold: int | None = None


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The verdicts by position among the predictions, and the positions of the gold that was missed.

    A prediction without a verdict is not counted: it repeats another one, or lies in an unannotated frame.
    """

    preds: Mapping[int, Verdict]
    missed: tuple[int, ...]


_Parts = Sequence[Chain] | Sequence[Relation] | Sequence[Region]


@dataclass(slots=True)
class Outcomes:
    """The verdicts of one task over documents added one by one, counted by type."""

    preds: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)

    def add(
        self,
        task: Task,
        gold: Annotation,
        pred: Annotation,
        *,
        frames: Collection[int] | None = None,
        symmetric: Collection[str] = (),
    ) -> None:
        """Count a document."""
        match task:
            case "entity":
                outcomes, missed = of_mentions(gold, pred)
                self.preds.update([(kind, outcome) for (_, _, kind), outcome in outcomes.items()])
                self.missed.update([kind for _, _, kind in missed])
            case "chain":
                self._add(of_chains(gold, pred), gold.chains, pred.chains)
            case "relation":
                self._add(of_relations(gold, pred, symmetric=symmetric, frames=frames), gold.relations, pred.relations)
            case "grounding":
                self._add(of_regions(gold, pred, frames=frames), gold.regions, pred.regions)

    def _add(self, found: Verdicts, gold: _Parts, pred: _Parts) -> None:
        self.preds.update([(pred[i].type, verdict.outcome) for i, verdict in found.preds.items()])
        self.missed.update([gold[i].type for i in found.missed])


def of_mentions(gold: Annotation, pred: Annotation) -> tuple[dict[TypedSpan, Outcome], frozenset[TypedSpan]]:
    """The outcome of each typed span of `pred`, and the typed spans of `gold` that it lacks.

    type: gold has the span with another type; boundary: gold does not have the span.
    """
    of_gold, of_pred = typed_spans(gold), typed_spans(pred)
    outcomes: dict[TypedSpan, Outcome] = dict.fromkeys(of_pred, "true_positive")
    if wrong := of_pred - of_gold:
        spans = {(start, end) for start, end, _ in of_gold}
        outcomes |= {(start, end, kind): "type" if (start, end) in spans else "boundary" for start, end, kind in wrong}
    return outcomes, of_gold - of_pred


def of_chains(gold: Annotation, pred: Annotation) -> Verdicts:
    """true positive: exactly a gold chain; missing: a part of one gold chain; incorrect: no gold chain has all of it.

    A span counts in the first chain that has it; an empty chain has no verdict.
    """
    of_gold, of_pred = placed_chains(gold), placed_chains(pred)
    exact = {chain: i for i, chain in of_gold.items()}
    place: dict[tuple[int, int], frozenset[tuple[int, int]]] = {}
    if not all(chain in exact for chain in of_pred.values()):
        place = {span: chain for chain in of_gold.values() for span in chain}

    def verdict(chain: frozenset[tuple[int, int]]) -> Verdict:
        if chain in exact:
            return Verdict("true_positive", exact[chain])
        return Verdict("missing" if chain <= place.get(next(iter(chain)), frozenset()) else "incorrect")

    found = {i: verdict(chain) for i, chain in of_pred.items()}
    return _with_missed(found, of_gold)


def of_relations(
    gold: Annotation, pred: Annotation, *, symmetric: Collection[str] = (), frames: Collection[int] | None = None
) -> Verdicts:
    """wrong_type: gold joins the same sides, in either order, only by another type; false_relation: all others.

    A relation whose gold is matched by another prediction is false. Identical relations count once. Those with a region
    outside the annotated `frames` (None: all are) have no verdict.
    """
    of_gold, of_pred = facts_of_both(gold, pred, symmetric, frames)
    golds, positions = list(of_gold.values()), list(of_gold)
    partners = fact_partners(golds, list(of_pred.values()), symmetric)
    taken = matched(partners)
    found = {}
    for n, (i, fact) in enumerate(of_pred.items()):
        if n in taken:
            found[i] = Verdict("true_positive", positions[taken[n]])
        elif not partners[n] and any(g.type != fact.type and same_sides(g, fact, unordered=True) for g in golds):
            found[i] = Verdict("wrong_type")
        else:
            found[i] = Verdict("false_relation")
    return _with_missed(found, of_gold)


def of_regions(gold: Annotation, pred: Annotation, *, frames: Collection[int] | None = None) -> Verdicts:
    """type: there is only a gold region of another type (IoU > 0.5); boundary: all others.

    A region whose gold is matched by another prediction counts as boundary. Regions outside the annotated `frames`
    (None: all are) have no verdict.
    """
    of_gold, of_pred = (
        {i: region for i, region in enumerate(side.regions) if frames is None or region.frame in frames}
        for side in (gold, pred)
    )
    golds, positions = list(of_gold.values()), list(of_gold)
    partners = region_partners(golds, list(of_pred.values()))
    taken = matched(partners)
    found = {}
    for n, (i, region) in enumerate(of_pred.items()):
        if n in taken:
            found[i] = Verdict("true_positive", positions[taken[n]])
        elif not partners[n] and any(g.frame == region.frame and iou(g.box, region.box) > THRESHOLD for g in golds):
            found[i] = Verdict("type")
        else:
            found[i] = Verdict("boundary")
    return _with_missed(found, of_gold)


def _with_missed(found: Mapping[int, Verdict], of_gold: Collection[int]) -> Verdicts:
    taken = {verdict.gold for verdict in found.values()}
    return Verdicts(found, tuple(i for i in of_gold if i not in taken))
