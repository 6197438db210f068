"""One number for an entity in every column: chains of several sides that correspond.

A region that a relation names has such a number too. The numbers are only for display; correctness is decided by the
scorer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from operator import attrgetter

from m3dllm.score.chain import chain_spans
from m3dllm.score.grounding import THRESHOLD, iou
from m3dllm.types import Annotation, Mention, Region

Span = tuple[int, int]
_IN_TEXT = attrgetter("start", "end", "type")
NAME = 60  # characters of a name, at most


class Entities:
    """Numbers from 1, in the order of sides and their chains."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._places: dict[Span, list[int]] = {}
        """span -> its entities, as numbered by the first side with them."""
        self._names: list[str] = []
        self._types: list[str] = []
        self._several: list[bool] = []
        self._regions: dict[int, Region] = {}
        """The entities that are regions, as the first side that has them draws them."""

    def add(self, annotation: Annotation) -> dict[str, int]:
        """The number of each chain, and of each region that a relation names, of one side, by its id.

        A chain gets the entity with which it shares most mentions, one chain per entity, larger overlaps first; a chain
        without shared mentions is a new entity. A region gets the number of the region of the same frame and type with
        which it has the largest IoU above 0.5.
        """
        all_spans = chain_spans(annotation)
        shares = []
        for i, spans in enumerate(all_spans):
            counts: dict[int, int] = {}
            for span in spans:
                for n in self._places.get(span, ()):
                    counts[n] = counts.get(n, 0) + 1
            shares += [(-shared, i, n) for n, shared in counts.items()]
        taken: dict[int, int] = {}
        gone: set[int] = set()
        for _, i, n in sorted(shares):
            if i not in taken and n not in gone:
                taken[i] = n
                gone.add(n)
        numbers = {}
        firsts = list(map(min, all_spans))
        for i in sorted(range(len(firsts)), key=firsts.__getitem__):
            chain, spans = annotation.chains[i], all_spans[i]
            n = taken.get(i, len(self._names))
            if n == len(self._names):
                for span in spans:
                    self._places.setdefault(span, []).append(n)
                self._names.append(self._name(chain.mentions))
                self._types.append(chain.type)
                self._several.append(False)
            self._several[n] |= len(spans) > 1
            numbers[chain.id] = n + 1
        return numbers | self._add_regions(annotation)

    def _add_regions(self, annotation: Annotation) -> dict[str, int]:
        named = {name for relation in annotation.relations for name in (relation.head, relation.tail)}
        numbers: dict[str, int] = {}
        for region in annotation.regions:
            if region.id is None or region.id not in named:
                continue
            near = [
                (iou(other.box, region.box), -n)
                for n, other in self._regions.items()
                if (other.frame, other.type) == (region.frame, region.type) and n + 1 not in numbers.values()
            ]
            overlap, n = max(near, default=(0.0, 0))
            if overlap > THRESHOLD:
                numbers[region.id] = 1 - n
                continue
            self._regions[len(self._names)] = region
            self._names.append(f"{region.type} in frame {region.frame}")
            self._types.append(region.type)
            self._several.append(False)
            numbers[region.id] = len(self._names)
        return numbers

    def content(self) -> list[dict[str, object]]:
        """Every entity; `several`: whether some side has more than one mention of it; `frame`: that of a region."""
        return [
            {"number": n + 1, "name": name, "type": kind, "several": several}
            | ({"frame": self._regions[n].frame} if n in self._regions else {})
            for n, (name, kind, several) in enumerate(zip(self._names, self._types, self._several, strict=True))
        ]

    def _name(self, mentions: Iterable[Mention]) -> str:
        """The most frequent mention of at most NAME characters; of several, the longest, then the first."""
        texts = [self._text[m.start : m.end] for m in sorted(mentions, key=_IN_TEXT)]
        if len(texts) == 1 and len(texts[0]) <= NAME:
            return texts[0]
        names = Counter(text for text in texts if len(text) <= NAME)
        return max(names, key=lambda text: (names[text], len(text)), default=texts[0][:NAME])
