"""H-Index's indices: its queries about a document, and their allowed answers.

A mention is the numbers of its words, a flag, and a type: `[0] [1] <<which region>> PER`, or `<<no region>>`. A second
query, without text, is for the regions that belong to no mention: a flag and a type. A type ends a record.

Indices: 0 begins an answer, 1 ends it, 2 and 3 are the flags, then come the types, then the words of the window.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from m3dllm.labels import LabelSet
from m3dllm.systems.generative.grammar import Walk
from m3dllm.systems.generative.grounded import GroundedItem
from m3dllm.systems.generative.language import number
from m3dllm.systems.generative.queries import MakeWalk
from m3dllm.systems.generative.spans import Words
from m3dllm.types import Document

START, END, SHOWN, HIDDEN = range(4)
FLAGS = ("which region", "no region")
"""The names of the two flags."""


@dataclass(frozen=True, slots=True)
class Record:
    """A mention or unnamed object: the numbers of its words, and the index of its flag."""

    words: tuple[int, ...]
    shown: bool
    type: str
    flag: int


class Malformed(NamedTuple):
    """Indices that do not form a record."""

    text: str


class Indices:
    """Indices and their meaning: flags, types of a label set, and words by their numbers."""

    def __init__(self, labels: LabelSet) -> None:
        self.types = tuple(dict.fromkeys(label.name for label in (*labels.mentions, *labels.regions)))
        self._names = ("<s>", "</s>", *(f"<<{flag}>>" for flag in FLAGS), *self.types)
        self._of = {name: index for index, name in enumerate(self._names)}
        self.first_word = len(self._names)

    def type(self, name: str) -> int:
        """The index of a type."""
        return self._of[name]

    def index(self, part: str) -> int:
        """The index of a part of an answer, as `name` writes it."""
        return self._of[part] if part in self._of else self.first_word + int(part[1:-1])

    def name(self, index: int) -> str:
        """The text of an index in an answer."""
        return self._names[index] if index < self.first_word else number(index - self.first_word)

    def spell(self, written: Iterable[int]) -> str:
        """The text of an answer."""
        return " ".join(self.name(index) for index in written if index != END)

    def write(self, said: Iterable[GroundedItem], words: Words) -> tuple[str, ...]:
        """The parts of an answer; a mention has all words that it overlaps."""
        parts: list[str] = []
        for span, kind, shown in said:
            if span is not None:
                parts += [number(n) for n, (start, end) in enumerate(words) if start < span[1] and span[0] < end]
            parts += [self._names[HIDDEN if shown is None else SHOWN], kind]
        return tuple(parts)

    def read(self, written: Sequence[int]) -> Iterator[Record | Malformed]:
        """The records of an answer and malformed indices, in order."""
        begun: list[int] = []
        flags = -1
        for index in written:
            if index == END:
                break
            flagged = bool(begun) and begun[-1] in (SHOWN, HIDDEN)
            flags += index in (SHOWN, HIDDEN)
            if flagged and HIDDEN < index < self.first_word:
                words = tuple(i - self.first_word for i in begun[:-1])
                yield Record(words, begun[-1] == SHOWN, self.name(index), flags)
                begun = []
            elif flagged or HIDDEN < index < self.first_word:  # a flag without a type, or a type without a flag
                yield Malformed(self.spell(begun if flagged else [*begun, index]))
                begun = [index] if flagged else []
            else:
                begun.append(index)
        if begun:
            yield Malformed(self.spell(begun))


def source(document: Document, words: Words) -> str:
    """The words of a window."""
    return " ".join("".join(document.text[start:end].split()) for start, end in words)


def mention_walk(document: Document, words: Words, labels: LabelSet, shown: Collection[str], longest: int) -> MakeWalk:
    """The constraint of records of mentions (`MentionWalk`)."""
    return lambda codec, slots: MentionWalk(len(words), labels, shown, longest)


def region_walk(labels: LabelSet, most: int) -> MakeWalk:
    """The constraint of records of unnamed regions (`RegionWalk`)."""
    return lambda codec, slots: RegionWalk(labels, most)


def write(document: Document, words: Words, labels: LabelSet, said: Iterable[GroundedItem]) -> tuple[str, ...]:
    """The parts of an answer (`Indices.write`)."""
    return Indices(labels).write(said, words)


class MentionWalk(Walk):
    """Constraint: consecutive words, mentions in document order; a flag, "shown" only if allowed; a type."""

    def __init__(self, n_words: int, labels: LabelSet, shown: Collection[str], longest: int) -> None:
        indices = Indices(labels)
        types = [label.name for label in labels.mentions]
        self._types = {
            HIDDEN: [indices.type(name) for name in types],
            SHOWN: [indices.type(name) for name in types if name in shown],
        }
        self._flags = [flag for flag, of in self._types.items() if of]
        self._first, self._n, self._longest = indices.first_word, n_words, longest
        self._last = self._begun = (-1, -1)
        self._flag = START

    def allowed(self) -> list[int]:
        if self.over:
            return [END]
        if self._flag != START:
            return self._types[self._flag]
        if self._begun == (-1, -1):
            first = self._last[0] if self._may_grow(*self._last) else self._last[0] + 1
            return [*range(self._first + max(first, 0), self._first + self._n), END]
        more = [self._first + self._begun[1]] if self._may_grow(*self._begun) else []
        return more + (self._flags if self._begun > self._last else [])

    def take(self, piece: int) -> None:
        self.over = self.over or piece == END
        if piece >= self._first:
            word = piece - self._first
            self._begun = (word if self._begun[0] < 0 else self._begun[0], word + 1)
        elif piece in (SHOWN, HIDDEN):
            self._flag = piece
        elif piece != END:
            self._last, self._begun, self._flag = self._begun, (-1, -1), START

    def _may_grow(self, first: int, end: int) -> bool:
        return end < self._n and end - first < self._longest


class RegionWalk(Walk):
    """Constraint: the flag "shown" and a type, types in order and each at most `most` times."""

    def __init__(self, labels: LabelSet, most: int) -> None:
        indices = Indices(labels)
        self._left = [indices.type(label.name) for label in labels.regions for _ in range(most)]
        self._flagged = False

    def allowed(self) -> list[int]:
        if self._flagged:
            return list(dict.fromkeys(self._left))
        return [SHOWN, END] if self._left and not self.over else [END]

    def take(self, piece: int) -> None:
        self.over = self.over or piece == END
        if self._flagged:
            self._left = self._left[self._left.index(piece) + 1 :]
        self._flagged = piece == SHOWN
