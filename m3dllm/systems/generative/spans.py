"""The texts of a window of a document that an answer may still name, in document order."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable

from m3dllm.answers import Span
from m3dllm.systems.generative.codec import Codec, Slots
from m3dllm.systems.generative.grammar import Trie, trie_of
from m3dllm.systems.generative.language import plain
from m3dllm.systems.generative.places import next_place

Words = tuple[Span, ...]


class Spans:
    """Every text of at most `longest` of the words, in pieces; those with unknown pieces cannot be written."""

    def __init__(self, text: str, words: Words, longest: int, codec: Codec, slots: Slots) -> None:
        self._places = [
            (first[0], last[1]) for i, first in enumerate(words) for last in words[i : min(i + longest, len(words))]
        ]
        self._texts = [plain(text[start:end]) for start, end in self._places]
        self._pieces = codec.encode_all(self._texts, slots)
        self._of: dict[str, list[Span]] = defaultdict(list)
        for written, place in zip(self._texts, self._places, strict=True):
            self._of[written].append(place)
        self._knows = codec.knows
        self._left = -1, Trie()

    def behind(self, texts: Iterable[str]) -> Trie:
        """The texts that may follow `texts`, which were written in this order (`places.next_place`)."""
        last = (-1, -1)
        for text in texts:
            last = next_place(self._of[text], last) or last
        first = bisect_right(self._places, last)
        if self._left[0] != first:  # often called again after the same mention
            rest = zip(self._texts[first:], self._pieces[first:], strict=True)
            self._left = first, trie_of(one for one in rest if self._knows(one[1]))
        return self._left[1]
