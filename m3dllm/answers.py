"""The answer form: how a generating model writes an annotation, and where a written text stands in the document.

An answer has the shape of an annotation, with mentions as text::

    {
        "chains": [{"id": "c0", "type": "PER", "mentions": ["Susan", ["George", 2, 5]]}],
        "relations": [{"head": "c0", "tail": "c2", "type": "PER-PER_couple"}],
        "regions": [{"frame": 345, "type": "PER", "box": [0.1, 0.2, 0.4, 0.9]}],
    }

A mention is a string (every token-aligned occurrence of that text which does not lie inside a longer mention of the
answer), `[string, n, …]` (only the n-th of its token-aligned occurrences, from 1 in document order), or
`{"start", "end", "type"}`. A type left out is the chain's. `write_answer` is the inverse of `normalize.normalize`;
nothing here reads what a model wrote.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from m3dllm.tokens import tokenize
from m3dllm.types import Annotation, Document

Span = tuple[int, int]
LISTS = ("chains", "relations", "regions")
"""The keys of an answer."""


class Occurrences:
    """Where texts stand in a document, token-aligned, in document order; each text is looked up once."""

    def __init__(self, document: Document) -> None:
        tokens = tokenize(document)
        self.text = document.text
        self.starts = frozenset(start for start, _ in tokens)
        self.ends = frozenset(end for _, end in tokens)
        self._found: dict[str, tuple[Span, ...]] = {}

    def of(self, text: str) -> tuple[Span, ...]:
        """The spans of `text` that begin and end on token boundaries (they may overlap); () when there is none."""
        if text not in self._found:
            self._found[text] = tuple(filter(self.aligned, self.anywhere(text)))
        return self._found[text]

    def anywhere(self, text: str) -> list[Span]:
        """The spans of `text` wherever they begin and end."""
        return find_all(text, self.text)

    def aligned(self, span: Span) -> bool:
        """Whether the span begins and ends on token boundaries."""
        return span[0] in self.starts and span[1] in self.ends


class Nesting:
    """Which spans lie inside longer ones of a set: a sort once, then a binary search a question."""

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
    spans, at = [], within.find(text) if text else -1
    while at >= 0:
        spans.append((at, at + len(text)))
        at = within.find(text, at + 1)
    return spans


def write_answer(document: Document, annotation: Annotation) -> dict[str, Any]:
    """`annotation` in the answer form, with boxes as fractions in xyxy order; normalized again it is `annotation`.

    A text is written plainly where all of its free occurrences belong to one chain with one type, with occurrence
    numbers where they do not, and as offsets where it stands on no token boundaries or its type is not the chain's.
    Mentions of one text and type are joined, so their order may change; a span that stands twice comes back once.
    """
    occurrences = Occurrences(document)
    nesting = Nesting(mention.span for mention in annotation.mentions)
    chains = []
    for chain in annotation.chains:
        by_text: dict[tuple[str, str], list[Span]] = defaultdict(list)
        for mention in chain.mentions:
            by_text[document.text[mention.start : mention.end], mention.type].append(mention.span)
        mentions: list[Any] = []
        for (text, kind), spans in by_text.items():
            found = {span: n for n, span in enumerate(occurrences.of(text), start=1)}
            if kind != chain.type or not found.keys() >= set(spans):
                mentions += [{"start": start, "end": end, "type": kind} for start, end in spans]
            elif set(spans) == {span for span in found if not nesting.inside_longer(span)}:
                mentions.append(text)
            else:
                mentions.append([text, *sorted(found[span] for span in set(spans))])
        chains.append({"id": chain.id, "type": chain.type, "mentions": mentions})
    return {
        "chains": chains,
        "relations": [{"head": r.head, "tail": r.tail, "type": r.type} for r in annotation.relations],
        "regions": [
            {"frame": r.frame, "type": r.type, "box": list(r.box), "chain": r.chain} for r in annotation.regions
        ],
    }
