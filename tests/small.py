"""Small corpora and documents for tests, with their data in sight."""

from __future__ import annotations

import io
import re
from pathlib import Path

from PIL import Image

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.native import write_corpus
from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.types import Annotation, Box, Chain, Document, Example, Frame, Mention, Region, Relation

LABELS = LabelSet(
    mentions=(Label("PER", "person", "人物"), Label("LOC", "location", "地点")),
    relations=(
        RelationLabel("PER-LOC_birth", "born in", "出生地", ("PER",), ("LOC",)),
        RelationLabel("PER-PER_couple", "couple", "夫妻", ("PER",), ("PER",), symmetric=True),
    ),
    regions=(Label("PER", "person", "人物"),),
)


def annotated(marked: str) -> tuple[str, tuple[Chain, ...]]:
    """(text, chains) of a text with mentions written `[PER0 Ada Lovelace]`: a type, a chain's number, and the words."""
    text, found = "", {}
    for part in re.split(r"(\[[A-Z]+\d+ [^\]]*\])", marked):
        if match := re.fullmatch(r"\[([A-Z]+)(\d+) ([^\]]*)\]", part):
            kind, number, words = match.groups()
            found.setdefault(f"c{number}", []).append(Mention(len(text), len(text) + len(words), kind))
            text += words
        else:
            text += part
    return text, tuple(Chain(name, tuple(mentions)) for name, mentions in found.items())


def example(
    name: str, marked: str, *, lang: str = "en", relations=(), frames: int = 0, group: str = "", boxes: bool = True
) -> Example:
    """A document from `annotated` text, with `frames` frames that all show one person at the same place."""
    text, chains = annotated(marked)
    stills = tuple(Frame(24 * i, f"frames/{name}/{24 * i}.png", 64, 48, annotated=True) for i in range(frames))
    regions = tuple(Region(f.index, Box(0.25, 0.25, 0.5, 0.75), "PER") for f in stills if boxes)
    gold = Annotation(chains, tuple(Relation(*r) for r in relations), regions)
    return Example(Document(name, lang, text, group=group, frames=stills), gold)


def png(width: int = 64, height: int = 48, colour: str = "navy") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(data, "PNG")
    return data.getvalue()


NAMES = ("Ada", "Bela", "Cora", "Dora", "Edna", "Fina", "Gina", "Hana")
PLACES = ("Arles", "Basel", "Calais", "Delft")


def examples(prefix: str, count: int) -> list[Example]:
    """`count` documents, English and Chinese by turns; every fifth has no text, every seventh no frames."""
    made = []
    for i in range(count):
        name, place, key = NAMES[i % 8], PLACES[i % 4], f"{prefix}{i}"
        birth = [("c0", "c1", "PER-LOC_birth")]
        frames = 0 if i % 7 == 6 else 2
        if i % 5 == 4:
            made.append(example(key, "", frames=frames, group=f"{prefix}-g{i // 2}"))
        elif i % 2:
            text = f"[PER0 苏珊{i}]出生在[LOC1 北京]。[PER0 苏珊{i}]很高兴。"
            made.append(example(key, text, lang="zh", relations=birth, frames=frames, group=f"{prefix}-g{i // 2}"))
        else:
            text = f"[PER0 {name}] was born in [LOC1 {place}] . [PER0 {name}] met [PER2 Zoe] ."
            made.append(example(key, text, relations=birth, frames=frames, group=f"{prefix}-g{i // 2}"))
    return made


def small_corpus(folder: Path, *, train: int = 12, dev: int = 6, test: int = 8, labels: LabelSet = LABELS) -> Path:
    """A native corpus in `folder` with frames; a split of 0 documents is skipped."""
    imported = Imported(labels)
    for split, count in (("train", train), ("dev", dev), ("test", test)):
        if count:
            imported.splits[split] = examples(split, count)
            for made in imported.splits[split]:
                imported.images |= {frame.path: png() for frame in made.document.frames}
    write_corpus(folder, imported)
    return folder
