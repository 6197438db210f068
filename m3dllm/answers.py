"""The answer form: how a generating model writes an annotation, and where a written text stands in the document.

An answer has the shape of an annotation, with mentions as text::

    {
        "chains": [{"id": "c0", "type": "PER", "mentions": ["Susan", ["George", 2, 5]]}],
        "relations": [{"head": "c0", "tail": "c2", "type": "PER-PER_couple"}],
        "regions": [{"frame": 345, "type": "PER", "box": [0.1, 0.2, 0.4, 0.9]}],
    }

A mention is a string (every token-aligned occurrence of that text which does not lie inside a longer mention of the
answer), `[string, n, …]` (only the n-th of its token-aligned occurrences, from 1 in document order), or an object of
`start` and `end`, or of `text` and perhaps `occurrences`, with perhaps `type`, `confidence` and `link`. A type left out
is the chain's. Relations and regions may have a `confidence` too; `m3dllm.confidence` says what each is of.

A region may have an `id`, which no chain has: a relation names it as `head` or `tail`, as it names a chain.

`write_answer` is the inverse of `normalize.normalize` on gold, which has no confidences. Nothing here
reads what a model wrote.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from m3dllm.tokens import tokenize
from m3dllm.types import Annotation, Document

Span = tuple[int, int]
LONG = 64
"""A text of at least this many characters that overlaps itself is searched for by `_overlapping`."""
LISTS = ("chains", "relations", "regions")
"""The keys of an answer."""


class Occurrences:
    """Where texts stand in a document, token-aligned, in document order; each text is looked up once."""

    def __init__(self, document: Document) -> None:
        tokens = tokenize(document)
        self.text = document.text
        self.starts = frozenset(start for start, _ in tokens)
        self.ends = frozenset(end for _, end in tokens)
        self._at_tokens = Search(self.text, self.starts)
        self._anywhere = Search(self.text, range(len(self.text)))
        self._found: dict[str, tuple[Span, ...]] = {}

    def of(self, text: str) -> tuple[Span, ...]:
        """The spans of `text` that begin and end on token boundaries (they may overlap); () when there is none."""
        if text not in self._found:
            self._found[text] = tuple(filter(self.aligned, self._at_tokens.spans(text)))
        return self._found[text]

    def anywhere(self, text: str) -> list[Span]:
        """The spans of `text` wherever they begin and end."""
        return self._anywhere.spans(text)

    def aligned(self, span: Span) -> bool:
        """Whether the span begins and ends on token boundaries."""
        return span[0] in self.starts and span[1] in self.ends


class Search:
    """Finds strings in one text that begin at given offsets: by scanning it, or by an index.

    The index, the offsets sorted by the text that follows them, is built after `scans` queries, so that n queries on a
    text of n characters do not take n² time.
    """

    KEY = 32
    """The number of characters after an offset by which it is sorted."""

    def __init__(self, text: str, places: Collection[int], *, scans: int = 64) -> None:
        """`places`: the offsets where a match may begin. The first `scans` queries scan the whole text."""
        self._text, self._places = text, places
        self._scans = scans
        self._sorted: list[int] = []
        self._keys: list[str] = []

    def spans(self, text: str) -> list[Span]:
        """Every span of `text` that begins at one of the offsets, overlapping ones too, in order; none for ""."""
        if self._scans > 0:
            self._scans -= 1
            return [span for span in find_all(text, self._text) if span[0] in self._places]
        if not text:
            return []
        if not self._keys:
            self._sorted = sorted(self._places, key=lambda at: self._text[at : at + self.KEY])
            self._keys = [self._text[at : at + self.KEY] for at in self._sorted]
        key = text[: self.KEY]
        first = bisect_left(self._keys, key)
        last = bisect_right(self._keys, key, lo=first, key=lambda found: found[: len(key)])
        starts = self._sorted[first:last]
        if len(text) > self.KEY:
            if len(starts) * len(text) > len(self._text):
                return [span for span in find_all(text, self._text) if span[0] in self._places]
            starts = [at for at in starts if self._text.startswith(text, at)]
        return [(at, at + len(text)) for at in sorted(starts)]


class Nesting:
    """Which spans lie inside longer ones of a set: sorted once, then a binary search per query."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._furthest: dict[int, int] = {}
        for start, end in spans:
            self._furthest[start] = max(end, self._furthest.get(start, 0))
        self._starts = sorted(self._furthest)
        self._reach = list(accumulate((self._furthest[start] for start in self._starts), max))

    def inside_longer(self, span: Span) -> bool:
        """Whether `span` lies inside a span of the set that is longer than itself."""
        start, end = span
        earlier = bisect_left(self._starts, start)
        return (earlier > 0 and self._reach[earlier - 1] >= end) or self._furthest.get(start, 0) > end


