"""Heuristic baselines: rules without a model, for chains by text, relations by types, and frequent boxes.

They stand beside every score to show how much of it needs no model, and the system `majority` consists of them. Rules
are counted on examples and sorted best first; `best_cut` tells how many to keep. Nothing here uses the metrics of the
reports or reads an image.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from operator import attrgetter
from typing import Any, Literal

from m3dllm.kept import kept
from m3dllm.types import Annotation, Box, Chain, Document, Example, Mention, Relation

ChainRule = Literal["singletons", "same_text", "same_last_word"]
CHAIN_RULES: tuple[ChainRule, ...] = ("singletons", "same_text", "same_last_word")

_IN_TEXT = attrgetter("start", "end", "type")
GRID = 20
"""Boxes are rounded to 1/GRID of the frame before they are counted, since no two drawn boxes are equal."""
MOST_CANDIDATES = 256
"""The number of rounded boxes that are tried, the most frequent ones."""


# --- chains -----------------------------------------------------------------------------------------------------------


def chain_by(document: Document, mentions: Iterable[Mention], rule: ChainRule) -> tuple[Chain, ...]:
    """The mentions as chains: those of one type whose lower-cased texts agree by `rule`. Each span is used once.

    "singletons" joins none, "same_text" equal texts, "same_last_word" texts with the same last word (Chinese: the same
    last two characters). Chains are in the order of their first mentions and are named c0, c1, …
    """
    groups = together(document, in_order(mentions), rule)
    return tuple(Chain(f"c{i}", tuple(group)) for i, group in enumerate(groups))


def in_order(mentions: Iterable[Mention]) -> list[Mention]:
    """The mentions in document order, each span once."""
    first: dict[tuple[int, int], Mention] = {}
    for mention in sorted(mentions, key=_IN_TEXT):
        first.setdefault((mention.start, mention.end), mention)
    return list(first.values())


def together(document: Document, mentions: Sequence[Mention], rule: ChainRule) -> list[list[Mention]]:
    """The groups of `mentions` (which must be `in_order`) that `rule` joins."""
    if rule == "singletons":
        return [[mention] for mention in mentions]
    texts = [document.text[mention.start : mention.end].lower() for mention in mentions]
    if rule == "same_last_word":
        texts = [text[-2:] for text in texts] if document.lang == "zh" else list(map(_last_word, texts))
    found: dict[tuple[str, str], list[Mention]] = defaultdict(list)
    for mention, text in zip(mentions, texts, strict=True):
        found[mention.type, text].append(mention)
    return list(found.values())


def _last_word(text: str) -> str:
    words = text.split()
    return words[-1] if words else text


# --- relations --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RelationRule:
    """Every chain of type `head` has the relation `type` to every chain of type `tail`.

    Between chains of one type, `order` selects the pairs whose head is mentioned "first" or "second"; it is "any"
    between different types, and for symmetric relations, which are predicted once per pair.
    """

    head: str
    tail: str
    order: Literal["any", "first", "second"]
    type: str


Fact = tuple[str, str, str, str]
"""A gold relation as the fields of the rule that predicts it."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of a rule on some examples: how much it predicts, and how much of that is in the gold."""

    predicted: int = 0
    tp: int = 0


def relation_rules(examples: Iterable[Example], symmetric: frozenset[str]) -> list[RelationRule]:
    """The most frequent relation type of every pair of chain types, sorted by precision.

    A relation of a type in `symmetric` counts once per pair of chains, whichever is the head.
    """
    return count_relations(examples, symmetric).rules()


