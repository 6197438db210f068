"""What may be written about a document, piece by piece: an answer held to it names nothing that is not there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import LogitsProcessor

from m3dllm.systems.generative.codec import Codec, Slots
from m3dllm.systems.generative.language import PART, RECORD, Form, Record


@dataclass(slots=True)
class Trie:
    """Parts by their pieces."""

    children: dict[int, Trie] = field(default_factory=dict)
    part: str | None = None
    """The part that ends here."""

    def add(self, pieces: Iterable[int], part: str) -> None:
        node = self
        for piece in pieces:
            node = node.children.setdefault(piece, Trie())
        node.part = part


class Grammar(ABC):
    """The answers that a query may have."""

    form: Form

    @abstractmethod
    def parts(self, records: Sequence[Record], begun: Record) -> Trie:
        """What may be written behind `records` and the parts of the next that are `begun`; empty where nothing may.

        A part is only among them where its record can be ended.
        """


def trie_of(written: Iterable[tuple[str, Sequence[int]]]) -> Trie:
    """A trie of parts and their pieces."""
    trie = Trie()
    for part, pieces in written:
        trie.add(pieces, part)
    return trie


def encoded(codec: Codec, slots: Slots, parts: Sequence[str], *, comma: bool = False) -> list[tuple[str, list[int]]]:
    """Parts with their pieces, as `language.write` writes them; those of unknown pieces are left out."""
    pieces = codec.encode_all([f"{part}," for part in parts] if comma else parts, slots)
    return [(part, row) for part, row in zip(parts, pieces, strict=True) if codec.knows(row)]


class Walk:
    """Where one answer stands in its grammar."""

    def __init__(self, grammar: Grammar, codec: Codec) -> None:
        self.grammar, self.end = grammar, codec.end
        self.record_mark, self.part_mark = (codec.encode(mark, Slots())[0] for mark in (RECORD, PART))
        self.records: list[Record] = []
        self.begun: Record = ()
        self.over = False
        self.root = self.node = grammar.parts((), ())

    def allowed(self) -> list[int]:
        """The pieces that may come next; behind the end only the end again."""
        if self.over:
            return [self.end]
        pieces = list(self.node.children)
        if self.node is self.root:
            return pieces if self.records or self.begun else [*pieces, self.end]
        return pieces if self.node.part is None else pieces + self._following((*self.begun, self.node.part))

    def _following(self, begun: Record) -> list[int]:
        """What may come behind a part."""
        form = self.grammar.form
        if len(begun) < form.parts:
            return list(self.grammar.parts(self.records, begun).children)
        pieces = [self.end]
        if not form.parts and self.grammar.parts(self.records, begun).children:
            pieces.append(self.part_mark)
        if self.grammar.parts([*self.records, begun], ()).children:
            pieces.append(self.record_mark)
        return pieces

    def take(self, piece: int) -> None:
        """Go on by a piece that was allowed."""
        if self.over or piece in self.node.children:
            self.node = self.node.children.get(piece, self.node)
            return
        if piece == self.end:
            self.over = True
            return
        assert self.node.part is not None
        self.begun += (self.node.part,)
        if piece == self.record_mark:
            self.records, self.begun = [*self.records, self.begun], ()
        self.root = self.node = self.grammar.parts(self.records, self.begun)
        if piece not in (self.record_mark, self.part_mark):
            self.node = self.root.children[piece]


class Held(LogitsProcessor):
    """Holds each answer of a batch to its grammar while it is written, greedily."""

    def __init__(self, walks: Sequence[Walk]) -> None:
        self.walks = walks

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """input_ids: (batch, written), scores: (batch, pieces) -> the scores, minus infinity of what may not follow."""
        if input_ids.shape[1] > 1:  # before there is only what every answer begins with
            for walk, piece in zip(self.walks, input_ids[:, -1].tolist(), strict=True):
                walk.take(piece)
        held = torch.full_like(scores, -torch.inf)
        for row, walk in zip(held, self.walks, strict=True):
            row[walk.allowed()] = 0.0
        return held + scores
