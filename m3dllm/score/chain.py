"""Coreference chains: MUC, B3 and CEAF over partitions of spans, single mentions kept.

They agree with the CoNLL reference scorer (Pradhan et al. 2014, v8.01). A metric takes two partitions, gold and pred,
and returns counts that are added over documents. The counts are exact but for one rounding per document, so
that neither the order of chains nor ties between assignments change a digit.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache

from m3dllm.kept import kept
from m3dllm.score.metric import Counts, Metric, Sides
from m3dllm.types import PRF, Annotation

Span = tuple[int, int]
Partition = tuple[frozenset[Span], ...]
"""Chains as sets of spans: none is empty, and no span is in two."""
Overlaps = dict[tuple[int, int], int]
"""(gold chain, pred chain) -> how many mentions they share; pairs that share none are skipped."""
SMALL = 5  # chains of the shorter side of a part, up to which trying every subset of them is faster than loading scipy


@kept
def partition(annotation: Annotation) -> Partition:
    """The chains as sets of spans. A span in several chains stays in the first; empty chains are dropped."""
    return tuple(placed_chains(annotation).values())


@kept
def placed_chains(annotation: Annotation) -> Mapping[int, frozenset[Span]]:
    """The chains of `partition`, each by its position among the chains."""
    seen: set[Span] = set()
    found = {}
    for i, spans in enumerate(chain_spans(annotation)):
        if not seen.isdisjoint(spans):
            spans -= seen
        if spans:
            seen |= spans
            found[i] = spans
    return found


@kept
def chain_spans(annotation: Annotation) -> tuple[frozenset[Span], ...]:
    """The spans of each chain, unchanged."""
    return tuple([chain.spans for chain in annotation.chains])


def without_singletons(chains: Partition) -> Partition:
    return tuple(chain for chain in chains if len(chain) > 1)


def muc(gold: Partition, pred: Partition) -> PRF:
    """Links needed to join each gold chain, and how many pred already has (Vilain et al. 1995).

    R = Σ_g (|g| − |g/pred|) ÷ Σ_g (|g| − 1), where g/pred are the pieces that pred cuts g into, and a mention that pred
    lacks is its own piece; P exchanges the sides. Both numerators are the shared mentions minus the pairs of chains
    that share one. With single mentions only there is no link: the counts are 0.
    """
    overlaps = _overlaps(gold, pred)
    tp = sum(overlaps.values()) - len(overlaps)
    return PRF(tp, _mentions(pred) - len(pred), tp, _mentions(gold) - len(gold))


def b3(gold: Partition, pred: Partition) -> PRF:
    """How much of its chain each mention keeps (Bagga and Baldwin 1998).

    R = Σ_{m in gold} |g(m) ∩ p(m)| ÷ |g(m)|, over the gold mentions; P exchanges the sides. A mention that only one
    side has adds 0 and is counted in the denominator.
    """
    of_gold: dict[int, int] = defaultdict(int)
    of_pred: dict[int, int] = defaultdict(int)
    for (g, p), shared in _overlaps(gold, pred).items():
        of_gold[g] += shared * shared
        of_pred[p] += shared * shared
    recalled = math.fsum([shared / len(gold[g]) for g, shared in of_gold.items()])
    precise = math.fsum([shared / len(pred[p]) for p, shared in of_pred.items()])
    return PRF(precise, _mentions(pred), recalled, _mentions(gold))


def ceaf_e(gold: Partition, pred: Partition) -> PRF:
    """CEAF with φ(g, p) = 2 |g ∩ p| ÷ (|g| + |p|) (Luo 2005, φ4).

    R = Φ ÷ number of gold chains, P = Φ ÷ number of pred chains, where Φ is the largest Σ φ of a one-to-one assignment
    of chains.
    """
    total: dict[int, int] = defaultdict(int)  # size of both chains -> shared mentions
    for g, p, shared in _assignment(gold, pred, by_size=True):
        total[len(gold[g]) + len(pred[p])] += shared
    whole = math.lcm(*total)
    best = sum(2 * shared * (whole // sizes) for sizes, shared in total.items()) / whole
    return PRF(best, len(pred), best, len(gold))


def ceaf_m(gold: Partition, pred: Partition) -> PRF:
    """CEAF with φ(g, p) = |g ∩ p| (Luo 2005, φ3): Φ ÷ the mentions of each side."""
    best = sum(shared for _, _, shared in _assignment(gold, pred, by_size=False))
    return PRF(best, _mentions(pred), best, _mentions(gold))


# --- shared by the metrics --------------------------------------------------------------------------------------------


def _mentions(chains: Partition) -> int:
    return sum(map(len, chains))


@lru_cache(maxsize=4)
def _overlaps(gold: Partition, pred: Partition) -> Overlaps:
    """Cached, since every metric of a document needs them."""
    place = {span: p for p, chain in enumerate(pred) for span in chain}
    found: Overlaps = {}
    for g, chain in enumerate(gold):
        for span in chain:
            if (p := place.get(span)) is not None:
                found[g, p] = found.get((g, p), 0) + 1
    return found


def _assignment(gold: Partition, pred: Partition, *, by_size: bool) -> list[tuple[int, int, int]]:
    """The best one-to-one assignment as (gold chain, pred chain, shared mentions), by connected component."""
    overlaps = _overlaps(gold, pred)

    def value(g: int, p: int) -> float:
        return overlaps[g, p] / (len(gold[g]) + len(pred[p])) if by_size else overlaps[g, p]

    of_gold, of_pred = {g for g, _ in overlaps}, {p for _, p in overlaps}
    if len(overlaps) in (len(of_gold), len(of_pred)):  # one side's chains meet one chain each
        best: dict[int, tuple[float, tuple[int, int]]] = {}
        side = 1 if len(of_gold) == len(overlaps) else 0
        for pair in overlaps:
            worth = value(*pair)
            if worth > best.get(pair[side], (-1.0, pair))[0]:
                best[pair[side]] = worth, pair
        return [(*pair, overlaps[pair]) for _, pair in best.values()]
    chosen: list[tuple[int, int]] = []
    for part in _parts(gold, pred):
        if len(part) == 1:
            chosen += part
            continue
        golds, preds = {g for g, _ in part}, {p for _, p in part}
        if len(golds) == 1 or len(preds) == 1:
            chosen.append(max(part, key=lambda pair: value(*pair)))
        else:
            chosen += _solve(sorted(golds), sorted(preds), {pair: value(*pair) for pair in part})
    return [(g, p, overlaps[g, p]) for g, p in chosen if (g, p) in overlaps]


@lru_cache(maxsize=4)
def _parts(gold: Partition, pred: Partition) -> list[list[tuple[int, int]]]:
    """The pairs of chains that share a mention, grouped into the connected parts of the graph whose edges they are."""
    pairs = _overlaps(gold, pred)
    of_gold: dict[int, list[tuple[int, int]]] = defaultdict(list)
    of_pred: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for pair in pairs:
        of_gold[pair[0]].append(pair)
        of_pred[pair[1]].append(pair)
    parts = []
    seen: set[tuple[int, int]] = set()
    for first in pairs:
        if first in seen:
            continue
        if len(of_gold[first[0]]) == len(of_pred[first[1]]) == 1:
            parts.append([first])
            continue
        seen.add(first)
        part = [first]
        for g, p in part:
            # Popped: each chain's edges are visited once, so the time is linear in the edges.
            for pair in [*of_gold.pop(g, ()), *of_pred.pop(p, ())]:
                if pair not in seen:
                    seen.add(pair)
                    part.append(pair)
        parts.append(part)
    return parts


def _solve(golds: list[int], preds: list[int], values: dict[tuple[int, int], float]) -> list[tuple[int, int]]:
    """The pairs of an assignment of the largest total value; scipy, which takes long to load, only for large parts."""
    if min(len(golds), len(preds)) > SMALL:
        import numpy as np
        from scipy.optimize import linear_sum_assignment

        table = np.array([[values.get((g, p), 0.0) for p in preds] for g in golds])
        return [(golds[i], preds[j]) for i, j in zip(*linear_sum_assignment(table, maximize=True), strict=True)]
    side = 0 if len(golds) <= len(preds) else 1
    bit = {chain: 1 << i for i, chain in enumerate((golds, preds)[side])}
    of_longer: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for pair in values:
        of_longer[pair[1 - side]].append(pair)
    # Chains taken of the shorter side -> the best value so far, and its pairs.
    best: dict[int, tuple[float, list[tuple[int, int]]]] = {0: (0.0, [])}
    for pairs in of_longer.values():
        for taken, (value, chosen) in list(best.items()):
            for pair in pairs:
                if not taken & bit[pair[side]]:
                    with_pair = value + values[pair]
                    state = taken | bit[pair[side]]
                    if with_pair > best.get(state, (-1.0, []))[0]:
                        best[state] = with_pair, [*chosen, pair]
    return max(best.values(), key=lambda found: found[0])[1]


# --- registered -------------------------------------------------------------------------------------------------------


def _all(sides: Sides) -> Counts:
    gold, pred = sides.both(partition)
    found = {"muc": muc(gold, pred), "b3": b3(gold, pred), "ceaf_e": ceaf_e(gold, pred), "ceaf_m": ceaf_m(gold, pred)}
    return {f"chain.{name}": counts for name, counts in found.items()}


def _without_singletons(sides: Sides) -> Counts:
    gold, pred = map(without_singletons, sides.both(partition))
    found = {"muc": muc(gold, pred), "b3": b3(gold, pred), "ceaf_e": ceaf_e(gold, pred)}
    return {f"chain.no_singletons.{name}": counts for name, counts in found.items()}


METRICS = (
    Metric(
        name="chain",
        task="chain",
        count=_all,
        headline=True,
        means={
            "chain": ("chain.muc", "chain.b3", "chain.ceaf_e"),
            "chain.mean_m": ("chain.muc", "chain.b3", "chain.ceaf_m"),
        },
    ),
    Metric(
        name="chain.no_singletons",
        task="chain",
        count=_without_singletons,
        variant="no_singletons",
        means={
            "chain.no_singletons": (
                "chain.no_singletons.muc",
                "chain.no_singletons.b3",
                "chain.no_singletons.ceaf_e",
            )
        },
    ),
)