@dataclass(frozen=True, slots=True)
class RelationCounts:
    """The counts of examples that rules are made of: true positives and predictions of each possible rule."""

    facts: Counter[Fact] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(head type, tail type) -> the number of such pairs of chains."""

    def add(self, example: Example, symmetric: Container[str]) -> None:
        """Count one more example, if its relations are annotated."""
        if "relation" not in example.unannotated:
            self.facts.update(_facts(example, symmetric))
            n = Counter([kind for kind, _ in _placed(example.gold).values()])
            for head in n:
                for tail in n:
                    self.pairs[head, tail] += n[head] * (n[head] - 1) // 2 if head == tail else n[head] * n[tail]

    def rules(self) -> list[RelationRule]:
        """The rules that `relation_rules` returns."""
        found: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
        for (head, tail, order, kind), n in self.facts.items():
            found[head, tail, order][kind] = n
        rules = []
        for (head, tail, order), counts in found.items():
            most = min(counts, key=lambda name: (-counts[name], name))
            rules.append(RelationRule(head, tail, order, most))  # type: ignore[arg-type]

        def rank(rule: RelationRule) -> tuple[float, str, str, str]:
            tally = self.tally(rule)
            return -tally.tp / tally.predicted if tally.predicted else 0.0, rule.head, rule.tail, rule.order

        return sorted(rules, key=rank)

    def tally(self, rule: RelationRule) -> Tally:
        return Tally(self.pairs[rule.head, rule.tail], self.facts[rule.head, rule.tail, rule.order, rule.type])


def count_relations(examples: Iterable[Example], symmetric: frozenset[str]) -> RelationCounts:
    """The counts of the examples whose relations are annotated."""
    counts = RelationCounts()
    for example in examples:
        counts.add(example, symmetric)
    return counts


def relation_tallies(
    rules: Iterable[RelationRule], examples: Iterable[Example], symmetric: frozenset[str]
) -> dict[RelationRule, Tally]:
    """The counts of each rule over the gold chains of `examples`."""
    counts = count_relations(examples, symmetric)
    return {rule: counts.tally(rule) for rule in rules}


def n_relations(examples: Iterable[Example], symmetric: frozenset[str]) -> int:
    """The number of gold relations between chains; a symmetric one counts once, whichever way it is written."""
    return sum(len(_facts(example, symmetric)) for example in examples)


def by_type(chains: Iterable[Chain]) -> dict[str, list[Chain]]:
    """The chains of each type, in the order of their first mentions."""
    found: dict[str, list[Chain]] = defaultdict(list)
    for chain in chains:
        found[chain.type].append(chain)
    for of_type in found.values():
        of_type.sort(key=_position)
    return found


def relate(chains: Iterable[Chain], rules: Iterable[RelationRule]) -> tuple[Relation, ...]:
    """Every relation that the rules predict for the chains, in the order of the rules."""
    return tuple([Relation(head.id, tail.id, kind) for head, tail, kind in related(by_type(chains), rules)])


def related(of_types: Mapping[str, list[Chain]], rules: Iterable[RelationRule]) -> Iterator[tuple[Chain, Chain, str]]:
    """(head, tail, type) of every relation that the rules predict for chains `by_type`, in the order of the rules."""
    for rule in rules:
        heads, tails, kind = of_types.get(rule.head, ()), of_types.get(rule.tail, ()), rule.type
        if rule.head != rule.tail:
            yield from ((head, tail, kind) for head in heads for tail in tails)
        elif rule.order == "second":
            yield from ((tail, head, kind) for head, tail in combinations(heads, 2))
        else:
            yield from ((head, tail, kind) for head, tail in combinations(heads, 2))


def _facts(example: Example, symmetric: Container[str]) -> list[Fact]:
    """Each gold relation between chains as the rule that predicts it."""
    gold = example.gold
    placed = _placed(gold) if gold.relations else {}
    facts: dict[tuple[str, str, str], Fact] = {}
    for relation in gold.between_chains:
        head, tail, kind = relation.head, relation.tail, relation.type
        if kind in symmetric and placed[tail] < placed[head]:
            head, tail = tail, head
        (of_head, first), (of_tail, second) = placed[head], placed[tail]
        which = "any" if of_head != of_tail else "first" if first < second else "second"
        facts.setdefault((head, tail, kind), (of_head, of_tail, which, kind))
    return list(facts.values())


@kept
def _placed(annotation: Annotation) -> Mapping[str, tuple[str, tuple[tuple[int, int], str]]]:
    """Chain -> its type and its position."""
    return {chain.id: (chain.type, _position(chain)) for chain in annotation.chains}


def _position(chain: Chain) -> tuple[tuple[int, int], str]:
    """Where the chain is first mentioned; its id orders chains that share a mention."""
    return min([(mention.start, mention.end) for mention in chain.mentions]), chain.id


# --- regions ----------------------------------------------------------------------------------------------------------


Drawn = tuple[int, str, Box]
"""The frame, type and box of a region."""


@dataclass(frozen=True, slots=True)
class BoxRule:
    """Every frame shows a `type` at `box`."""

    type: str
    box: Box


def box_rules(examples: Iterable[Example], *, limit: int) -> list[BoxRule]:
    """The most frequent typed boxes, at most `limit`, those with most true positives first.

    A box is as frequent as the regions of its type that it matches: IoU > 0.5, one per frame. What one rule matches is
    removed before the next is chosen. Candidates are the gold boxes, rounded to 1/20 of the frame.
    """
    return frequent_boxes(map(drawn_in, examples), limit=limit)


def frequent_boxes(drawn: Iterable[Sequence[Drawn]], *, limit: int) -> list[BoxRule]:
    """`box_rules` from the drawn regions of each example."""
    import numpy as np

    by_type: dict[str, list[tuple[tuple[int, int], Box]]] = defaultdict(list)
    for i, found_in in enumerate(drawn):
        for frame, kind, box in found_in:
            by_type[kind].append(((i, frame), box))
    rules: list[tuple[int, BoxRule]] = []
    for kind, found in sorted(by_type.items()):
        numbers: dict[tuple[int, int], int] = {}
        frames = np.array([numbers.setdefault(key, len(numbers)) for key, _ in found])
        tried = _candidates(box for _, box in found)
        tp = _overlaps(tried, [box for _, box in found])  # (boxes tried, regions)
        for _ in range(limit):
            # Of several regions in one frame that a box would match, it matches one.
            support = [len(np.unique(frames[row])) for row in tp]
            best = max(range(len(tried)), key=lambda k: (support[k], -k), default=-1)
            if best < 0 or support[best] == 0:
                break
            rules.append((support[best], BoxRule(kind, tried[best])))
            _, taken = np.unique(np.where(tp[best], frames, -1), return_index=True)
            tp[:, taken[tp[best][taken]]] = False
            tp[best] = False  # never choose the same box twice
    rules.sort(key=lambda rule: (-rule[0], rule[1].type, rule[1].box))
    return [rule for _, rule in rules[:limit]]


def box_tallies(rules: Iterable[BoxRule], examples: Iterable[Example]) -> dict[BoxRule, Tally]:
    """The counts of each rule over the annotated frames of `examples`, without regions that earlier rules matched."""
    rules, examples = list(rules), list(examples)
    frames: dict[tuple[int, int], list[tuple[str, Box]]] = {}
    for i, example in enumerate(examples):
        frames |= {(i, frame.index): [] for frame in example.document.frames if frame.annotated}
        for frame, kind, box in drawn_in(example):
            frames[i, frame].append((kind, box))
    predicted: Counter[BoxRule] = Counter()
    tp: Counter[BoxRule] = Counter()
    for left in frames.values():
        for rule in rules:
            predicted[rule] += 1
            close = [(iou(rule.box, box), -k) for k, (kind, box) in enumerate(left) if kind == rule.type]
            if close and max(close)[0] > 0.5:
                tp[rule] += 1
                del left[-max(close)[1]]
    return {rule: Tally(predicted[rule], tp[rule]) for rule in rules}


def n_regions(examples: Iterable[Example]) -> int:
    """The number of gold regions in annotated frames."""
    return sum(len(drawn_in(example)) for example in examples)


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes that have an area."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a.x1 - a.x0) * (a.y1 - a.y0) + (b.x1 - b.x0) * (b.y1 - b.y0) - both)


def drawn_in(example: Example) -> list[Drawn]:
    """(frame, type, box) of the gold regions in annotated frames."""
    annotated = {frame.index for frame in example.document.frames if frame.annotated}
    return [(region.frame, region.type, region.box) for region in example.gold.regions if region.frame in annotated]


def _candidates(boxes: Iterable[Box]) -> list[Box]:
    """The most frequent boxes after rounding, without those of zero area."""
    rounded = Counter(Box(*(round(edge * GRID) / GRID for edge in box)) for box in boxes)
    counted = sorted((-count, box) for box, count in rounded.items() if box.has_area)
    return [box for _, box in counted[:MOST_CANDIDATES]]


def _overlaps(tried: Sequence[Box], boxes: Sequence[Box]) -> Any:
    """(boxes tried, boxes) booleans: IoU > 0.5."""
    import numpy as np

    found = np.array(boxes)  # (boxes, 4)
    areas = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])
    rows = np.zeros((len(tried), len(found)), dtype=bool)
    for i, (x0, y0, x1, y1) in enumerate(tried):
        width = np.clip(np.minimum(found[:, 2], x1) - np.maximum(found[:, 0], x0), 0, None)
        height = np.clip(np.minimum(found[:, 3], y1) - np.maximum(found[:, 1], y0), 0, None)
        rows[i] = 2 * width * height > areas + (x1 - x0) * (y1 - y0) - width * height
    return rows


# --- how many rules ---------------------------------------------------------------------------------------------------


def best_cut(tallies: Iterable[Tally], total: int) -> tuple[int, float]:
    """(number of rules, F1): how many of the best rules give the highest F1 against `total` gold items.

    The fewest if several numbers are equal; 0 if no rule matches anything.
    """
    best, best_f1, predicted, tp = 0, 0.0, 0, 0
    for n, tally in enumerate(tallies, start=1):
        predicted, tp = predicted + tally.predicted, tp + tally.tp
        f1 = 2 * tp / (predicted + total) if tp else 0.0
        if f1 > best_f1:
            best, best_f1 = n, f1
    return best, best_f1
