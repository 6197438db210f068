"""TIGER's sentences: its queries about a document, and their allowed answers.

One query per window for its mentions: `Ada Byron is a PER, which is in the image`, or `which is not in the image`. One
query without text for the regions that belong to no mention: `something is a PER, which is in the image`. The mark
`<spot>` separates sentences, as `[SSEP]` in TIGER.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from m3dllm.labels import LabelSet
from m3dllm.systems.generative.boxes import Candidate
from m3dllm.systems.generative.codec import Codec, Slots
from m3dllm.systems.generative.grammar import Grammar, GrammarWalk, Trie, encoded, trie_of
from m3dllm.systems.generative.grounded import Shown, mentions_of, unnamed_of
from m3dllm.systems.generative.language import RECORD, Form, Record, plain
from m3dllm.systems.generative.queries import Query
from m3dllm.systems.generative.spans import Spans, Words
from m3dllm.types import Annotation, Document

SENTENCES = Form(3)
SOMETHING = "something"
IMAGE = "in the image"
SHOWN, HIDDEN = ("which is", IMAGE), ("which is not", IMAGE)
"""The last part of a sentence, in two pieces; the states of the second choose the boxes."""
WORDS = (f"{SOMETHING} is a", f"which is not {IMAGE}")

_SENTENCE = re.compile(rf"(?P<text>.+) is a (?P<type>\S+?) ?, ?which is (?P<hidden>not )?{IMAGE}")


class Sentence(NamedTuple):
    """The content of a sentence."""

    text: str
    type: str
    shown: bool


def read(written: str) -> Sentence | None:
    """Parse a sentence; None if it is malformed."""
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
    """The query for the mentions of a window with their boxes, and the gold ones in it."""
    said = [] if gold is None else mentions_of(document, words, candidates, gold)
    regions_of = labels.names("regions") if frames else ()
    return Query(
        "entity",
        plain(document.text[words[0][0] : words[-1][1]]),
        tuple(frames),
        tuple(candidates),
        walk=lambda codec, slots: GrammarWalk(
            MentionGrammar(document, words, labels, regions_of, longest, codec, slots), codec
        ),
        target=_write(document, said),
        overlaps=tuple(one.overlaps for one in said),
    )


def region_query(
    document: Document,
    labels: LabelSet,
    most: int,
    frames: Sequence[int],
    candidates: Sequence[Candidate],
    gold: Annotation | None = None,
) -> Query:
    """The query for the regions that belong to no mention: of each type at most as many sentences as a frame has."""
    said = [] if gold is None else unnamed_of(document, labels, most, candidates, gold)
    return Query(
        "grounding",
        "",
        tuple(frames),
        tuple(candidates),
        walk=lambda codec, slots: GrammarWalk(RegionGrammar(labels, most, codec, slots), codec),
        target=_write(document, said),
        overlaps=tuple(one.overlaps for one in said),
    )


def _write(document: Document, said: Iterable[Shown]) -> tuple[str, ...]:
    """The sentences, in parts to be encoded separately."""
    pieces: list[str] = []
    for span, kind, shown in said:
        text = SOMETHING if span is None else plain(document.text[slice(*span)])
        pieces += [RECORD] if pieces else []
        pieces += [text, _is_a(kind), *(HIDDEN if shown is None else SHOWN)]
    return tuple(pieces)


def _is_a(kind: str) -> str:
    return f"is a {kind},"


def _kinds(codec: Codec, slots: Slots, names: Iterable[str]) -> list[tuple[str, list[int]]]:
    """The middle parts of sentences, by the name of the type."""
    names = list(names)
    pieces = codec.encode_all([_is_a(name) for name in names], slots)
    return list(zip(names, pieces, strict=True))


class MentionGrammar(Grammar):
    """Words of the window, mentions in document order; a type; "in the image" or not, if frames are given."""

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
    """Unnamed regions by type, types in order and each at most `most` times."""

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
