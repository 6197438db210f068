"""The five folds of M3D, by source video, for DFFM and its peers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.m3d import read_m3d
from m3dllm.corpora.split import hold_out, k_folds
from m3dllm.files import sha256
from m3dllm.labels import LabelSet
from m3dllm.types import Example

FOLDS = 5


@dataclass(frozen=True)
class Fold:
    """The train, dev and test documents of one fold."""

    labels: LabelSet
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]

    @cached_property
    def parts(self) -> Mapping[str, tuple[Example, ...]]:
        return {"train": self.train, "dev": self.dev, "test": self.test}

    def corpus(self) -> Imported:
        """The fold as a corpus."""
        return Imported(self.labels, {name: list(part) for name, part in self.parts.items()})


def m3d_folds(data: Path, lang: str, *, share: float = 1.0) -> list[Fold]:
    """The folds of the released documents of a language; 10 % of the train part is held out as dev.

    `share` keeps this part of each train set: whole source videos, selected by their hash, so that a smaller share is
    part of a larger one.
    """
    imported = read_m3d(data)
    examples = [e for split in imported.splits.values() for e in split if e.document.lang == lang]
    folds = []
    for rest, test in k_folds(examples, FOLDS):
        train, dev = hold_out(rest)
        folds.append(Fold(imported.labels, part_of(train, share), dev, tuple(test)))
    return folds


def part_of(train: tuple[Example, ...], share: float) -> tuple[Example, ...]:
    """About `share` of the documents, in whole groups."""
    groups = sorted({e.document.group or e.document.id for e in train}, key=lambda name: sha256(name.encode()))
    kept: set[str] = set()
    for name in groups:
        if sum((e.document.group or e.document.id) in kept for e in train) < share * len(train):
            kept.add(name)
    return tuple(e for e in train if (e.document.group or e.document.id) in kept)
