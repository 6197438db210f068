"""Cutting documents into parts without cutting a source video.

Documents of one group (without a group, each is its own) go into one part. Parts depend on the seed, the ids and the
groups, never on the order of the documents.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, pairwise
from pathlib import Path

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.native import Corpus, to_imported, write_corpus
from m3dllm.errors import UserError
from m3dllm.stream import Joined, Lazy, heads
from m3dllm.types import Example
from m3dllm.wire import ExampleHead

PLACE = 8
"""The bytes of the place of a document in what it is sorted by."""


def split_corpus(
    corpus: Corpus,
    *,
    ratios: Sequence[float] = (8, 1, 1),
    names: Sequence[str] = ("train", "dev", "test"),
    seed: int = 0,
    only: Iterable[str] | None = None,
) -> dict[str, Sequence[Example]]:
    """The documents of a corpus (of the splits `only`, where given) in new splits of about these `ratios`.

    Each language is divided in these ratios as closely as its groups allow. Raises UserError for invalid
    ratios, or for fewer groups than splits.
    """
    _check_ratios(ratios, names)
    chosen = corpus.splits if only is None else {name: corpus[name] for name in only}
    groups = _Groups(chosen.values(), seed)
    wanted = sum(ratio > 0 for ratio in ratios)
    if len(groups) < wanted:
        raise UserError.at(corpus.root, f"has {len(groups)} source videos; {wanted} splits need at least {wanted}")
    parts = groups.divide(ratios)
    return {name: parts.inside(p) for p, (name, ratio) in enumerate(zip(names, ratios, strict=True)) if ratio > 0}


def write_split(folder: Path, corpus: Corpus, splits: Mapping[str, Iterable[Example]]) -> Imported:
    """Write `splits` of a loaded corpus as the new native corpus `folder`; frames are hard links where they can be."""
    imported = to_imported(corpus, splits)
    write_corpus(folder, imported, link=True)
    return imported


def k_folds(examples: Sequence[Example], k: int, *, seed: int = 0) -> list[tuple[Sequence[Example], Sequence[Example]]]:
    """k pairs (rest, fold): equal folds in each language, each document in one. Raises UserError for too few groups."""
    groups = _Groups([examples], seed)
    if not 2 <= k <= len(groups):
        raise UserError(f"{k} folds of {len(groups)} source videos: expected 2 to {len(groups)} folds")
    folds = groups.divide([1] * k)
    return [(folds.outside(p), folds.inside(p)) for p in range(k)]


def hold_out(
    train: Sequence[Example], *, share: float = 0.1, seed: int = 0
) -> tuple[Sequence[Example], Sequence[Example]]:
    """(rest, held out): about a `share` of train that cuts no group. Raises UserError if train is a single group."""
    groups = _Groups([train], seed)
    if len(groups) < 2:
        what = f"{len(train)} documents of one source video" if train else "no document"
        raise UserError(f"the train split has {what}; no part can be held out for model selection: give a dev split")
    parts = groups.divide((1 - share, share))
    return parts.inside(0), parts.inside(1)


def _check_ratios(ratios: Sequence[float], names: Sequence[str]) -> None:
    shown = ":".join(f"{ratio:g}" for ratio in ratios)
    if len(ratios) != len(names) or len(set(names)) < len(names):
        raise UserError(
            f"ratios {shown} for the splits {', '.join(names)}: expected one ratio per split, and different splits"
        )
    if not all(0 <= ratio < float("inf") for ratio in ratios) or not any(ratios):
        raise UserError(f"ratios {shown}: expected numbers from 0, not all 0, such as 8:1:1")


@dataclass(frozen=True, slots=True)
class _Parts:
    """Documents in the order of their ids (`order` has their places in `examples`), and the part of each."""

    examples: Sequence[Example]
    order: array[int]
    part: array[int]

    def inside(self, p: int) -> Sequence[Example]:
        """The documents of one part, read on access."""
        return self._picked(i for i, part in zip(self.order, self.part, strict=True) if part == p)

    def outside(self, p: int) -> Sequence[Example]:
        """Those of all other parts."""
        return self._picked(i for i, part in zip(self.order, self.part, strict=True) if part != p)

    def _picked(self, places: Iterable[int]) -> Sequence[Example]:
        return Lazy(array("q", places), self.examples.__getitem__)


class _Groups:
    """The groups of documents, shuffled by the seed: in the order of the sha256 of "seed:name".

    A document is known by its place among all. Some twenty bytes of each are held, and a hundred while they are sorted.
    """

    def __init__(self, sources: Iterable[Sequence[Example]], seed: int) -> None:
        self._sources = tuple(sources)
        self._langs = bytearray()
        """The language of each document, by its place in `_names`."""
        names: dict[str, int] = {}
        keys: list[bytes] = []
        """Of each document the hash of its group, whether it has one, and its place."""
        for i, head in enumerate(self._heads()):
            name = sha256(f"{seed}:{head.group or head.id}".encode()).digest()
            keys.append(name + bytes([bool(head.group)]) + i.to_bytes(PLACE, "big"))
            self._langs.append(names.setdefault(head.lang, len(names)))
        keys.sort()
        self._names = tuple(names)
        self._order = array("q", (int.from_bytes(key[-PLACE:], "big") for key in keys))
        """The documents, those of a group one after the other."""
        self._ends = array("q", (i for i, key in enumerate(keys) if i and key[:-PLACE] != keys[i - 1][:-PLACE]))
        """Where each group ends among them."""
        if keys:
            self._ends.append(len(keys))

    def __len__(self) -> int:
        return len(self._ends)

    def divide(self, ratios: Sequence[float]) -> _Parts:
        """The documents in one part for each ratio.

        Each group in turn is given to the part that still lacks most of its languages. A part exceeds its share by at
        most the largest group. No part with a ratio stays empty, or without a language that has a group for each part.
        """
        sizes = self._sizes()
        parts = _dealt(sizes, ratios)
        open_parts = [p for p, ratio in enumerate(ratios) if ratio > 0]
        for _, of_groups in sorted(sizes.items()):
            _fill(parts, open_parts, of_groups)
        _fill(parts, open_parts, [sum(of) for of in zip(*sizes.values(), strict=True)])
        part_of = array("q", bytes(8 * len(self._order)))
        for p, members in zip(parts, self._members(), strict=True):
            for document in members:
                part_of[document] = p
        ids = [head.id for head in self._heads()]
        by_id = array("q", sorted(range(len(ids)), key=ids.__getitem__))
        return _Parts(Joined(self._sources), by_id, array("q", (part_of[i] for i in by_id)))

    def _heads(self) -> Iterator[ExampleHead]:
        return chain.from_iterable(map(heads, self._sources))

    def _members(self) -> Iterator[array[int]]:
        """The documents of each group."""
        return (self._order[begin:end] for begin, end in pairwise(chain([0], self._ends)))

    def _sizes(self) -> dict[str, array[int]]:
        """The number of documents of each language in each group."""
        found = {name: array("q", bytes(8 * len(self))) for name in self._names}
        columns = [*found.values()]
        for g, members in enumerate(self._members()):
            for document in members:
                columns[self._langs[document]][g] += 1
        return found


def _dealt(sizes: Mapping[str, Sequence[int]], ratios: Sequence[float]) -> array[int]:
    """The part of each group, as it is given to the part that still lacks most of its languages."""
    total = {lang: sum(of_groups) for lang, of_groups in sizes.items()}
    lacks = [{lang: n * ratio / sum(ratios) for lang, n in total.items()} for ratio in ratios]
    open_parts = [p for p, ratio in enumerate(ratios) if ratio > 0]
    parts = array("q")
    for group in zip(*sizes.values(), strict=True):
        size = [(lang, n) for lang, n in zip(sizes, group, strict=True) if n]
        p = max(open_parts, key=lambda p: (sum([n * lacks[p][lang] / total[lang] for lang, n in size]), -p))
        parts.append(p)
        for lang, n in size:
            lacks[p][lang] -= n
    return parts


def _fill(parts: array[int], open_parts: Sequence[int], sizes: Sequence[int]) -> None:
    """Give every part without a group of nonzero size the smallest one of a part that has several."""
    held = Counter(p for p, size in zip(parts, sizes, strict=True) if size)
    for p in open_parts:
        spare = ((size, g) for g, size in enumerate(sizes) if size and held[parts[g]] > 1)
        if not held[p] and (smallest := min(spare, default=None)):
            _, g = smallest
            held[parts[g]] -= 1
            held[p] += 1
            parts[g] = p
