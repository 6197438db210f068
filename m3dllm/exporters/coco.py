"""COCO: the boxes of frames in pixels, one file a split, with the images.

An image has keys of its own: `document`, and `frame`, its number in the clip. The confidence of a region is its
`score`, as in COCO's form of results.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from m3dllm.export import File, Item, Notes, Source, image_name, images
from m3dllm.types import Document, Frame, Region
from m3dllm.wire import encode

HOLDS = frozenset(("frames", "regions", "groups", "confidences"))


def export(source: Source, notes: Notes) -> Iterator[File]:
    """One file a split, and the images."""
    numbers = {label.name: i for i, label in enumerate(source.labels.regions, start=1)}
    for split, items in source.splits().items():
        for item in items:
            if not item.document.frames:
                notes.leave_out("document", "it has no frames", item.document.id)
            for region in item.annotation.regions:  # a prediction may have types that the label set lacks
                numbers.setdefault(region.type, len(numbers) + 1)
        yield f"{split}.json", encode(_file(source, items, numbers)).decode()
    yield from images(source.items, notes)


def _file(source: Source, items: list[Item], numbers: dict[str, int]) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for item in items:
        for frame in item.document.frames:
            found.append(_image(item.document, frame, len(found) + 1))
            for region in item.annotation.regions:
                if region.frame == frame.index:
                    annotations.append(_annotation(region, frame, numbers, len(annotations) + 1, len(found)))
    categories = [{"id": n, "name": name, "supercategory": ""} for name, n in numbers.items()]
    info = {"description": " ".join(source.made_by.values())}
    return {"info": info, "images": found, "annotations": annotations, "categories": categories}


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
