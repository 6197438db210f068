"""Four small documents with pictures, in sight: English, Chinese, one without text, one without frames."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw

from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.systems.supervised.text import Subwords
from m3dllm.types import Annotation, Box, Document, Example, Frame, Region, Relation
from tests.small import annotated

LABELS = LabelSet(
    mentions=(Label("PER"), Label("LOC"), Label("ORG")),
    relations=(
        RelationLabel("PER-LOC_birth", head=("PER",), tail=("LOC",)),
        RelationLabel("PER-PER_parents", head=("PER",), tail=("PER",)),
        RelationLabel("PER-PER_couple", head=("PER",), tail=("PER",), symmetric=True),
        RelationLabel("PER-ORG_member", head=("PER",), tail=("ORG",)),
    ),
    regions=(Label("PER"), Label("LOC")),
)

ENGLISH = (
    "[PER0 Ada Byron] was born in [LOC1 London] . [PER2 Annabella] was the mother of [PER0 Ada] . "
    "[PER0 Byron] married [PER3 William King] , and he joined [ORG4 the Royal Society] ."
)
CHINESE = "[PER0 苏珊]出生在[LOC1 北京]。[PER2 乔治]是[PER0 苏珊]的父亲，[PER0 她]加入了[ORG3 皇家学会]。"
NO_FRAMES = "[PER0 Karl Gauss] grew up in [LOC1 Brunswick] , where [PER0 Gauss] met [PER2 Johanna] and married her ."
COLOURS = {"PER": (200, 60, 40), "LOC": (40, 80, 200)}


def picture(path: Path, boxes: list[tuple[str, Box]], *, size: tuple[int, int] = (96, 72)) -> None:
    """A grey picture with a filled box for each region, coloured by its type."""
    image = Image.new("RGB", size, (128, 128, 128))
    for kind, box in boxes:
        edges = [box.x0 * size[0], box.y0 * size[1], box.x1 * size[0] - 1, box.y1 * size[1] - 1]
        ImageDraw.Draw(image).rectangle(edges, fill=COLOURS[kind])
    image.save(path)


def example(
    folder: Path,
    name: str,
    marked: str,
    *,
    lang: str = "en",
    relations: tuple[tuple[str, str, str], ...] = (),
    frames: tuple[list[tuple[str, Box]], ...] = (),
) -> Example:
    """A document from marked text and the boxes of its frames, drawn into `folder`."""
    text, chains = annotated(marked)
    stills, regions = [], []
    for i, boxes in enumerate(frames):
        path = folder / f"{name}-{24 * i}.png"
        picture(path, boxes)
        stills.append(Frame(24 * i, str(path), 96, 72, annotated=True))
        regions += [Region(24 * i, box, kind) for kind, box in boxes]
    document = Document(name, lang, text, frames=tuple(stills))
    return Example(document, Annotation(chains, tuple(Relation(*r) for r in relations), tuple(regions)))


def subwords_of(numbers: list[int], words: list[int]) -> Subwords:
    """Subwords of these numbers, each of which covers one word."""
    word = torch.tensor(words, dtype=torch.long)
    n_words = words[-1] + 1 if words else 0
    shapes = torch.zeros(n_words, 0, dtype=torch.long)
    return Subwords(torch.tensor(numbers, dtype=torch.long).reshape(-1, 1), torch.arange(len(words)), word, shapes)


def four(folder: Path) -> list[Example]:
    """The four documents, their pictures drawn into `folder`."""
    person, place = Box(0.1, 0.2, 0.35, 0.9), Box(0.5, 0.3, 0.95, 0.8)
    return [
        example(
            folder,
            "english",
            ENGLISH,
            relations=(
                ("c0", "c1", "PER-LOC_birth"),
                ("c2", "c0", "PER-PER_parents"),
                ("c0", "c3", "PER-PER_couple"),
                ("c3", "c4", "PER-ORG_member"),
            ),
            frames=([("PER", person), ("LOC", place)], [("PER", Box(0.6, 0.1, 0.85, 0.8))], []),
        ),
        example(
            folder,
            "chinese",
            CHINESE,
            lang="zh",
            relations=(("c0", "c1", "PER-LOC_birth"), ("c2", "c0", "PER-PER_parents"), ("c0", "c3", "PER-ORG_member")),
            frames=([("LOC", Box(0.05, 0.1, 0.5, 0.6))], [("PER", place)]),
        ),
        example(folder, "no_text", "", frames=([("PER", Box(0.3, 0.2, 0.6, 0.9))], [("LOC", person)])),
        example(
            folder,
            "no_frames",
            NO_FRAMES,
            relations=(("c0", "c1", "PER-LOC_birth"), ("c0", "c2", "PER-PER_couple")),
        ),
    ]
