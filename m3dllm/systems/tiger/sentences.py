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
from m3dllm.systems.generative.codec import Codec, Slots
from m3dllm.systems.generative.grammar import Grammar, GrammarWalk, Trie, encoded, trie_of
from m3dllm.systems.generative.grounded import GroundedItem
from m3dllm.systems.generative.language import RECORD, Form, Record, plain
from m3dllm.systems.generative.queries import MakeWalk
from m3dllm.systems.generative.spans import Spans, Words
from m3dllm.types import Document

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


def source(document: Document, words: Words) -> str:
    """The text of a window."""
    return plain(document.text[words[0][0] : words[-1][1]])


def mention_walk(document: Document, words: Words, labels: LabelSet, shown: Collection[str], longest: int) -> MakeWalk:
    """The constraint of sentences about mentions (`MentionGrammar`)."""
    return lambda codec, slots: GrammarWalk(
        MentionGrammar(document, words, labels, shown, longest, codec, slots), codec
    )


def region_walk(labels: LabelSet, most: int) -> MakeWalk:
    """The constraint of sentences about unnamed regions (`RegionGrammar`)."""
    return lambda codec, slots: GrammarWalk(RegionGrammar(labels, most, codec, slots), codec)


def write(document: Document, words: Words, labels: LabelSet, said: Iterable[GroundedItem]) -> tuple[str, ...]:
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
