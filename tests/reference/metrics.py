"""Every metric again, slowly: straight from its definition, by exhaustive search, in exact fractions.

Nothing is shared with the scorer but the types. Only small documents are feasible. Each function returns the counts
(p_num, p_den, r_num, r_den).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from itertools import permutations
from typing import Any

from m3dllm.types import Annotation, Box, Region

Span = tuple[int, int]
Chains = list[set[Span]]
Counts = tuple[Fraction | int, int, Fraction | int, int]


# --- entity -----------------------------------------------------------------------------------------------------------


def entity(gold: Annotation, pred: Annotation) -> Counts:
    wanted, said = _typed(gold), _typed(pred)
    hits = sum(1 for triple in said if triple in wanted)
    return hits, len(said), hits, len(wanted)


def _typed(annotation: Annotation) -> list[tuple[int, int, str]]:
    found = []
    for chain in annotation.chains:
        for m in chain.mentions:
            if (m.start, m.end, m.type) not in found:
                found.append((m.start, m.end, m.type))
    return found


# --- chains -----------------------------------------------------------------------------------------------------------


def chains_of(annotation: Annotation) -> Chains:
    """Sets of spans; a span that an earlier chain has is not taken again."""
    chains: Chains = []
    for chain in annotation.chains:
        spans = {(m.start, m.end) for m in chain.mentions if not any((m.start, m.end) in c for c in chains)}
        if spans:
            chains.append(spans)
    return chains


def muc(gold: Chains, pred: Chains) -> Counts:
    def links(keys: Chains, responses: Chains) -> tuple[int, int]:
        found = needed = 0
        for key in keys:
            pieces = {frozenset(key & response) for response in responses if key & response}
            alone = [m for m in key if not any(m in response for response in responses)]
            found += len(key) - (len(pieces) + len(alone))
            needed += len(key) - 1
        return found, needed

    return links(pred, gold) + links(gold, pred)


def b3(gold: Chains, pred: Chains) -> Counts:
    def kept(keys: Chains, responses: Chains) -> tuple[Fraction, int]:
        total, mentions = Fraction(), 0
        for key in keys:
            for mention in key:
                mentions += 1
                for response in responses:
                    if mention in response:
                        total += Fraction(len(key & response), len(key))
        return total, mentions

    return kept(pred, gold) + kept(gold, pred)


def ceaf_e(gold: Chains, pred: Chains) -> Counts:
    best = _best(gold, pred, lambda g, p: Fraction(2 * len(g & p), len(g) + len(p)))
    return best, len(pred), best, len(gold)


def ceaf_m(gold: Chains, pred: Chains) -> Counts:
    best = _best(gold, pred, lambda g, p: Fraction(len(g & p)))
    return best, sum(map(len, pred)), best, sum(map(len, gold))


def _best(gold: Chains, pred: Chains, similarity: Callable[[set[Span], set[Span]], Fraction]) -> Fraction:
    """The largest total over every way to give each chain of the shorter side its own chain of the longer."""
    short, long = sorted((gold, pred), key=len)
    return max(
        sum((similarity(a, b) for a, b in zip(short, order, strict=True)), Fraction())
        for order in permutations(long, len(short))
    )


def larger(chains: Chains) -> Chains:
    """Without single mentions."""
    return [chain for chain in chains if len(chain) > 1]


# --- relations --------------------------------------------------------------------------------------------------------

Side = frozenset[Span] | tuple[int, Box, str]
"""The spans of a chain, or frame, box and type of a region."""
Fact = tuple[Side, Side, str]


def facts(
    annotation: Annotation, symmetric: Collection[str], frames: Collection[int], *, collapse: bool = True
) -> list[Fact]:
    sides: dict[str | None, Side] = {r.id: (r.frame, r.box, r.type) for r in annotation.regions}
    sides |= {c.id: frozenset((m.start, m.end) for m in c.mentions) for c in annotation.chains}
    found: list[Fact] = []
    for r in annotation.relations:
        head, tail = sides[r.head], sides[r.tail]
        if any(isinstance(side, tuple) and side[0] not in frames for side in (head, tail)):
            continue
        fact, turned = (head, tail, r.type), (tail, head, r.type)
        if not collapse or (fact not in found and not (r.type in symmetric and turned in found)):
            found.append(fact)
    return found


def meet(gold: Side, pred: Side, *, equal: bool = False) -> bool:
    if isinstance(gold, frozenset) and isinstance(pred, frozenset):
        return gold == pred if equal else bool(gold & pred)
    if isinstance(gold, tuple) and isinstance(pred, tuple):
        return (gold[0], gold[2]) == (pred[0], pred[2]) and float(iou(gold[1], pred[1])) > 0.5
    return False


def may_match(gold: Fact, pred: Fact, symmetric: Collection[str], *, equal: bool = False) -> bool:
    straight = meet(gold[0], pred[0], equal=equal) and meet(gold[1], pred[1], equal=equal)
    crossed = meet(gold[0], pred[1], equal=equal) and meet(gold[1], pred[0], equal=equal)
    return gold[2] == pred[2] and (straight or (gold[2] in symmetric and crossed))


def relation(
    gold: Annotation, pred: Annotation, frames: Collection[int], symmetric: Collection[str] = (), *, equal: bool = False
) -> Counts:
    wanted, said = facts(gold, symmetric, frames), facts(pred, symmetric, frames)
    hits = most_pairs(wanted, said, lambda g, p: may_match(g, p, symmetric, equal=equal))
    return hits, len(said), hits, len(wanted)


def any_match(gold: Annotation, pred: Annotation, frames: Collection[int], symmetric: Collection[str] = ()) -> Counts:
    wanted, said = facts(gold, symmetric, frames), facts(pred, symmetric, frames)
    right = sum(any(may_match(g, p, symmetric) for g in wanted) for p in said)
    found = sum(any(may_match(g, p, symmetric) for p in said) for g in wanted)
    return right, len(said), found, len(wanted)


def exact_chains(
    gold: Annotation, pred: Annotation, frames: Collection[int], symmetric: Collection[str] = ()
) -> Counts:
    return relation(gold, pred, frames, symmetric, equal=True)


def most_pairs(gold: Sequence[Any], pred: Sequence[Any], may: Callable[[Any, Any], bool]) -> int:
    """The largest number of pairs, each side used once, found by trying everything."""
    if not pred:
        return 0
    first, rest = pred[0], pred[1:]
    best = most_pairs(gold, rest, may)
    for i, candidate in enumerate(gold):
        if may(candidate, first):
            best = max(best, 1 + most_pairs([*gold[:i], *gold[i + 1 :]], rest, may))
    return best


# --- grounding --------------------------------------------------------------------------------------------------------


def iou(a: Box, b: Box) -> Fraction:
    """Intersection over union in exact fractions (thresholds are compared in float64); 0 where a box is no box."""
    for box in (a, b):
        if not all(map(math.isfinite, box)) or box.x1 <= box.x0 or box.y1 <= box.y0:
            return Fraction()
    ax0, ay0, ax1, ay1 = map(Fraction, a)
    bx0, by0, bx1, by1 = map(Fraction, b)
    width, height = min(ax1, bx1) - max(ax0, bx0), min(ay1, by1) - max(ay0, by0)
    shared = max(width, Fraction()) * max(height, Fraction())
    return shared / ((ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - shared)


def grounding(gold: Annotation, pred: Annotation, frames: Collection[int], threshold: float = 0.5) -> Counts:
    def may(g: Region, p: Region) -> bool:
        return g.type == p.type and float(iou(g.box, p.box)) > threshold

    hits = n_pred = n_gold = 0
    for frame in frames:
        wanted = [r for r in gold.regions if r.frame == frame]
        said = [r for r in pred.regions if r.frame == frame]
        hits += most_pairs(wanted, said, may)
        n_pred, n_gold = n_pred + len(said), n_gold + len(wanted)
    return hits, n_pred, hits, n_gold


def triple(gold: Annotation, pred: Annotation, frames: Collection[int]) -> Counts:
    def shown(annotation: Annotation, mention: tuple[int, int, str]) -> list[Region]:
        chains = [c.id for c in annotation.chains if mention in [(m.start, m.end, m.type) for m in c.mentions]]
        return [r for r in annotation.regions if r.chain in chains and r.frame in frames]

    wanted, said = _typed(gold), _typed(pred)
    hits = 0
    for mention in said:
        if mention in wanted:
            ours, theirs = shown(gold, mention), shown(pred, mention)
            met = any(g.frame == p.frame and iou(g.box, p.box) > Fraction(1, 2) for g in ours for p in theirs)
            hits += met or (not ours and not theirs)
    return hits, len(said), hits, len(wanted)


# --- the rules of the released code -----------------------------------------------------------------------------------


def released_muc(gold: Chains, pred: Chains) -> Counts:
    def pairs(chains: Chains) -> list[set[Span]]:
        return [{a, b} for chain in chains for a in chain for b in chain if a < b]

    wanted, said = pairs(gold), pairs(larger(pred))
    hits = sum(pair in wanted for pair in said)
    return hits, len(said), hits, len(wanted)


def released_b3(gold: Chains, pred: Chains) -> Counts:
    precise, recalled, both = Fraction(), Fraction(), 0
    for p in larger(pred):
        for g in gold:
            for _ in p & g:
                both += 1
                precise += Fraction(len(p & g), len(p))
                recalled += Fraction(len(p & g), len(g))
    return precise, both, recalled, both


def released_relation(gold: Annotation, pred: Annotation, frames: Collection[int]) -> Counts:
    everything = {r.type for r in (*gold.relations, *pred.relations)}
    left = facts(gold, (), frames, collapse=False)
    said = facts(pred, (), frames, collapse=False)
    n_gold, hits = len(left), 0
    for p in said:
        takes = next((g for g in left if may_match(g, p, everything)), None)
        if takes is not None:
            left.remove(takes)
            hits += 1
    return hits, len(said), hits, n_gold
