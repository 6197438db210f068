"""Align a predicted text with the document: exactly, folded, inside words, or fuzzily.

All spans are offsets into the original document: folding keeps, for each character of the folded text, the one that it
came from. Which of a text's occurrences are mentions is decided elsewhere.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise, product
from typing import Literal

from m3dllm.answers import Occurrences, Search, Span
from m3dllm.types import Document

NEARLY = 0.8
"""The minimum similarity of a misspelling: 1 − edits ÷ length of the longer of the two folded texts.

An edit is an insertion, deletion, substitution or swap of neighbours. On mentions of M3D dev with one random edit, 0.8
finds nine in ten (EN); of texts from other documents it wrongly matches 0.5 %.
"""
SHORTEST, LONGEST = 4, 200
"""The folded length of texts that are searched for fuzzily: shorter ones match too much, longer ones are no names."""
LOOKUPS = 100
"""The most texts of one answer that are searched for fuzzily."""

Status = Literal["exact", "folded", "unaligned", "fuzzy"]


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """How a text was found, the document's text for it, its places in order, and the places of a text without numbers.

    Equality is identity, so that results about its places can be cached by lookup.
    """

    status: Status
    read_as: str
    places: tuple[Span, ...]
    meant: tuple[Span, ...]


class Aligner:
    """Finds texts in one document; each text is looked up once."""

    def __init__(self, document: Document) -> None:
        self._text = document.text
        self._occurrences = Occurrences(document)
        self._known: dict[str, Alignment | None] = {}
        self._known_folded: dict[str, Alignment | None] = {}
        self._lookups = 0

    def find(self, text: str) -> Alignment | None:
        """Where `text` occurs, or None if it does not. The first of these with a match wins:

        - exact: on token boundaries, as written;
        - folded: on token boundaries, ignoring case, width, spaces, quotation marks and dashes;
        - unaligned: as written, but inside words; then only one place counts, at a word's edge if there is one;
        - fuzzy: as a misspelling of words of the document with the same digits; then those words count.
        """
        if text not in self._known:
            self._known[text] = self._exact(text) or self._fold(text) or self._unaligned(text) or self._fuzzy(text)
        return self._known[text]

    def _exact(self, text: str) -> Alignment | None:
        return _alignment("exact", text, self._occurrences.of(text))

    def _fold(self, text: str) -> Alignment | None:
        folded = fold(text)
        if folded not in self._known_folded:
            spans = tuple(filter(self._occurrences.aligned, self._folded_document.spans(folded)))
            self._known_folded[folded] = _alignment("folded", self._words(spans[0]), spans) if spans else None
        return self._known_folded[folded]

    def _unaligned(self, text: str) -> Alignment | None:
        spans = self._occurrences.anywhere(text)
        if not spans or not fold(text):
            return None
        starts, ends = self._occurrences.starts, self._occurrences.ends
        best = next((span for span in spans if span[0] in starts or span[1] in ends), spans[0])
        return Alignment("unaligned", text, tuple(spans), (best,))

    def _fuzzy(self, text: str) -> Alignment | None:
        folded = fold(text)
        if not SHORTEST <= len(folded) <= LONGEST or self._lookups >= LOOKUPS:
            return None
        from rapidfuzz.distance import OSA
        from rapidfuzz.fuzz import partial_ratio_alignment

        self._lookups += 1
        document = self._folded_document
        # The most similar stretch of that length lies near the best run of tokens: hence the lower bar, and neighbours.
        near = partial_ratio_alignment(folded, document.text, score_cutoff=60)
        if near is None or near.dest_start >= near.dest_end:
            return None
        runs = [
            (score, passage[0].isalnum() and passage[-1].isalnum(), -start, end)
            for start, end in self._runs_near(*document.original(near.dest_start, near.dest_end))
            if (passage := fold(self._text[start:end]))
            and (score := OSA.normalized_similarity(folded, passage)) >= NEARLY
            and min(len(passage), len(folded)) >= SHORTEST
            and re.findall(r"\d", passage) == re.findall(r"\d", folded)
        ]
        if not runs:
            return None
        _, _, start, end = max(runs)
        words = self._words((-start, end))
        return _alignment("fuzzy", words, self._occurrences.of(words))

    def _runs_near(self, start: int, end: int) -> list[Span]:
        """The runs of whole tokens that begin and end at most one token away from the span's own."""
        return [(s, e) for s, e in product(_around(self._starts, start), _around(self._ends, end)) if s < e]

    def _words(self, span: Span) -> str:
        return self._text[span[0] : span[1]]

    @cached_property
    def _folded_document(self) -> _Folded:
        return _Folded(self._text)

    @cached_property
    def _starts(self) -> list[int]:
        return sorted(self._occurrences.starts)

    @cached_property
    def _ends(self) -> list[int]:
        return sorted(self._occurrences.ends)


class _Folded:
    """A folded text, with the offsets of the original."""

    def __init__(self, text: str) -> None:
        pieces = [_fold_character(character) for character in text]
        self.text = "".join(pieces)
        self._origin = [at for at, piece in enumerate(pieces) for _ in piece]
        # A match inside the folded form of one character (the "f" of a ligature "fi") is not a place in the text.
        self._inner = {i for i, (a, b) in enumerate(pairwise(self._origin), start=1) if a == b}
        self._search = Search(self.text, range(len(self.text)))

    def spans(self, folded: str) -> list[Span]:
        """The spans of the original text whose folded form is `folded`."""
        found = self._search.spans(folded)
        return [self.original(s, e) for s, e in found if s not in self._inner and e not in self._inner]

    def original(self, start: int, end: int) -> Span:
        """The span of the original text that the folded characters from `start` to `end` came from."""
        return self._origin[start], self._origin[end - 1] + 1


def fold(text: str) -> str:
    """`text` without differences of case, width, composition, spaces, quotation marks and dashes."""
    return "".join(map(_fold_character, text))


@lru_cache(maxsize=1 << 14)
def _fold_character(character: str) -> str:
    if character in _MARKS:
        return _MARKS[character]
    # Decomposing before and after, because a casefolded character may decompose again.
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return "".join(c for c in folded if not c.isspace() and unicodedata.category(c) not in ("Cc", "Cf"))


_MARKS = (
    dict.fromkeys("‘’‚‛′ʼ`´", "'")
    | dict.fromkeys("“”„‟″«»「」『』", '"')
    | dict.fromkeys("‐‑‒–—―−－", "-")
    | dict.fromkeys("·•‧・･", "·")
    | {"。": "."}
)


def _alignment(status: Status, read_as: str, spans: tuple[Span, ...]) -> Alignment | None:
    """An alignment in which all places count; None if there is none."""
    return Alignment(status, read_as, spans, spans) if spans else None


def _around(edges: list[int], at: int) -> list[int]:
    """The two edges on either side of `at`, and `at` if it is one."""
    right = bisect_left(edges, at)
    return edges[max(0, right - 2) : right + 2]