def find_all(text: str, within: str) -> list[Span]:
    """Every span of `text` in `within`, overlapping ones too, in order; none for the empty text."""
    spans: list[Span] = []
    at = within.find(text) if text else -1
    while at >= 0:
        if spans and at < spans[-1][1] and len(text) > LONG:
            return spans + _overlapping(text, within, at)
        spans.append((at, at + len(text)))
        at = within.find(text, at + 1)
    return spans


def _overlapping(text: str, within: str, start: int) -> list[Span]:
    """The spans of `text` from `start` on, in one pass however much they overlap (Knuth, Morris and Pratt)."""
    borders = [0]  # for each prefix of the text, the length of its longest proper suffix that is also a prefix
    matched = 0
    for letter in text[1:]:
        while matched and letter != text[matched]:
            matched = borders[matched - 1]
        matched += letter == text[matched]
        borders.append(matched)
    spans, matched = [], 0
    for at in range(start, len(within)):
        while matched and (matched == len(text) or within[at] != text[matched]):
            matched = borders[matched - 1]
        matched += within[at] == text[matched]
        if matched == len(text):
            spans.append((at + 1 - len(text), at + 1))
    return spans


def write_answer(document: Document, annotation: Annotation) -> dict[str, Any]:
    """`annotation` in the answer form, with boxes as fractions in xyxy order; `normalize` inverts it.

    A text is written plainly where all of its free occurrences belong to one chain with one type, with occurrence
    numbers where they do not, and as offsets where it stands on no token boundaries or its type is not the chain's.
    Mentions of one text and type are joined, so their order may change; a span that appears twice comes back once.
    """
    known = _KnownTexts(Occurrences(document), Nesting(mention.span for mention in annotation.mentions))
    chains = []
    for chain in annotation.chains:
        by_text: dict[tuple[str, str], list[Span]] = defaultdict(list)
        for mention in chain.mentions:
            by_text[document.text[mention.start : mention.end], mention.type].append(mention.span)
        mentions: list[Any] = []
        for (text, kind), spans in by_text.items():
            found, distinct = known.of(text), set(spans)
            if kind != chain.type or not all(span in found.numbers for span in distinct):
                mentions += [{"start": start, "end": end, "type": kind} for start, end in spans]
            elif len(distinct) == len(found.free) and distinct <= found.free:
                mentions.append(text)
            else:
                mentions.append([text, *sorted(found.numbers[span] for span in distinct)])
        chains.append({"id": chain.id, "type": chain.type, "mentions": mentions})
    return {
        "chains": chains,
        "relations": [{"head": r.head, "tail": r.tail, "type": r.type} for r in annotation.relations],
        "regions": [
            {"frame": r.frame, "type": r.type, "box": list(r.box), "chain": r.chain}
            | ({} if r.id is None else {"id": r.id})
            for r in annotation.regions
        ],
    }


@dataclass(frozen=True, slots=True)
class _KnownText:
    """The number of each occurrence of a text, from 1, and the occurrences that lie inside no longer mention."""

    numbers: dict[Span, int]
    free: frozenset[Span]


class _KnownTexts:
    """`_KnownText` of each mention text of an annotation, looked up once, however many chains have it."""

    def __init__(self, occurrences: Occurrences, nesting: Nesting) -> None:
        self._occurrences, self._nesting = occurrences, nesting
        self._known: dict[str, _KnownText] = {}

    def of(self, text: str) -> _KnownText:
        if text not in self._known:
            places = self._occurrences.of(text)
            free = frozenset(span for span in places if not self._nesting.inside_longer(span))
            self._known[text] = _KnownText({span: n for n, span in enumerate(places, start=1)}, free)
        return self._known[text]
