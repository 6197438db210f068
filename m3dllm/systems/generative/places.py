"""Align the texts of an answer with the document: they are written in document order."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from m3dllm.answers import Span, find_all
from m3dllm.systems.supervised.shapes import SENTENCE_ENDS


def windows(words: tuple[Span, ...], text: str, most: int) -> list[tuple[Span, ...]]:
    """The words in windows of whole sentences, at most `most` words each; a longer sentence is cut."""
    found: list[tuple[Span, ...]] = []
    begun: tuple[Span, ...] = ()
    sentence: tuple[Span, ...] = ()
    for i, (start, end) in enumerate(words):
        sentence += ((start, end),)
        if text[start:end] not in SENTENCE_ENDS and len(sentence) < most and i + 1 < len(words):
            continue
        if begun and len(begun) + len(sentence) > most:
            found.append(begun)
            begun = ()
        begun, sentence = begun + sentence, ()
    return [*found, begun] if begun else found


def next_place(places: Sequence[Span], last: Span) -> Span | None:
    """The occurrence that a text means if the mention before it is at `last`; `places` are sorted.

    The first after `last`, else the first that begins in it; None if all are before it.
    """
    behind = (place for place in places if place[0] >= last[1])
    return next(behind, None) or next((place for place in places if place > last), None)


class Places:
    """Finds texts among some words of a document, in document order, ignoring white space and width."""

    def __init__(self, text: str, words: tuple[Span, ...]) -> None:
        first, last = (words[0][0], words[-1][1]) if words else (0, 0)
        folded = [(letter, i) for i in range(first, last) for letter in _folded(text[i])]
        self._letters = "".join(letter for letter, _ in folded)
        self._at = [i for _, i in folded]
        self._starts, self._ends = ({edges[k] for edges in words} for k in (0, 1))
        self._taken: set[Span] = set()
        self._last = (-1, -1)

    def take(self, text: str) -> Span | None:
        """The next occurrence of `text`, on word boundaries, after those already taken.

        If there is none after, the first one not yet taken; None if there is none at all.
        """
        letters = "".join(map(_folded, text))
        spans = ((self._at[start], self._at[end - 1] + 1) for start, end in find_all(letters, self._letters))
        places = [span for span in spans if span[0] in self._starts and span[1] in self._ends]
        places = [place for place in places if place not in self._taken]
        found = next_place(places, self._last) or next(iter(places), None)
        if found is not None:
            self._taken.add(found)
            self._last = found
        return found


def _folded(text: str) -> str:
    """Without white space, in one width: what tokenizers change."""
    return "".join(unicodedata.normalize("NFKC", text).split())
