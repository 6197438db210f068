"""What tests of importers look at."""

from __future__ import annotations

from m3dllm.corpora.imported import Imported
from m3dllm.types import Example


def reasons(imported: Imported) -> list[tuple[str, str]]:
    """(what, why) of what was skipped."""
    return [(one.what, one.why) for one in imported.left_out]


def changes(imported: Imported) -> list[tuple[str, str]]:
    return [(one.what, one.why) for one in imported.changed]


def counts(imported: Imported) -> dict[str, tuple[int, ...]]:
    """split -> (documents, mentions, chains, relations, regions, frames)."""
    return {
        split: (
            len(examples),
            sum(len(chain.mentions) for e in examples for chain in e.gold.chains),
            *(sum(len(getattr(e.gold, part)) for e in examples) for part in ("chains", "relations", "regions")),
            sum(len(e.document.frames) for e in examples),
        )
        for split, examples in imported.splits.items()
    }


def words(example: Example) -> list[tuple[str, list[str]]]:
    """(type, its mentions' words) of each chain."""
    text = example.document.text
    return [(chain.type, [text[m.start : m.end] for m in chain.mentions]) for chain in example.gold.chains]


def facts(example: Example) -> list[tuple[str, str, str]]:
    """(first words of the head, type, first words of the tail) of each relation."""
    text, chains = example.document.text, {chain.id: chain for chain in example.gold.chains}
    names = {name: text[slice(*chain.mentions[0].span)] for name, chain in chains.items()}
    return [(names[r.head], r.type, names[r.tail]) for r in example.gold.relations]
