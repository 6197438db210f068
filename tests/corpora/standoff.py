"""BRAT files for the tests, and what came of them."""

from __future__ import annotations

from pathlib import Path

from m3dllm.corpora.imported import Imported
from m3dllm.types import Example

TEXT = "Ada met Bela in Arles. She left."
ANN = """\
T1\tPerson 0 3\tAda
T2\tPerson 8 12\tBela
T3\tPlace 16 21\tArles
T4\tPerson 23 26\tShe
R1\tCoref Arg1:T4 Arg2:T1
R2\tlived_in Arg1:T2 Arg2:T3
"""


def pair(folder: Path, text: str | bytes = TEXT, ann: str | bytes = ANN, *, name: str = "d") -> Path:
    for suffix, content in ((".txt", text), (".ann", ann)):
        path = folder / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def one(imported: Imported) -> Example:
    (example,) = imported.splits["train"]
    return example


def chains(example: Example) -> set[frozenset[str]]:
    """The texts of the mentions of each chain."""
    text = example.document.text
    return {frozenset(text[m.start : m.end] for m in chain.mentions) for chain in example.gold.chains}


def relations(example: Example) -> list[tuple[str, str, str]]:
    """Each relation with the first mentions of its ends."""
    text = example.document.text
    firsts = {chain.id: text[slice(*chain.mentions[0].span)] for chain in example.gold.chains}
    return [(firsts[r.head], r.type, firsts[r.tail]) for r in example.gold.relations]


def left_out(imported: Imported) -> list[tuple[str, str]]:
    return [(left.what, left.why) for left in imported.left_out]


def changed(imported: Imported) -> list[tuple[str, str]]:
    return [(left.what, left.why) for left in imported.changed]
