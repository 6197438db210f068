"""TIGER's sentences: what is asked about a document, and what may be answered.

Of each window the mentions: `Ada Byron is a PER, which is in the image`, or `which is not in the image`. Of the frames
alone the regions that belong to no mention: `something is a PER, which is in the image`. The mark `<spot>` stands
between sentences, where TIGER has `[SSEP]`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from m3dllm.labels import LabelSet
from m3dllm.systems.generative.boxes import Candidate, overlaps
from m3dllm.systems.generative.codec import Codec, Slots
from m3dllm.systems.generative.grammar import Grammar, Trie, encoded, trie_of
from m3dllm.systems.generative.language import RECORD, Form, Record, plain
from m3dllm.systems.generative.queries import Query
from m3dllm.systems.generative.spans import Spans, Words
from m3dllm.types import Annotation, Document, Region

SENTENCES = Form(3)
SOMETHING = "something"
IMAGE = "in the image"
SHOWN, HIDDEN = ("which is", IMAGE), ("which is not", IMAGE)
"""The last part of a sentence, in two pieces: the states of the second choose."""
WORDS = (f"{SOMETHING} is a", f"which is not {IMAGE}")

_SENTENCE = re.compile(rf"(?P<text>.+) is a (?P<type>\S+?) ?, ?which is (?P<hidden>not )?{IMAGE}")


class Sentence(NamedTuple):
    """What a sentence says."""

    text: str
    type: str
    shown: bool


def read(written: str) -> Sentence | None:
    """A sentence; None where it is none."""
    found = _SENTENCE.fullmatch(" ".join(written.split()))
    return Sentence(found["text"], found["type"], not found["hidden"]) if found else None


def mention_query(
    document: Document,
    words: Words,
    labels: LabelSet,
    longest: int,
    frames: Sequence[int],
    candidates: Sequence[Candidate],
    gold: Annotation | None = None,
) -> Query:
    """The mentions of a window with what shows them, and of the gold those that lie in it."""
    first, last = words[0][0], words[-1][1]
    shown = {} if gold is None else named_regions(gold, labels)
    chains = () if gold is None else gold.chains
    inside = {
        m: shown.get(chain.id, []) for chain in chains for m in chain.mentions if first <= m.start and m.end <= last
    }
    said: list[tuple[str, str, tuple[float, ...] | None]] = []
    for mention in sorted(inside):
        regions = [region for region in inside[mention] if region.type == mention.type]
        text = plain(document.text[mention.start : mention.end])
        said.append((text, mention.type, overlaps(document, candidates, regions)))
    regions_of = labels.names("regions") if frames else ()
    return Query(
        "entity",
        plain(document.text[first:last]),
        tuple(frames),
        tuple(candidates),
        grammar=lambda codec, slots: MentionGrammar(document, words, labels, regions_of, longest, codec, slots),
        target=_write(said),
        overlaps=tuple(shown for _, _, shown in said),
    )


def region_query(
    document: Document,
    labels: LabelSet,
    most: int,
    frames: Sequence[int],
    candidates: Sequence[Candidate],
    gold: Annotation | None = None,
) -> Query:
    """The regions that belong to no mention: of each type as many sentences as a frame has of them at most.

    The first sentence of a type is about the surest of its candidates in each frame, the second about the next.
    """
    said: list[tuple[str, str, tuple[float, ...] | None]] = []
    if gold is not None:
        named = {id(region) for regions in named_regions(gold, labels).values() for region in regions}
        left = [region for region in gold.regions if id(region) not in named]
        for label in labels.regions:
            rows = _by_turn(document, candidates, [region for region in left if region.type == label.name])
            said += [(SOMETHING, label.name, overlaps(document, candidates, row)) for row in rows[:most]]
    return Query(
        "grounding",
        "",
        tuple(frames),
        tuple(candidates),
        grammar=lambda codec, slots: RegionGrammar(labels, most, codec, slots),
        target=_write(said),
        overlaps=tuple(shown for _, _, shown in said),
    )


def named_regions(gold: Annotation, labels: LabelSet) -> dict[str, list[Region]]:
    """By chain, the regions that show it and have the type of one of its mentions, so that a sentence can say so."""
    types = {chain.id: {mention.type for mention in chain.mentions} for chain in gold.chains}
    found: dict[str, list[Region]] = {}
    for region in gold.regions:
        if region.chain is not None and region.type in types[region.chain]:
            found.setdefault(region.chain, []).append(region)
    return found


def _by_turn(document: Document, candidates: Sequence[Candidate], regions: Sequence[Region]) -> list[list[Region]]:
    """The first region of each frame, the second of each, …: those that have candidates, in their order."""
    turns: list[list[Region]] = []
    for frame in dict.fromkeys(region.frame for region in regions):
        placed = []
        for region in regions:
            overlap = overlaps(document, candidates, [region]) if region.frame == frame else None
            if overlap is not None:
                placed.append((overlap.index(max(overlap)), region))
        for n, (_, region) in enumerate(sorted(placed, key=lambda one: one[0])):
            turns += [[]] if n == len(turns) else []
            turns[n].append(region)
    return turns


def _write(said: Iterable[tuple[str, str, tuple[float, ...] | None]]) -> tuple[str, ...]:
    """Sentences of (text, type, what shows it), each piece to be encoded by itself."""
    pieces: list[str] = []
    for text, kind, shown in said:
        pieces += [RECORD] if pieces else []
        pieces += [text, _is_a(kind), *(HIDDEN if shown is None else SHOWN)]
    return tuple(pieces)


def _is_a(kind: str) -> str:
    return f"is a {kind},"


def _kinds(codec: Codec, slots: Slots, names: Iterable[str]) -> list[tuple[str, list[int]]]:
    """The middle parts of sentences, each under the name of its type."""
    names = list(names)
    pieces = codec.encode_all([_is_a(name) for name in names], slots)
    return list(zip(names, pieces, strict=True))


class MentionGrammar(Grammar):
    """Words of the window, mentions in the order in which they begin; a type; shown or not, where it may be."""

    form = SENTENCES

    def __init__(
        self,
        document: Document,
        words: Words,
        labels: LabelSet,
        shown: Collection[str],
        longest: int,
        codec: Codec,
        slots: Slots,
    ) -> None:
        self._spans = Spans(document.text, words, longest, codec, slots)
        self._kinds = trie_of(_kinds(codec, slots, [label.name for label in labels.mentions]))
        hidden, either = encoded(codec, slots, [" ".join(HIDDEN), " ".join(SHOWN)])
        self._hidden, self._either, self._shown = trie_of([hidden]), trie_of([hidden, either]), shown

    def parts(self, records: Sequence[Record], begun: Record) -> Trie:
        if len(begun) == 2:
            return self._either if begun[1] in self._shown else self._hidden
        return self._kinds if begun else self._spans.behind(text for text, _, _ in records)


class RegionGrammar(Grammar):
    """Something of a type, types in their order and each at most `most` times."""

    form = SENTENCES

    def __init__(self, labels: LabelSet, most: int, codec: Codec, slots: Slots) -> None:
        self._most = most
        self._something = trie_of(encoded(codec, slots, [SOMETHING]))
        self._kinds = _kinds(codec, slots, [label.name for label in labels.regions])
        self._shown = trie_of(encoded(codec, slots, [" ".join(SHOWN)]))

    def parts(self, records: Sequence[Record], begun: Record) -> Trie:
        if len(begun) == 2:
            return self._shown
        said = [kind for _, kind, _ in records]
        last = max((n for n, (kind, _) in enumerate(self._kinds) if kind in said), default=0)
        left = [one for one in self._kinds[last:] if said.count(one[0]) < self._most]
        if begun:
            return trie_of(left)
        return self._something if left else Trie()
