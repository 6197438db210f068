"""Cutting documents into parts without cutting a source video.

Documents of one group (without a group, each is its own) go into one part. Parts depend on the seed, the ids and the
groups, never on the order of the documents.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.native import Corpus, to_imported, write_corpus
from m3dllm.errors import UserError
from m3dllm.files import sha256
from m3dllm.stream import Lazy, heads
from m3dllm.types import Example


class _Place(NamedTuple):
    """The position of a document: which sequence, and the index in it."""

    id: str
    lang: str
    source: int
    position: int


Group = tuple[_Place, ...]


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
    sources = list(chosen.values())
    wanted = sum(ratio > 0 for ratio in ratios)
    if len(groups := _groups(sources, seed)) < wanted:
        raise UserError.at(corpus.root, f"has {len(groups)} source videos; {wanted} splits need at least {wanted}")
    parts = _divide(groups, ratios)
    return {name: _picked(sources, part) for name, ratio, part in zip(names, ratios, parts, strict=True) if ratio > 0}


def write_split(folder: Path, corpus: Corpus, splits: Mapping[str, Iterable[Example]]) -> Imported:
    """Write `splits` of a loaded corpus as the new native corpus `folder`; frames are hard links where they can be."""
    imported = to_imported(corpus, splits)
    write_corpus(folder, imported, link=True)
    return imported


def k_folds(examples: Sequence[Example], k: int, *, seed: int = 0) -> list[tuple[Sequence[Example], Sequence[Example]]]:
    """k pairs (rest, fold): equal folds in each language, each document in one. Raises UserError for too few groups."""
    groups = _groups([examples], seed)
    if not 2 <= k <= len(groups):
        raise UserError(f"{k} folds of {len(groups)} source videos: expected 2 to {len(groups)} folds")
    folds = _divide(groups, [1] * k)
    rests = (sorted(place for other in folds if other is not fold for place in other) for fold in folds)
    return [(_picked([examples], rest), _picked([examples], fold)) for rest, fold in zip(rests, folds, strict=True)]


def hold_out(
    train: Sequence[Example], *, share: float = 0.1, seed: int = 0
) -> tuple[Sequence[Example], Sequence[Example]]:
    """(rest, held out): about a `share` of train that cuts no group. Raises UserError if train is a single group."""
    groups = _groups([train], seed)
    if len(groups) < 2:
        what = f"{len(train)} documents of one source video" if train else "no document"
        raise UserError(f"the train split has {what}; no part can be held out for model selection: give a dev split")
    rest, held = _divide(groups, (1 - share, share))
    return _picked([train], rest), _picked([train], held)


def _check_ratios(ratios: Sequence[float], names: Sequence[str]) -> None:
    shown = ":".join(f"{ratio:g}" for ratio in ratios)
    if len(ratios) != len(names) or len(set(names)) < len(names):
        raise UserError(
            f"ratios {shown} for the splits {', '.join(names)}: expected one ratio per split, and different splits"
        )
    if not all(0 <= ratio < float("inf") for ratio in ratios) or not any(ratios):
        raise UserError(f"ratios {shown}: expected numbers from 0, not all 0, such as 8:1:1")


def _groups(sources: Sequence[Sequence[Example]], seed: int) -> list[Group]:
    """The groups, shuffled by the seed: in the order of the sha256 of "seed:name"."""
    found: dict[tuple[bool, str], list[_Place]] = defaultdict(list)
    for n, source in enumerate(sources):
        for i, head in enumerate(heads(source)):
            found[bool(head.group), head.group or head.id].append(_Place(head.id, head.lang, n, i))
    order = sorted(found, key=lambda key: (sha256(f"{seed}:{key[1]}".encode()), key))
    return [tuple(found[key]) for key in order]


def _picked(sources: Sequence[Sequence[Example]], part: Iterable[_Place]) -> Sequence[Example]:
    """The documents at these places, read on access."""
    return Lazy([(place.source, place.position) for place in part], lambda at: sources[at[0]][at[1]])


def _divide(groups: Sequence[Group], ratios: Sequence[float]) -> list[list[_Place]]:
    """The groups in one part per ratio, each in turn given to the part that still lacks most of its languages.

    A part exceeds its share by at most the largest group. No part with a ratio stays empty, or without a
    language that has a group for each part.
    """
    sizes = [Counter(place.lang for place in group) for group in groups]
    total = sum(sizes, Counter())
    whole = sum(ratios)
    lacks = [{lang: n * ratio / whole for lang, n in total.items()} for ratio in ratios]
    parts: list[list[int]] = [[] for _ in ratios]
    open_parts = [p for p, ratio in enumerate(ratios) if ratio > 0]
    for g, size in enumerate(sizes):
        p = max(open_parts, key=lambda p: (sum(n * lacks[p][lang] / total[lang] for lang, n in size.items()), -p))
        parts[p].append(g)
        for lang, n in size.items():
            lacks[p][lang] -= n
    for missing in sorted(total):
        _fill(parts, open_parts, [size[missing] for size in sizes])
    _fill(parts, open_parts, [size.total() for size in sizes])
    return [sorted(place for g in part for place in groups[g]) for part in parts]


def _fill(parts: list[list[int]], open_parts: list[int], sizes: list[int]) -> None:
    """Give every part without a group of nonzero size the smallest one of a part that has several."""
    for p in open_parts:
        if any(sizes[g] for g in parts[p]):
            continue
        holders = [[g for g in parts[q] if sizes[g]] for q in open_parts]
        spare = [(sizes[g], g, q) for q, held in zip(open_parts, holders, strict=True) if len(held) > 1 for g in held]
        if spare:
            _, g, q = min(spare)
            parts[q].remove(g)
            parts[p].append(g)
