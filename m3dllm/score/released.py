"""The metrics of the code that the M3D authors released, for comparison with scores computed by it.

They differ from the metrics of the same names. Predicted chains of one mention are dropped, gold's
are kept. Its grounding never counts predicted boxes and has no defined value.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations
from math import fsum

from m3dllm.score.chain import Partition, Span, ceaf_m, partition, without_singletons
from m3dllm.score.metric import Counts, Metric, Sides
from m3dllm.score.relation import Fact, as_given, in_terms_of, same_sides
from m3dllm.types import PRF, Annotation


def released_chain(gold: Annotation, pred: Annotation) -> dict[str, PRF]:
    """The three counts whose mean is its chain score."""
    of_gold, of_pred = partition(gold), without_singletons(partition(pred))
    return {
        "muc": mention_pairs(of_gold, of_pred),
        "b3": b3_of_common(of_gold, of_pred),
        "ceaf_m": ceaf_m(of_gold, of_pred),
    }


def mention_pairs(gold: Partition, pred: Partition) -> PRF:
    """What it calls MUC: P, R over the unordered pairs of mentions in one chain."""
    of_gold, of_pred = _pairs(gold), _pairs(pred)
    tp = len(of_gold & of_pred)
    return PRF(tp, len(of_pred), tp, len(of_gold))


def b3_of_common(gold: Partition, pred: Partition) -> PRF:
    """B3 over the mentions that both sides have: mentions that one side lacks are not counted."""
    chain_of = {span: chain for chain in pred for span in chain}
    both = [(g, chain_of[span]) for g in gold for span in g if span in chain_of]
    precise = fsum(len(g & p) / len(p) for g, p in both)
    recalled = fsum(len(g & p) / len(g) for g, p in both)
    return PRF(precise, len(both), recalled, len(both))


def released_relation(gold: Annotation, pred: Annotation, *, frames: Collection[int] | None = None) -> PRF:
    """Pred relations, in file order, each take the first gold one left that has their type and meets their sides.

    Every type is undirected, and repeated relations count twice. M3D has no regions as sides; here they match as in
    `relation`.
    """
    left, of_pred = _facts(gold, frames), _facts(pred, frames)
    n_gold, tp = len(left), 0
    for fact in in_terms_of(left, of_pred):
        for i, of_gold in enumerate(left):
            if of_gold.type == fact.type and same_sides(of_gold, fact, unordered=True):
                del left[i]
                tp += 1
                break
    return PRF(tp, len(of_pred), tp, n_gold)


def _pairs(chains: Partition) -> set[tuple[Span, Span]]:
    return {pair for chain in chains for pair in combinations(sorted(chain), 2)}


def _facts(annotation: Annotation, frames: Collection[int] | None) -> list[Fact]:
    found = as_given(annotation)
    return [fact for fact in found if frames is None or all(region.frame in frames for region in fact.regions)]


def _chain(sides: Sides) -> Counts:
    return {f"chain.released.{name}": counts for name, counts in released_chain(sides.gold, sides.pred).items()}


METRICS = (
    Metric(
        name="chain.released",
        task="chain",
        count=_chain,
        variant="released",
        means={"chain.released": ("chain.released.muc", "chain.released.b3", "chain.released.ceaf_m")},
    ),
    Metric(
        name="relation.released",
        task="relation",
        count=lambda sides: released_relation(sides.gold, sides.pred, frames=sides.frames),
        variant="released",
    ),
)
