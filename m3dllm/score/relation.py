"""Relations: types equal, both sides meeting, each gold relation found once.

A chain is here the set of its spans as given, and chains meet where they share a mention. A region meets one that
grounding would match with it: same frame, same type, IoU > 0.5. A chain never meets a region. Types that the label set
declares symmetric are compared unordered, the others from head to tail. A relation with a region outside the annotated
frames counts on neither side, as the region itself does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from m3dllm.kept import kept
from m3dllm.score.chain import chain_spans
from m3dllm.score.grounding import partners as region_partners
from m3dllm.score.matching import largest_matching
from m3dllm.score.metric import Metric
from m3dllm.types import PRF, Annotation, Region

Side = frozenset[tuple[int, int] | Region]
"""The spans of a chain, or one region, without its id, chain and confidence; in `facts_of_both` see there."""


class Fact(NamedTuple):
    """A relation without names: what its sides are, and its type."""

    head: Side
    tail: Side
    type: str

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions among its sides."""
        return tuple(part for side in (self.head, self.tail) for part in side if isinstance(part, Region))


def facts(
    annotation: Annotation, symmetric: Collection[str] = (), frames: Collection[int] | None = None
) -> tuple[Fact, ...]:
    """The relations; those with identical sides and type (in either order, if it is symmetric) collapse.

    Those with a region outside the annotated `frames` (None: all are) are left out.
    """
    return tuple(placed_facts(annotation, symmetric, frames).values())


def placed_facts(
    annotation: Annotation, symmetric: Collection[str] = (), frames: Collection[int] | None = None
) -> Mapping[int, Fact]:
    """`facts`, each by its position among the relations; of identical ones the first."""
    if not annotation.relations:
        return {}
    found = _placed_facts(annotation, frozenset(symmetric))
    if frames is None or not region_sides(annotation):
        return found
    return {i: fact for i, fact in found.items() if all(region.frame in frames for region in fact.regions)}


@kept
def _placed_facts(annotation: Annotation, symmetric: frozenset[str]) -> Mapping[int, Fact]:
    return distinct(as_given(annotation), symmetric)


def as_given(annotation: Annotation) -> list[Fact]:
    """Every relation, those that stand twice too."""
    sides = spans_of(annotation) | region_sides(annotation)
    return [Fact(sides[r.head], sides[r.tail], r.type) for r in annotation.relations]


@kept
def spans_of(annotation: Annotation) -> dict[str, Side]:
    """The spans of each chain, by its id."""
    return dict(zip([chain.id for chain in annotation.chains], chain_spans(annotation), strict=True))


def region_sides(annotation: Annotation) -> dict[str, Side]:
    """Each region that has an id, by it, as a side of a relation."""
    return {r.id: frozenset((Region(r.frame, r.box, r.type),)) for r in annotation.regions if r.id is not None}


def facts_of_both(
    gold: Annotation, pred: Annotation, symmetric: Collection[str] = (), frames: Collection[int] | None = None
) -> tuple[Mapping[int, Fact], Mapping[int, Fact]]:
    """`placed_facts` of both, where sides meet that have something in common.

    A region of pred stands for all gold regions that it may match: none, one or several.
    """
    of_gold, of_pred = (placed_facts(side, symmetric, frames) for side in (gold, pred))
    if not region_sides(pred):
        return of_gold, of_pred
    return of_gold, dict(zip(of_pred, in_terms_of(of_gold.values(), of_pred.values()), strict=True))


def in_terms_of(gold: Iterable[Fact], pred: Collection[Fact]) -> list[Fact]:
    """The pred facts, each of their regions as all those of the gold facts that it may match."""
    there = list(dict.fromkeys(region for fact in gold for region in fact.regions))
    own = list(dict.fromkeys(region for fact in pred for region in fact.regions))
    met = zip(own, region_partners(there, own), strict=True)
    meant: dict[Side, Side] = {frozenset((region,)): frozenset(there[i] for i in found) for region, found in met}
    return [Fact(meant.get(head, head), meant.get(tail, tail), kind) for head, tail, kind in pred]


def distinct(facts: Iterable[Fact], symmetric: Collection[str] = ()) -> dict[int, Fact]:
    """The facts by their positions; of identical ones the first."""
    first: dict[object, int] = {}
    found: dict[int, Fact] = {}
    for i, fact in enumerate(facts):
        if first.setdefault(_key(fact, symmetric) if symmetric else fact, i) == i:
            found[i] = fact
    return found


def _meet(one: Side, other: Side) -> bool:
    return not one.isdisjoint(other)


def _equal(gold: Side, pred: Side) -> bool:
    """Whether chains are equal, or regions meet."""
    return gold == pred or any(isinstance(part, Region) for part in gold & pred)


