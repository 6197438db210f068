"""Mentions and the boxes that show them: of the gold what is to be said, and an answer in the making.

There are no chains but by boxes, and no relations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from m3dllm.answers import Span
from m3dllm.labels import LabelSet
from m3dllm.systems.generative.boxes import Candidate, overlaps
from m3dllm.systems.generative.draft import Draft, offsets
from m3dllm.systems.generative.model import Answer
from m3dllm.systems.generative.spans import Words
from m3dllm.types import Annotation, Document, Mention, Region


class Shown(NamedTuple):
    """A mention, or something without a name, and the candidates that show it."""

    span: Span | None
    """Where the mention stands; None of something without a name."""
    type: str
    overlaps: tuple[float, ...] | None
    """How far each candidate does (`boxes.overlaps`); None where none does."""


def mentions_of(document: Document, words: Words, candidates: Sequence[Candidate], gold: Annotation) -> list[Shown]:
    """The gold mentions of a window, in document order. A region shows mentions of its chain that have its type."""
    first, last = words[0][0], words[-1][1]
    shown = _named(gold)
    inside = {
        m: shown.get(chain.id, [])
        for chain in gold.chains
        for m in chain.mentions
        if first <= m.start and m.end <= last
    }
    return [
        Shown((m.start, m.end), m.type, overlaps(document, candidates, [r for r in inside[m] if r.type == m.type]))
        for m in sorted(inside)
    ]


def unnamed_of(
    document: Document, labels: LabelSet, most: int, candidates: Sequence[Candidate], gold: Annotation
) -> list[Shown]:
    """The gold regions that show no mention: of each type as many as a frame has of them, `most` at most.

    The first of a type is about the surest of its candidates in each frame, the second about the next.
    """
    named = {id(region) for regions in _named(gold).values() for region in regions}
    left = [region for region in gold.regions if id(region) not in named]
    found: list[Shown] = []
    for label in labels.regions:
        turns = _by_turn(document, candidates, [region for region in left if region.type == label.name])
        found += [Shown(None, label.name, overlaps(document, candidates, turn)) for turn in turns[:most]]
    return found


def _named(gold: Annotation) -> dict[str, list[Region]]:
    """By chain, the regions that show it and have the type of one of its mentions, so that a record can say so."""
    types = {chain.id: {mention.type for mention in chain.mentions} for chain in gold.chains}
    found: dict[str, list[Region]] = {}
    for region in gold.regions:
        if region.chain is not None and region.type in types[region.chain]:
            found.setdefault(region.chain, []).append(region)
    return found


def _by_turn(document: Document, candidates: Sequence[Candidate], regions: Sequence[Region]) -> list[list[Region]]:
    """The first region of each frame, the second of each, …: those that have candidates, in their order."""
    turns: list[list[Region]] = []
    for frame in dict.fromkeys(region.frame for region in regions):
        placed = []
        for region in regions:
            overlap = overlaps(document, candidates, [region]) if region.frame == frame else None
            if overlap is not None:
                placed.append((overlap.index(max(overlap)), region))
        for n, (_, region) in enumerate(sorted(placed, key=lambda one: one[0])):
            turns += [[]] if n == len(turns) else []
            turns[n].append(region)
    return turns


class GroundedDraft(Draft):
    """A box stands in an answer once: mentions of one type that chose the same one are put into one chain."""

    def __init__(self, document: Document, labels: LabelSet) -> None:
        super().__init__(document, labels)
        self._chains: list[list[Mention]] = []
        self._owner: dict[tuple[str, Candidate], int | None] = {}

    def add_mention(self, where: str, kind: str, text: str, span: Span | None, shown: Sequence[Candidate]) -> None:
        """A mention, where its type is known and its text was found, with the boxes that show it."""
        if kind not in self.labels.names("mentions"):
            self.note("unknown_type", where, kind)
        elif span is None:
            self.note("text_not_found", where, text)
        else:
            owners = [self._owner.get((kind, candidate)) for candidate in shown]
            chain = next((owner for owner in owners if owner is not None), len(self._chains))
            self._chains += [[]] if chain == len(self._chains) else []
            self._chains[chain].append(Mention(*span, kind))
            self.add_regions(where, kind, shown, chain)

    def add_regions(self, where: str, kind: str, shown: Sequence[Candidate], chain: int | None = None) -> None:
        """Boxes that show a chain, or something without a name; the first chain keeps a box."""
        if shown and kind not in self.labels.names("regions"):
            self.note("unknown_type", where, kind)
            return
        for candidate in shown:
            if self._owner.get((kind, candidate)) is None:
                self._owner[kind, candidate] = chain

    def answer(self) -> Answer:
        """The answer form, mentions as offsets."""
        regions = []
        for (kind, candidate), chain in self._owner.items():
            shows = None if chain is None else f"c{chain}"
            frame = self.document.frames[candidate.frame].index
            regions.append({"frame": frame, "type": kind, "box": list(candidate.box), "chain": shows})
        chains = [
            {
                "id": f"c{n}",
                "type": mentions[0].type,
                "mentions": [offsets(mention) for mention in dict.fromkeys(sorted(mentions))],
            }
            for n, mentions in enumerate(self._chains)
        ]
        return self.answered(chains, [], regions)
