"""BRAT standoff: a `.txt` and an `.ann` file per document, and frames with LabelMe boxes.

The mentions of an entity are joined by a `*` line, and relations hold between first mentions. `m3dllm import brat`
reads a split; its `--frames` is the folder of frames of this export.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from m3dllm.export import File, Item, Notes, Source
from m3dllm.files import NAME_BYTES, file_name
from m3dllm.labels import LabelSet
from m3dllm.types import Document, Frame
from m3dllm.wire import encode

HOLDS = frozenset(("texts", "mentions", "overlaps", "chains", "relations", "frames", "regions"))


def export(source: Source, notes: Notes, *, frames: bool = True) -> Iterator[File]:
    """One folder per split, if there are several, and one of frames.

    - `frames`: Export the frames too, each annotated one with a LabelMe file of its boxes.
    """
    splits = source.splits()
    for split, items in splits.items():
        folder = f"{split}/" if len(splits) > 1 else ""
        yield f"{folder}annotation.conf", _configuration(source.labels, items)
        for item in items:
            name = _name(item.document, notes)
            yield f"{folder}{name}.txt", item.document.text.encode()
            yield f"{folder}{name}.ann", _standoff(item, notes)
            for frame in item.document.frames if frames else ():
                yield from _frame(item, frame, f"frames/{name}/{frame.index}", notes)


def _name(document: Document, notes: Notes) -> str:
    """The document's id as a path; parts that are too long for a file name, or would be hidden, are renamed."""
    parts = document.id.split("/")
    fit = [
        file_name(part) if part.startswith(".") or len(part.encode()) > NAME_BYTES else part for part in parts if part
    ]
    if fit != parts:
        notes.change("document", "its id is not a valid file name: another one is used", document.id)
    return "/".join(fit)


def _standoff(item: Item, notes: Notes) -> Iterator[str]:
    text, found = item.document.text, item.annotation
    names: dict[str, list[str]] = {}
    number = 0
    for chain in found.chains:
        for mention in chain.mentions:
            number += 1
            names.setdefault(chain.id, []).append(f"T{number}")
            pieces = list(_pieces(text, *mention.span))
            spans = ";".join(f"{start} {end}" for start, end in pieces)
            words = " ".join(text[start:end] for start, end in pieces)
            yield f"T{number}\t{_word(mention.type, notes)} {spans}\t{words}\n"
    for members in names.values():
        if len(members) > 1:
            yield f"*\tEquiv {' '.join(members)}\n"
    for i, relation in enumerate(found.relations, start=1):
        ends = f"Arg1:{names[relation.head][0]} Arg2:{names[relation.tail][0]}"
        yield f"R{i}\t{_word(relation.type, notes)} {ends}\n"


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The pieces of a span between line ends, as BRAT requires."""
    for match in re.finditer(r"[^\n\r]+", text[start:end]):
        if match[0].strip():
            yield start + match.start(), start + match.end()


def _word(name: str, notes: Notes | None = None) -> str:
    """A type as one word."""
    word = "_".join(name.split())
    if word != name and notes is not None:
        notes.change("type", "its white space was replaced by _", name)
    return word


def _configuration(labels: LabelSet, items: Iterable[Item]) -> str:
    """`annotation.conf`: the types of the label set, and further types of predictions."""
    known = {label.name: label for label in labels.relations}
    entities = dict.fromkeys([*(label.name for label in labels.mentions)])
    relations = dict.fromkeys(known)
    for item in items:
        entities |= dict.fromkeys(mention.type for mention in item.annotation.mentions)
        relations |= dict.fromkeys(relation.type for relation in item.annotation.relations)
    lines = ["[entities]", *(map(_word, entities)), "", "[relations]"]
    lines.append("Equiv\tArg1:<ENTITY>, Arg2:<ENTITY>, <REL-TYPE>:symmetric-transitive")
    for name in relations:
        label = known.get(name)
        head, tail = (
            "|".join(_word(end) for end in ends if end in entities) or "<ENTITY>"  # no types of regions
            for ends in ((label.head, label.tail) if label else ((), ()))
        )
        lines.append(f"{_word(name)}\tArg1:{head}, Arg2:{tail}")
    return "\n".join([*lines, "", "[events]", "", "[attributes]", ""])


def _frame(item: Item, frame: Frame, base: str, notes: Notes) -> Iterator[File]:
    """The image of a frame, and its boxes, as the files `base` with their suffixes."""
    document: Document = item.document
    image = Path(frame.path)
    if image.is_file():
        yield base + image.suffix.lower(), image
    else:
        notes.leave_out("image", "its file is missing", f"{document.id}: {frame.path}")
    regions = [region for region in item.annotation.regions if region.frame == frame.index]
    if not frame.annotated and not regions:
        return
    if not frame.annotated:
        notes.change("frame", "a box file marks it as annotated", f"{document.id}: {frame.index}")
    width, height = frame.width_px, frame.height_px
    shapes: list[dict[str, Any]] = [
        {
            "label": region.type,
            "points": [
                [region.box.x0 * width, region.box.y0 * height],
                [region.box.x1 * width, region.box.y1 * height],
            ],
            "shape_type": "rectangle",
            "group_id": None,
            "flags": {},
        }
        for region in regions
    ]
    sizes = {"imagePath": f"{frame.index}{image.suffix.lower()}", "imageData": None, "imageWidth": width}
    head = {"version": "5.5.0", "flags": {}, "shapes": shapes}
    yield f"{base}.json", encode(head | sizes | {"imageHeight": height})
