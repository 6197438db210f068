"""UMIE's queries for each task of M3D, their grammars, and their gold answers.

Mentions are extracted window by window. Queries for chains and relations have the whole text, in which mentions or
chains are numbered; regions are chosen among candidates, some frames per query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from m3dllm.labels import LabelSet
from m3dllm.systems.generative.boxes import Candidate, best_candidates
from m3dllm.systems.generative.codec import Codec, Slots
from m3dllm.systems.generative.grammar import Grammar, GrammarWalk, Trie, Walk, encoded, trie_of
from m3dllm.systems.generative.language import (
    OBJECTS,
    Form,
    Record,
    instruction,
    number,
    object_name,
    plain,
    read_number,
    write,
)
from m3dllm.systems.generative.queries import Query
from m3dllm.systems.generative.spans import Spans, Words
from m3dllm.types import Chain, Document, Mention, Region, Relation

MENTIONS, CHAINS, RELATIONS, REGIONS = Form(2), Form(0), Form(3), Form(2)
FRAMES_AT_ONCE = 12
"""The most frames per query for regions."""


def instructions(labels: LabelSet) -> dict[str, str]:
    """The instructions, by task."""
    types = {kind: [label.name for label in getattr(labels, kind)] for kind in ("mentions", "relations", "regions")}
    return {
        "entity": instruction("entity type", types["mentions"]),
        "chain": "Please extract the following: the numbered mentions of each entity.",
        "relation": instruction("relation between two numbered entities", types["relations"]),
        "grounding": instruction("object type", types["regions"]),
    }


# --- mentions ---------------------------------------------------------------------------------------------------------


def mention_query(
    document: Document, words: Words, labels: LabelSet, longest: int, gold: Iterable[Mention] = ()
) -> Query:
    """The query for the mentions of a window, with the gold ones in it."""
    first, last = words[0][0], words[-1][1]
    inside = sorted(m for m in gold if first <= m.start and m.end <= last)
    records = [(m.type, plain(document.text[m.start : m.end])) for m in inside]
    return Query(
        "entity",
        f"{instructions(labels)['entity']} {plain(document.text[first:last])}",
        tuple(range(len(document.frames))),
        walk=lambda codec, slots: GrammarWalk(MentionGrammar(document, words, labels, longest, codec, slots), codec),
        target=tuple(write(records, MENTIONS)),
    )


class MentionGrammar(Grammar):
    """A type and words of the window, mentions in document order."""

    form = MENTIONS

    def __init__(
        self, document: Document, words: Words, labels: LabelSet, longest: int, codec: Codec, slots: Slots
    ) -> None:
        self._spans = Spans(document.text, words, longest, codec, slots)
        self._types = trie_of(encoded(codec, slots, [label.name for label in labels.mentions], comma=True))

    def parts(self, records: Sequence[Record], begun: Record) -> Trie:
        left = self._spans.behind(text for _, text in records)
        return left if begun or not left.children else self._types


# --- chains -----------------------------------------------------------------------------------------------------------


def numbered(document: Document, marks: Sequence[tuple[Mention, int]]) -> str:
    """The text with a number before each mention; of mentions that begin together the longer first."""
    pieces, at = [], 0
    for mention, n in sorted(marks, key=lambda mark: (mark[0].start, -mark[0].end, mark[1])):
        pieces += [plain(document.text[at : mention.start]), number(n)]
        at = mention.start
    return " ".join(piece for piece in (*pieces, plain(document.text[at:])) if piece)


def chain_query(document: Document, mentions: Sequence[Mention], labels: LabelSet, gold: Iterable[Chain] = ()) -> Query:
    """The query for which of the mentions, in document order, corefer."""
    place = {mention: n for n, mention in enumerate(mentions)}
    chains = sorted(sorted(place[mention] for mention in chain.mentions) for chain in gold)
    return Query(
        "chain",
        f"{instructions(labels)['chain']} {numbered(document, list(place.items()))}",
        tuple(range(len(document.frames))),
        walk=lambda codec, slots: GrammarWalk(PartitionGrammar(len(mentions), codec, slots), codec),
        target=tuple(write([tuple(map(number, chain)) for chain in chains], CHAINS)),
    )


class PartitionGrammar(Grammar):
    """Every number once, increasing within a record; each record begins with the smallest number left."""

    form = CHAINS

    def __init__(self, n: int, codec: Codec, slots: Slots) -> None:
        self._numbers = encoded(codec, slots, [number(i) for i in range(n)])

    def parts(self, records: Sequence[Record], begun: Record) -> Trie:
        used = {part for record in (*records, begun) for part in record}
        last = max((n for n, (part, _) in enumerate(self._numbers) if part in begun), default=-1)
        left = [one for one in self._numbers[last + 1 :] if one[0] not in used]
        return trie_of(left if begun else left[:1])


# --- relations --------------------------------------------------------------------------------------------------------


def relation_query(
    document: Document, chains: Sequence[Chain], labels: LabelSet, gold: Iterable[Relation] = ()
) -> Query:
    """The query for the relations between chains, which must be in the order of their first mentions."""
    place = {chain.id: n for n, chain in enumerate(chains)}
    marks = [(mention, n) for n, chain in enumerate(chains) for mention in chain.mentions]
    triples = {_ordered(place[r.head], r.type, place[r.tail], labels) for r in gold}
    records = [(number(head), kind, number(tail)) for head, tail, kind in sorted((h, t, k) for h, k, t in triples)]
    return Query(
        "relation",
        f"{instructions(labels)['relation']} {numbered(document, marks)}",
        tuple(range(len(document.frames))),
        walk=lambda codec, slots: GrammarWalk(RelationGrammar([c.type for c in chains], labels, codec, slots), codec),
        target=tuple(write(records, RELATIONS)),
    )


class RelationGrammar(Grammar):
    """Two different chains and a type allowed between them; no repetitions."""

    form = RELATIONS

    def __init__(self, types: Sequence[str], labels: LabelSet, codec: Codec, slots: Slots) -> None:
        self._types, self._labels = types, labels
        names = [number(i) for i in range(len(types))]
        self._heads = encoded(codec, slots, names, comma=True)
        self._kinds = encoded(codec, slots, [label.name for label in labels.relations], comma=True)
        tails = encoded(codec, slots, names)
        of_type = {kind: [one for one in tails if types[self._chain(one[0])] == kind] for kind in set(types)}
        self._tails = {
            (head, label.name): [one for tail, of in of_type.items() if label.joins(head, tail) for one in of]
            for head in of_type
            for label in labels.relations
        }
        """By the type of a chain and a relation, the chains to which it may stand."""

    def parts(self, records: Sequence[Record], begun: Record) -> Trie:
        written = {_ordered(*_triple(record, len(self._types)), self._labels) for record in records}
        if len(begun) == 2:
            return trie_of(self._left(self._chain(begun[0]), begun[1], written))
        if begun:
            head = self._chain(begun[0])
            return trie_of(one for one in self._kinds if self._has_tail(head, one[0], written))
        heads = ((self._chain(name), pieces) for name, pieces in self._heads)
        return trie_of(
            (number(head), pieces)
            for head, pieces in heads
            if any(self._has_tail(head, kind, written) for kind, _ in self._kinds)
        )

    def _has_tail(self, head: int, kind: str, written: set[tuple[int, str, int]]) -> bool:
        return any(True for _ in self._left(head, kind, written))

    def _left(self, head: int, kind: str, written: set[tuple[int, str, int]]) -> Iterator[tuple[str, list[int]]]:
        """The chains, as they are written, to which a relation of a chain may still stand."""
        for one in self._tails[self._types[head], kind]:
            tail = self._chain(one[0])
            if tail != head and _ordered(head, kind, tail, self._labels) not in written:
                yield one

    def _chain(self, name: str) -> int:
        found = read_number(name, len(self._types))
        assert found is not None
        return found


def _triple(record: Record, limit: int) -> tuple[int, str, int]:
    head, tail = read_number(record[0], limit), read_number(record[2], limit)
    assert head is not None
    assert tail is not None
    return head, record[1], tail


def _ordered(head: int, kind: str, tail: int, labels: LabelSet) -> tuple[int, str, int]:
    """The relation; a symmetric one with the first chain as its head."""
    return (min(head, tail), kind, max(head, tail)) if kind in labels.symmetric else (head, kind, tail)


# --- regions ----------------------------------------------------------------------------------------------------------


def region_queries(
    document: Document, candidates: Sequence[Candidate], labels: LabelSet, gold: Iterable[Region] = ()
) -> list[Query]:
    """The queries for the types of candidates that are regions, some frames each; gold uses the best candidate."""
    by_frame = [list(group) for _, group in groupby(candidates, key=lambda candidate: candidate.frame)]
    chosen = best_candidates(document, candidates, list(gold))
    most = max(1, min(FRAMES_AT_ONCE, OBJECTS // max(map(len, by_frame), default=1)))
    queries = []
    for i in range(0, len(by_frame), most):
        part = [candidate for group in by_frame[i : i + most] for candidate in group]
        names = [object_name(n) for n in range(len(part))]
        records = [
            (chosen[candidate], name) for candidate, name in zip(part, names, strict=True) if candidate in chosen
        ]
        queries.append(
            Query(
                "grounding",
                f"{instructions(labels)['grounding']} {' '.join(names)}",
                tuple(dict.fromkeys(candidate.frame for candidate in part)),
                tuple(part),
                walk=_region_walk(len(part), labels),
                target=tuple(write(records, REGIONS)),
            )
        )
    return queries


def _region_walk(n: int, labels: LabelSet) -> Callable[[Codec, Slots], Walk]:
    return lambda codec, slots: GrammarWalk(RegionGrammar(n, labels, codec, slots), codec)


class RegionGrammar(Grammar):
    """A type and a candidate, candidates in order."""

    form = REGIONS

    def __init__(self, n: int, labels: LabelSet, codec: Codec, slots: Slots) -> None:
        self._types = trie_of(encoded(codec, slots, [label.name for label in labels.regions], comma=True))
        self._names = encoded(codec, slots, [object_name(i) for i in range(n)])

    def parts(self, records: Sequence[Record], begun: Record) -> Trie:
        used = {record[-1] for record in records}
        last = max((n for n, (name, _) in enumerate(self._names) if name in used), default=-1)
        left = self._names[last + 1 :]
        if begun:
            return trie_of(left)
        return self._types if left else Trie()
