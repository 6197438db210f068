"""The answer form: how a generating model writes an annotation, and where a written mention stands.

An answer has the shape of an annotation, with mentions as text::

    {
        "chains": [{"id": "c0", "type": "PER", "mentions": ["Susan", ["George", 2, 5]]}],
        "relations": [{"head": "c0", "tail": "c2", "type": "PER-PER_couple"}],
        "regions": [{"frame": 345, "type": "PER", "box": [0.1, 0.2, 0.4, 0.9]}],
    }

A mention is a string (every token-aligned occurrence of that text which does not lie inside a longer mention of the
answer), `[string, n, …]` (only the n-th occurrences, from 1 in document order), or `{"start", "end", "type"}`. A type
left out is the chain's. `write_answer` is the inverse of `normalize.normalize`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from m3dllm.tokens import tokenize
from m3dllm.types import Annotation, Document, Mention


class Occurrences:
    """Where texts stand in a document, token-aligned, in document order; each text is looked up once."""

    def __init__(self, document: Document) -> None:
        tokens = tokenize(document)
        self.text = document.text
        self.starts = frozenset(start for start, _ in tokens)
        self.ends = frozenset(end for _, end in tokens)
        self._found: dict[str, tuple[tuple[int, int], ...]] = {}

    def of(self, text: str) -> tuple[tuple[int, int], ...]:
        """The spans of `text` that begin and end on token boundaries; () when there is none."""
        if text not in self._found:
            self._found[text] = tuple(self._scan(text))
        return self._found[text]

    def _scan(self, text: str) -> list[tuple[int, int]]:
        spans, at = [], self.text.find(text) if text else -1
        while at >= 0:
            if at in self.starts and at + len(text) in self.ends:
                spans.append((at, at + len(text)))
            at = self.text.find(text, at + 1)
        return spans


def inside_longer(span: tuple[int, int], spans: Any) -> bool:
    """Whether `span` lies inside a longer one of `spans`."""
    start, end = span
    return any(s <= start and end <= e and e - s > end - start for s, e in spans)


def write_answer(document: Document, annotation: Annotation) -> dict[str, Any]:
    """`annotation` in the answer form, with boxes as fractions in xyxy order; normalized again it is `annotation`.

    A text is written plainly where all of its free occurrences belong to one chain with one type, with occurrence
    numbers where they do not, and as offsets where it does not stand on token boundaries.
    """
    occurrences = Occurrences(document)
    spans = {mention.span for mention in annotation.mentions}
    owner: dict[tuple[int, int], tuple[str, str]] = {}
    for chain in annotation.chains:
        for mention in chain.mentions:
            owner.setdefault(mention.span, (chain.id, mention.type))
    chains = []
    for chain in annotation.chains:
        by_text: dict[tuple[str, str], list[Mention]] = defaultdict(list)
        for mention in chain.mentions:
            by_text[document.text[mention.start : mention.end], mention.type].append(mention)
        mentions: list[Any] = []
        for (text, kind), same in by_text.items():
            found = occurrences.of(text)
            free = [span for span in found if not inside_longer(span, spans)]
            wanted = {mention.span for mention in same}
            if kind != chain.type or not wanted <= set(found):
                mentions += [{"start": m.start, "end": m.end, "type": m.type} for m in same]
            elif wanted == set(free) and all(owner.get(span) == (chain.id, kind) for span in free):
                mentions.append(text)
            else:
                mentions.append([text, *sorted(found.index(span) + 1 for span in wanted)])
        chains.append({"id": chain.id, "type": chain.type, "mentions": mentions})
    return {
        "chains": chains,
        "relations": [{"head": r.head, "tail": r.tail, "type": r.type} for r in annotation.relations],
        "regions": [
            {"frame": r.frame, "type": r.type, "box": list(r.box), "chain": r.chain} for r in annotation.regions
        ],
    }
