"""An answer of mentions and the boxes that show them, in the making: no chains but by boxes, no relations."""

from __future__ import annotations

from collections.abc import Sequence

from m3dllm.answers import Span
from m3dllm.labels import LabelSet
from m3dllm.systems.generative.boxes import Candidate
from m3dllm.systems.generative.draft import Draft, offsets
from m3dllm.systems.generative.model import Answer
from m3dllm.types import Document, Mention


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
