"""Annotations written in letters: each letter is a mention of one character, each word a chain."""

from __future__ import annotations

from collections.abc import Iterable

from m3dllm.score.chain import Partition, partition
from m3dllm.types import Annotation, Box, Chain, Mention, Region, Relation


def said(
    words: str = "",
    relations: Iterable[tuple[str, str, str]] = (),
    regions: Iterable[Region] = (),
    *,
    kind: str = "PER",
) -> Annotation:
    """`said("ab c", [("ab", "c", "born")])`: the chains {a, b} and {c}, and a relation from the first to the second.

    A word that appears twice is a second chain, named `ab'`.
    """
    names: list[str] = []
    chains = []
    for word in words.split():
        name = word if word not in names else f"{word}'"
        names.append(name)
        chains.append(Chain(name, tuple(Mention(ord(letter), ord(letter) + 1, kind) for letter in word)))
    return Annotation(tuple(chains), tuple(Relation(*relation) for relation in relations), tuple(regions))


def chains(words: str) -> Partition:
    """The partition of `said(words)`."""
    return partition(said(words))


def region(frame: int, *box: float, kind: str = "PER", chain: str | None = None, name: str | None = None) -> Region:
    return Region(frame, Box(*box), kind, chain, id=name)
