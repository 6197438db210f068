"""COCO: the boxes of frames in pixels, one file per split, with the images.

An image has two extra keys: `document`, and `frame`, its number in the clip. The confidence of a region is its
`score`, as in COCO's results format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from m3dllm.export import File, Item, Notes, Source, image_name, images
from m3dllm.types import Document, Frame, Region
from m3dllm.wire import encode

HOLDS = frozenset(("frames", "regions", "groups", "confidences"))


def export(source: Source, notes: Notes) -> Iterator[File]:
    """One file per split, and the images."""
    numbers = {label.name: i for i, label in enumerate(source.labels.regions, start=1)}
    for split, items in source.splits().items():
        for item in items:
            if not item.document.frames:
                notes.leave_out("document", "it has no frames", item.document.id)
            for region in item.annotation.regions:  # a prediction may have types that the label set lacks
                numbers.setdefault(region.type, len(numbers) + 1)
        yield f"{split}.json", _pieces(source, items, numbers)
    yield from images(source.items, notes)


def _pieces(source: Source, items: Sequence[Item], numbers: dict[str, int]) -> Iterator[str]:
    info = {"description": " ".join(source.made_by.values())}
    categories = [{"id": n, "name": name, "supercategory": ""} for name, n in numbers.items()]
    yield f'{{"info":{encode(info).decode()},"categories":{encode(categories).decode()}'
    for name, entries in (("images", _images(items)), ("annotations", _annotations(items, numbers))):
        yield f',"{name}":['
        for n, entry in enumerate(entries):
            yield ("," if n else "") + encode(entry).decode()
        yield "]"
    yield "}"


def _images(items: Iterable[Item]) -> Iterator[dict[str, Any]]:
    frames = ((item.document, frame) for item in items for frame in item.document.frames)
    return (_image(document, frame, number) for number, (document, frame) in enumerate(frames, start=1))


def _annotations(items: Iterable[Item], numbers: dict[str, int]) -> Iterator[dict[str, Any]]:
    number = image = 0
    for item in items:
        for frame in item.document.frames:
            image += 1
            for region in item.annotation.regions:
                if region.frame == frame.index:
                    number += 1
                    yield _annotation(region, frame, numbers, number, image)


def _image(document: Document, frame: Frame, number: int) -> dict[str, Any]:
    group = {"group": document.group} if document.group else {}
    time = {} if frame.time_s is None else {"time_s": frame.time_s}
    return {
        "id": number,
        "file_name": image_name(document, frame),
        "width": frame.width_px,
        "height": frame.height_px,
        "document": document.id,
        "lang": document.lang,
        "frame": frame.index,
        "annotated": frame.annotated,
        **time,
        **group,
    }


def _annotation(region: Region, frame: Frame, numbers: dict[str, int], number: int, image: int) -> dict[str, Any]:
    box = region.box
    x, y = box.x0 * frame.width_px, box.y0 * frame.height_px
    width, height = (box.x1 - box.x0) * frame.width_px, (box.y1 - box.y0) * frame.height_px
    sure = {} if region.confidence is None else {"score": region.confidence}
    return {
        "id": number,
        "image_id": image,
        "category_id": numbers[region.type],
        "bbox": [x, y, width, height],
        "area": width * height,
        "iscrowd": 0,
        **sure,
    }