def same_sides(gold: Fact, pred: Fact, *, unordered: bool, meet: Callable[[Side, Side], bool] = _meet) -> bool:
    """Whether heads meet and tails meet (or head and tail crosswise, when unordered), in facts of `facts_of_both`."""
    straight = meet(gold.head, pred.head) and meet(gold.tail, pred.tail)
    return straight or (unordered and meet(gold.head, pred.tail) and meet(gold.tail, pred.head))


def partners(gold: Sequence[Fact], pred: Sequence[Fact], symmetric: Collection[str] = ()) -> list[list[int]]:
    """For each pred fact, the gold facts that it may match, of facts of `facts_of_both`."""
    of_type: dict[str, list[tuple[int, Side, Side]]] = defaultdict(list)
    for i, (head, tail, kind) in enumerate(gold):
        of_type[kind].append((i, head, tail))
    found = []
    for fact in pred:
        head, tail, _ = fact
        unordered = fact.type in symmetric
        found.append(
            [
                i
                for i, of_head, of_tail in of_type.get(fact.type, ())
                if not (of_head.isdisjoint(head) or of_tail.isdisjoint(tail))
                or (unordered and not (of_head.isdisjoint(tail) or of_tail.isdisjoint(head)))
            ]
        )
    return found


def relation(
    gold: Annotation, pred: Annotation, *, symmetric: Collection[str] = (), frames: Collection[int] | None = None
) -> PRF:
    """True positives (TP) are a maximum one-to-one matching of pred facts with gold facts; P = TP ÷ |P|, R = TP ÷ |G|.

    A pred fact may match a gold one when the types are equal, the heads meet and the tails meet.
    """
    of_gold, of_pred = facts_of_both(gold, pred, symmetric, frames)
    return compared([*of_gold.values()], [*of_pred.values()], symmetric)


def compared(gold: Sequence[Fact], pred: Sequence[Fact], symmetric: Collection[str] = ()) -> PRF:
    """`relation`, of facts of `facts_of_both`."""
    tp = largest_matching(partners(gold, pred, symmetric))
    return PRF(tp, len(pred), tp, len(gold))


def relation_undirected(gold: Annotation, pred: Annotation, *, frames: Collection[int] | None = None) -> PRF:
    """`relation` with every type symmetric."""
    every = {r.type for r in (*gold.relations, *pred.relations)}
    return relation(gold, pred, symmetric=every, frames=frames)


def relation_any_match(
    gold: Annotation, pred: Annotation, *, symmetric: Collection[str] = (), frames: Collection[int] | None = None
) -> PRF:
    """P = the pred facts that may match some gold fact ÷ |P|, R = the gold facts that some pred fact may match ÷ |G|.

    The definition of the M3D paper taken literally: one pred fact may match many gold ones, which favours large chains.
    """
    of_gold, of_pred = facts_of_both(gold, pred, symmetric, frames)
    found = partners([*of_gold.values()], [*of_pred.values()], symmetric)
    return PRF(sum(map(bool, found)), len(of_pred), len({i for row in found for i in row}), len(of_gold))


def relation_exact_chains(
    gold: Annotation, pred: Annotation, *, symmetric: Collection[str] = (), frames: Collection[int] | None = None
) -> PRF:
    """`relation` with equal chains instead of chains that share a mention; regions meet as ever."""
    of_gold, of_pred = facts_of_both(gold, pred, symmetric, frames)
    golds, found = [*of_gold.values()], partners([*of_gold.values()], [*of_pred.values()], symmetric)
    exact = [
        [i for i in row if same_sides(golds[i], fact, unordered=fact.type in symmetric, meet=_equal)]
        for row, fact in zip(found, of_pred.values(), strict=True)
    ]
    tp = largest_matching(exact)
    return PRF(tp, len(of_pred), tp, len(of_gold))


def _key(fact: Fact, symmetric: Collection[str]) -> object:
    """The key that identical relations share."""
    return (frozenset((fact.head, fact.tail)), fact.type) if fact.type in symmetric else fact


METRICS = (
    Metric(
        name="relation",
        task="relation",
        count=lambda sides: relation(sides.gold, sides.pred, symmetric=sides.symmetric, frames=sides.frames),
        headline=True,
    ),
    Metric(
        name="relation.any_match",
        task="relation",
        count=lambda sides: relation_any_match(sides.gold, sides.pred, symmetric=sides.symmetric, frames=sides.frames),
        variant="any_match",
    ),
    Metric(
        name="relation.undirected",
        task="relation",
        count=lambda sides: relation_undirected(sides.gold, sides.pred, frames=sides.frames),
        variant="undirected",
    ),
    Metric(
        name="relation.exact_chains",
        task="relation",
        count=lambda sides: relation_exact_chains(
            sides.gold, sides.pred, symmetric=sides.symmetric, frames=sides.frames
        ),
        variant="exact_chains",
    ),
)
