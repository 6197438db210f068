"""Relations between chains: types equal, chains intersecting, each gold relation found once.

A chain is here the set of its spans as given. Types that the label set declares symmetric are compared unordered, the
others from head to tail.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from m3dllm.kept import kept
from m3dllm.score.chain import chain_spans
from m3dllm.score.matching import largest_matching
from m3dllm.score.metric import Metric
from m3dllm.types import PRF, Annotation

Spans = frozenset[tuple[int, int]]


class Fact(NamedTuple):
    """A relation without names: the span sets of its chains, and its type."""

    head: Spans
    tail: Spans
    type: str


def facts(annotation: Annotation, symmetric: Collection[str] = ()) -> tuple[Fact, ...]:
    """The relations; those with identical span sets and type (in either order, if it is symmetric) collapse."""
    return tuple(placed_facts(annotation, symmetric).values())


def placed_facts(annotation: Annotation, symmetric: Collection[str] = ()) -> Mapping[int, Fact]:
    """`facts`, each by its position among the relations; of identical ones the first."""
    return _placed_facts(annotation, frozenset(symmetric)) if annotation.relations else {}


@kept
def _placed_facts(annotation: Annotation, symmetric: frozenset[str]) -> Mapping[int, Fact]:
    spans = spans_of(annotation)
    return distinct([Fact(spans[r.head], spans[r.tail], r.type) for r in annotation.relations], symmetric)


@kept
def spans_of(annotation: Annotation) -> Mapping[str, Spans]:
    """The spans of each chain, by its id."""
    return dict(zip([chain.id for chain in annotation.chains], chain_spans(annotation), strict=True))


def distinct(facts: Iterable[Fact], symmetric: Collection[str] = ()) -> dict[int, Fact]:
    """The facts by their positions; of identical ones the first."""
    first: dict[object, int] = {}
    found: dict[int, Fact] = {}
    for i, fact in enumerate(facts):
        if first.setdefault(_key(fact, symmetric) if symmetric else fact, i) == i:
            found[i] = fact
    return found


def same_chains(gold: Fact, pred: Fact, *, unordered: bool) -> bool:
    """Whether the heads share a mention and the tails share one (or head and tail crosswise, when unordered)."""
    if not gold.head.isdisjoint(pred.head) and not gold.tail.isdisjoint(pred.tail):
        return True
    return unordered and not gold.head.isdisjoint(pred.tail) and not gold.tail.isdisjoint(pred.head)


def partners(gold: Sequence[Fact], pred: Sequence[Fact], symmetric: Collection[str] = ()) -> list[list[int]]:
    """For each pred fact, the gold facts that it may match."""
    of_type: dict[str, list[tuple[int, Spans, Spans]]] = defaultdict(list)
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


def relation(gold: Annotation, pred: Annotation, *, symmetric: Collection[str] = ()) -> PRF:
    """True positives (TP) are a maximum one-to-one matching of pred facts with gold facts; P = TP ÷ |P|, R = TP ÷ |G|.

    A pred fact may match a gold one when the types are equal, the heads share a mention and the tails share a mention.
    """
    return compared(facts(gold, symmetric), facts(pred, symmetric), symmetric)


def compared(gold: Sequence[Fact], pred: Sequence[Fact], symmetric: Collection[str] = ()) -> PRF:
    """`relation`, of facts."""
    tp = largest_matching(partners(gold, pred, symmetric))
    return PRF(tp, len(pred), tp, len(gold))


def relation_undirected(gold: Annotation, pred: Annotation) -> PRF:
    """`relation` with every type symmetric."""
    return relation(gold, pred, symmetric={r.type for r in (*gold.relations, *pred.relations)})


def relation_any_match(gold: Annotation, pred: Annotation, *, symmetric: Collection[str] = ()) -> PRF:
    """P = the pred facts that may match some gold fact ÷ |P|, R = the gold facts that some pred fact may match ÷ |G|.

    The definition of the M3D paper taken literally: one pred fact may match many gold ones, which favours large chains.
    """
    of_gold, of_pred = facts(gold, symmetric), facts(pred, symmetric)
    found = partners(of_gold, of_pred, symmetric)
    return PRF(sum(map(bool, found)), len(of_pred), len({i for row in found for i in row}), len(of_gold))


def relation_exact_chains(gold: Annotation, pred: Annotation, *, symmetric: Collection[str] = ()) -> PRF:
    """`relation` with equal chains instead of chains that share a mention."""
    of_gold = {_key(fact, symmetric) for fact in facts(gold, symmetric)}
    of_pred = {_key(fact, symmetric) for fact in facts(pred, symmetric)}
    tp = len(of_gold & of_pred)
    return PRF(tp, len(of_pred), tp, len(of_gold))


def _key(fact: Fact, symmetric: Collection[str]) -> object:
    """The key that identical relations share."""
    return (frozenset((fact.head, fact.tail)), fact.type) if fact.type in symmetric else fact


METRICS = (
    Metric(
        name="relation",
        task="relation",
        count=lambda sides: relation(sides.gold, sides.pred, symmetric=sides.symmetric),
        headline=True,
    ),
    Metric(
        name="relation.any_match",
        task="relation",
        count=lambda sides: relation_any_match(sides.gold, sides.pred, symmetric=sides.symmetric),
        variant="any_match",
    ),
    Metric(
        name="relation.undirected",
        task="relation",
        count=lambda sides: relation_undirected(sides.gold, sides.pred),
        variant="undirected",
    ),
    Metric(
        name="relation.exact_chains",
        task="relation",
        count=lambda sides: relation_exact_chains(sides.gold, sides.pred, symmetric=sides.symmetric),
        variant="exact_chains",
    ),
)
