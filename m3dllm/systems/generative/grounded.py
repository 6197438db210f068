"""Mentions with boxes: the targets from the gold, and the reading of answers.

Mentions form a chain only if they share a box; there are no relations.
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


class GroundedItem(NamedTuple):
    """A mention, or an unnamed object, with the candidates that show it."""

    span: Span | None
    """The span of the mention; None for an unnamed object."""
    type: str
    overlaps: tuple[float, ...] | None
    """The overlap of each candidate (`boxes.overlaps`); None if none overlaps."""


def mentions_of(
    document: Document, words: Words, candidates: Sequence[Candidate], gold: Annotation
) -> list[GroundedItem]:
    """The gold mentions of a window, in document order. A region shows the mentions of its chain with its type."""
    first, last = words[0][0], words[-1][1]
    shown = _named(gold)
    inside = {
        m: shown.get(chain.id, [])
        for chain in gold.chains
        for m in chain.mentions
        if first <= m.start and m.end <= last
    }
    return [
        GroundedItem(
            (m.start, m.end), m.type, overlaps(document, candidates, [r for r in inside[m] if r.type == m.type])
        )
        for m in sorted(inside)
    ]


def unnamed_of(
    document: Document, labels: LabelSet, most: int, candidates: Sequence[Candidate], gold: Annotation
) -> list[GroundedItem]:
    """The gold regions that show no mention: of each type as many as the fullest frame has, at most `most`.

    The first of a type takes the most confident of its candidates in each frame, the second the next.
    """
    named = {id(region) for regions in _named(gold).values() for region in regions}
    left = [region for region in gold.regions if id(region) not in named]
    found: list[GroundedItem] = []
    for label in labels.regions:
        turns = _by_turn(document, candidates, [region for region in left if region.type == label.name])
        found += [GroundedItem(None, label.name, overlaps(document, candidates, turn)) for turn in turns[:most]]
    return found


def _named(gold: Annotation) -> dict[str, list[Region]]:
    """chain -> its regions with the type of one of its mentions, which a record can express."""
    types = {chain.id: {mention.type for mention in chain.mentions} for chain in gold.chains}
    found: dict[str, list[Region]] = {}
    for region in gold.regions:
        if region.chain is not None and region.type in types[region.chain]:
            found.setdefault(region.chain, []).append(region)
    return found


def _by_turn(document: Document, candidates: Sequence[Candidate], regions: Sequence[Region]) -> list[list[Region]]:
    """The first regions of all frames, the second ones, …: those with candidates, in the order of candidates."""
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
    """A box is in an answer once: mentions of one type that chose the same box form one chain."""

    def __init__(self, document: Document, labels: LabelSet) -> None:
        super().__init__(document, labels)
        self._chains: list[list[Mention]] = []
        self._owner: dict[tuple[str, Candidate], int | None] = {}

    def add_mention(self, where: str, kind: str, text: str, span: Span | None, shown: Sequence[Candidate]) -> None:
        """Add a mention with its boxes, if its type is known and its text was found."""
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
        """Add the boxes of a chain or of an unnamed object; a box stays with its first chain."""
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
