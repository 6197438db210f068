"""Where the texts of an answer stand in a document: they are written in the order in which they begin."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from m3dllm.answers import Span, find_all
from m3dllm.systems.supervised.shapes import SENTENCE_ENDS


def windows(words: tuple[Span, ...], text: str, most: int) -> list[tuple[Span, ...]]:
    """The words in windows of whole sentences, as many as `most` words hold; a longer sentence is cut."""
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
    """Of the places of a text, in order, the one that is meant when the mention before it stands at `last`.

    The first behind `last`, else the first that begins in it; None where all are before it.
    """
    behind = (place for place in places if place[0] >= last[1])
    return next(behind, None) or next((place for place in places if place > last), None)


class Places:
    """The places of texts among some words of a document, white space and width aside, as they are written in order."""

    def __init__(self, text: str, words: tuple[Span, ...]) -> None:
        first, last = (words[0][0], words[-1][1]) if words else (0, 0)
        folded = [(letter, i) for i in range(first, last) for letter in _folded(text[i])]
        self._letters = "".join(letter for letter, _ in folded)
        self._at = [i for _, i in folded]
        self._starts, self._ends = ({edges[k] for edges in words} for k in (0, 1))
        self._taken: set[Span] = set()
        self._last = (-1, -1)

    def take(self, text: str) -> Span | None:
        """The place of `text`, from the edge of a word to one, behind what was taken before.

        One that stands before that is the first that was not taken; None where there is none.
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
