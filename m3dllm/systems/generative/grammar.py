"""Grammar-constrained decoding, piece by piece: answers name only what is in the document."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from transformers import LogitsProcessor

from m3dllm.systems.generative.codec import Codec, Slots
from m3dllm.systems.generative.language import PART, RECORD, Form, Record


@dataclass(slots=True)
class Trie:
    """A trie of parts, by their pieces."""

    children: dict[int, Trie] = field(default_factory=dict)
    part: str | None = None
    """The part that ends here."""

    def add(self, pieces: Iterable[int], part: str) -> None:
        node = self
        for piece in pieces:
            node = node.children.setdefault(piece, Trie())
        node.part = part


class Grammar(ABC):
    """The set of allowed answers to a query."""

    form: Form

    @abstractmethod
    def parts(self, records: Sequence[Record], begun: Record) -> Trie:
        """The parts that may follow `records` and the parts of the next one, `begun`; empty if none may.

        A part is included only if its record can be completed.
        """


def trie_of(written: Iterable[tuple[str, Sequence[int]]]) -> Trie:
    """A trie of parts and their pieces."""
    trie = Trie()
    for part, pieces in written:
        trie.add(pieces, part)
    return trie


def encoded(codec: Codec, slots: Slots, parts: Sequence[str], *, comma: bool = False) -> list[tuple[str, list[int]]]:
    """Parts with their pieces, as `language.write` writes them; those with unknown pieces are dropped."""
    pieces = codec.encode_all([f"{part}," for part in parts] if comma else parts, slots)
    return [(part, row) for part, row in zip(parts, pieces, strict=True) if codec.knows(row)]


@dataclass(frozen=True, slots=True)
class Reading:
    """One parse of the pieces so far: records, parts of the next one, and the trie node of the current part."""

    records: tuple[Record, ...]
    begun: Record
    root: Trie
    node: Trie


class Walk(ABC):
    """The state of one answer in constrained decoding."""

    over: bool = False

    @abstractmethod
    def allowed(self) -> list[int]:
        """The pieces that may come next; after the end only the end again."""

    @abstractmethod
    def take(self, piece: int) -> None:
        """Advance by an allowed piece."""


class GrammarWalk(Walk):
    """The state of one answer in its grammar. Ambiguous pieces are parsed in all ways in parallel.

    (In `London is a LOC` the second word may belong to a mention `London is`.)
    """

    def __init__(self, grammar: Grammar, codec: Codec) -> None:
        self.grammar, self.end = grammar, codec.end
        self.record_mark, self.part_mark = (codec.encode(mark, Slots())[0] for mark in (RECORD, PART))
        self.readings = [self._at((), ())]

    def allowed(self) -> list[int]:
        if self.over:
            return [self.end]
        return list(dict.fromkeys(piece for reading in self.readings for piece in self._next(reading)))

    def take(self, piece: int) -> None:
        self.over = self.over or piece == self.end
        if not self.over:
            self.readings = [after for reading in self.readings for after in self._after(reading, piece)]

    def _at(self, records: tuple[Record, ...], begun: Record) -> Reading:
        root = self.grammar.parts(records, begun)
        return Reading(records, begun, root, root)

    def _next(self, reading: Reading) -> list[int]:
        pieces = list(reading.node.children)
        if reading.node is reading.root:
            return pieces if reading.records or reading.begun else [*pieces, self.end]
        return pieces if reading.node.part is None else pieces + self._following(reading)

    def _following(self, reading: Reading) -> list[int]:
        """The pieces that may follow a part."""
        assert reading.node.part is not None
        form, begun = self.grammar.form, (*reading.begun, reading.node.part)
        if len(begun) < form.parts:
            return list(self.grammar.parts(reading.records, begun).children)
        pieces = [self.end]
        if not form.parts and self.grammar.parts(reading.records, begun).children:
            pieces.append(self.part_mark)
        if self.grammar.parts((*reading.records, begun), ()).children:
            pieces.append(self.record_mark)
        return pieces

    def _after(self, reading: Reading, piece: int) -> Iterator[Reading]:
        if piece in reading.node.children:
            yield replace(reading, node=reading.node.children[piece])
        if reading.node.part is None or piece not in self._following(reading):
            return
        begun = (*reading.begun, reading.node.part)
        if piece == self.record_mark:
            yield self._at((*reading.records, begun), ())
        elif piece == self.part_mark:
            yield self._at(reading.records, begun)
        else:
            ahead = self._at(reading.records, begun)
            yield replace(ahead, node=ahead.root.children[piece])


class GrammarConstraint(LogitsProcessor):
    """Constrains each answer of a batch to its walk, in greedy decoding."""

    def __init__(self, walks: Sequence[Walk]) -> None:
        self.walks = walks

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """input_ids: (batch, written), scores: (batch, pieces) -> scores, -inf for pieces that may not follow."""
        if input_ids.shape[1] > 1:  # the first piece is the common start
            for walk, piece in zip(self.walks, input_ids[:, -1].tolist(), strict=True):
                walk.take(piece)
        held = torch.full_like(scores, -torch.inf)
        for row, walk in zip(held, self.walks, strict=True):
            row[walk.allowed()] = 0.0
        return held + scores
