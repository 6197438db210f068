"""What an importer hands over: examples, their images, and everything that was left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from m3dllm.labels import LabelSet
from m3dllm.types import Example


@dataclass(frozen=True, slots=True, order=True)
class LeftOut:
    """One thing that did not come in: its kind ("mention", "relation", …), why, and the place in the source."""

    what: str
    why: str
    where: str


@dataclass(slots=True)
class Imported:
    """A corpus on its way in. Frames' paths are relative to the corpus; `images` holds the file or bytes of each."""

    labels: LabelSet
    splits: dict[str, list[Example]] = field(default_factory=dict)
    images: dict[str, Path | bytes] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    def leave_out(self, what: str, why: str, where: str) -> None:
        self.left_out.append(LeftOut(what, why, where))


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a set of examples holds."""

    documents: int = 0
    mentions: int = 0
    chains: int = 0
    relations: int = 0
    regions: int = 0
    frames: int = 0

    @classmethod
    def of(cls, examples: Iterable[Example]) -> Counts:
        total: Counter[str] = Counter()
        for example in examples:
            gold = example.gold
            total["documents"] += 1
            total["mentions"] += sum(len(chain.mentions) for chain in gold.chains)
            total["chains"] += len(gold.chains)
            total["relations"] += len(gold.relations)
            total["regions"] += len(gold.regions)
            total["frames"] += len(example.document.frames)
        return cls(**total)
