"""Label Studio: tasks with annotations or pre-annotations, and the labelling interface.

Coreference is a relation `Coreference` from each mention of an entity to its next, and a region is linked to the entity
that it shows by a relation `shows`. Boxes are in percent; offsets are code points, with their text. Confidences are
the `score` of each result (of a chain link, that of its relation); their mean is the score of the prediction, by which
Label Studio orders tasks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any
from xml.sax.saxutils import quoteattr

from m3dllm.confidence import confidences
from m3dllm.export import PARTS, File, Item, Notes, Source, image_name, images
from m3dllm.exporters._xml import held
from m3dllm.labels import Label
from m3dllm.types import Chain, Document, Frame, Region
from m3dllm.wire import encode

HOLDS = PARTS - {"glosses", "repeats", "spaces", "region relations"}
COREFERENCE = "Coreference"
SHOWS = "shows"


def export(source: Source, notes: Notes, *, images_at: str = "/data/local-files/?d=") -> Iterator[File]:
    """`interface.xml`, one file of tasks per split, and the images.

    - `images_at`: The prefix of image paths in the tasks: where Label Studio finds the folder of this export.
    """
    yield "interface.xml", _interface(source)
    for split, items in source.splits().items():
        yield f"{split}.json", _tasks(source, items, images_at)
    yield from images(source.items, notes)


def _tasks(source: Source, items: Sequence[Item], images_at: str) -> Iterator[str]:
    for n, item in enumerate(items):
        yield ("[\n" if n == 0 else ",\n") + encode(_task(source, item, images_at)).decode()
    yield "\n]\n"


def _task(source: Source, item: Item, images_at: str) -> dict[str, Any]:
    document = item.document
    frames = [_frame(document, frame, images_at) for frame in document.frames]
    data: dict[str, Any] = {"id": document.id, "lang": document.lang, "text": document.text, "frames": frames}
    data |= {name: value for name in ("title", "group", "tokens", "segments") if (value := getattr(document, name))}
    if item.unannotated:
        data["unannotated"] = sorted(item.unannotated)
    result = list(results(item))
    if source.made_by["what"] == "gold":
        return {"data": data, "annotations": [{"result": result, "ground_truth": True}]}
    prediction: dict[str, Any] = {"model_version": source.made_by.get("system", ""), "result": result}
    if sure := list(confidences(item.annotation)):
        prediction["score"] = math.fsum(sure) / len(sure)
    return {"data": data, "predictions": [prediction]}


def _frame(document: Document, frame: Frame, images_at: str) -> dict[str, Any]:
    found = {
        "image": images_at + image_name(document, frame),
        "index": frame.index,
        "width": frame.width_px,
        "height": frame.height_px,
        "annotated": frame.annotated,
    }
    if frame.time_s is not None:
        found["time_s"] = frame.time_s
    return found | ({"sha256": frame.sha256} if frame.sha256 else {})


def results(item: Item, *, control: str = "entity", text: str = "text") -> Iterator[dict[str, Any]]:
    """The results of a document; `control` marks spans of the text named `text` in the labelling interface."""
    document, found = item.document, item.annotation
    firsts = {}
    for i, chain in enumerate(found.chains):
        firsts[chain.id] = f"c{i}m0"
        yield from _chain(document, chain, i, {"from_name": control, "to_name": text, "type": "labels"})
    for i, region in enumerate(found.regions):
        yield _region(document, region, f"r{i}")
        if region.chain is not None:
            yield _relation(f"r{i}", firsts[region.chain], SHOWS, None)
    for relation in found.between_chains:
        yield _relation(firsts[relation.head], firsts[relation.tail], relation.type, relation.confidence)


def _chain(document: Document, chain: Chain, i: int, drawn_by: dict[str, str]) -> Iterator[dict[str, Any]]:
    for j, mention in enumerate(chain.mentions):
        text = document.text[mention.start : mention.end]
        value = {"start": mention.start, "end": mention.end, "text": text, "labels": [mention.type]}
        yield {"id": f"c{i}m{j}", **drawn_by, "value": value} | _score(mention.confidence)
    for j, k in pairwise(range(len(chain.mentions))):
        yield _relation(f"c{i}m{j}", f"c{i}m{k}", COREFERENCE, chain.mentions[k].link)


def _region(document: Document, region: Region, name: str) -> dict[str, Any]:
    position = next(i for i, frame in enumerate(document.frames) if frame.index == region.frame)
    frame, box = document.frames[position], region.box
    value = {
        "x": 100 * box.x0,
        "y": 100 * box.y0,
        "width": 100 * (box.x1 - box.x0),
        "height": 100 * (box.y1 - box.y0),
        "rotation": 0,
        "rectanglelabels": [region.type],
    }
    return {
        "id": name,
        "from_name": f"region_{position}",
        "to_name": f"frame_{position}",
        "type": "rectanglelabels",
        "original_width": frame.width_px,
        "original_height": frame.height_px,
        "image_rotation": 0,
        "value": value,
        **_score(region.confidence),
    }


def _relation(head: str, tail: str, kind: str, confidence: float | None) -> dict[str, Any]:
    about = {"type": "relation", "from_id": head, "to_id": tail, "direction": "right", "labels": [kind]}
    return about | _score(confidence)


def _score(confidence: float | None) -> dict[str, Any]:
    return {} if confidence is None else {"score": confidence}


def _interface(source: Source) -> str:
    """The labelling interface for these tasks, to paste into a project's settings."""
    relations = [*source.labels.relations, Label(COREFERENCE), Label(SHOWS)]
    return "\n".join(
        [
            "<View>",
            "  <Relations>",
            *(f"    <Relation{_words(label)}/>" for label in relations),
            "  </Relations>",
            '  <Labels name="entity" toName="text">',
            *(f"    <Label{_words(label)}/>" for label in source.labels.mentions),
            "  </Labels>",
            '  <Text name="text" value="$text"/>',
            '  <Repeater on="$frames" indexFlag="{{idx}}" mode="pagination">',
            '    <Image name="frame_{{idx}}" value="$frames[{{idx}}].image"/>',
            '    <RectangleLabels name="region_{{idx}}" toName="frame_{{idx}}">',
            *(f"      <Label{_words(label)}/>" for label in source.labels.regions),
            "    </RectangleLabels>",
            "  </Repeater>",
            "</View>\n",
        ]
    )


def _words(label: Label) -> str:
    return f" value={quoteattr(held(label.name))}" + (f" hint={quoteattr(held(label.en))}" if label.en else "")
