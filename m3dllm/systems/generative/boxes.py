"""Candidates for regions: boxes that another system found, read from its answers. Nothing here imports torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from m3dllm.errors import UserError
from m3dllm.files import sha256_file
from m3dllm.score.grounding import THRESHOLD, iou
from m3dllm.types import Annotation, Box, Document, Region
from m3dllm.wire import WireError, decode_example, decode_prediction, numbered_lines


class Candidate(NamedTuple):
    """A candidate region: the index of its frame in the document, and its box."""

    frame: int
    box: Box


Boxes = Mapping[str, Mapping[int, tuple[Box, ...]]]
"""document id -> frame number -> boxes, the most confident first; documents that no source has are missing."""


def read_boxes(sources: Sequence[str]) -> Boxes:
    """The legal boxes of all sources, without types. Raises UserError for a file without answers."""
    found: dict[str, dict[int, dict[Box, float]]] = defaultdict(lambda: defaultdict(dict))
    for source in sources:
        path = _file(source)
        for number, line in numbered_lines(path):
            try:
                document, annotation = _read(line)
            except WireError as error:
                raise error.at(path, number) from error
            of_document = found[document]
            for region in annotation.regions:
                if region.box.is_legal:
                    sure = of_document[region.frame]
                    sure[region.box] = max(sure.get(region.box, 0.0), region.confidence or 0.0)
    return {
        document: {frame: tuple(sorted(boxes, key=lambda box: (-boxes[box], box))) for frame, boxes in frames.items()}
        for document, frames in found.items()
    }


def candidates(document: Document, boxes: Boxes, most: int) -> tuple[Candidate, ...]:
    """The candidates of a document, frame by frame, at most `most` of each."""
    of = boxes.get(document.id, {})
    return tuple(Candidate(i, box) for i, frame in enumerate(document.frames) for box in of.get(frame.index, ())[:most])


def boxes_sha256(source: str) -> str:
    """The hash of the file of a source. Raises UserError if it is missing."""
    return sha256_file(_file(source))


def _file(source: str) -> Path:
    path = Path(source)
    if path.is_dir():
        path = path / "predictions.jsonl"
    if not path.is_file():
        raise UserError.at(
            path, "does not exist: expected for --boxes a run, its predictions.jsonl, or a split of a corpus"
        )
    return path


def _read(line: bytes) -> tuple[str, Annotation]:
    if b'"annotation"' in line:
        prediction = decode_prediction(line)
        return prediction.document, prediction.annotation
    example = decode_example(line)
    return example.document.id, example.gold


def overlaps(document: Document, found: Sequence[Candidate], regions: Sequence[Region]) -> tuple[float, ...] | None:
    """The IoU of each candidate with the best region of its frame, 0 below the scorer's threshold.

    None if all are 0: the regions cannot be chosen.
    """
    of_frame = {i: [region.box for region in regions if region.frame == f.index] for i, f in enumerate(document.frames)}
    most = [max((iou(one.box, box) for box in of_frame[one.frame]), default=0.0) for one in found]
    counted = tuple(overlap if overlap > THRESHOLD else 0.0 for overlap in most)
    return counted if any(counted) else None


def best_candidates(document: Document, found: Sequence[Candidate], regions: Sequence[Region]) -> dict[Candidate, str]:
    """candidate -> type of its region, matched one-to-one by falling IoU above the scorer's threshold."""
    place = {frame.index: i for i, frame in enumerate(document.frames)}
    pairs = sorted(
        (-overlap, i, j)
        for i, region in enumerate(regions)
        for j, candidate in enumerate(found)
        if candidate.frame == place.get(region.frame) and (overlap := iou(candidate.box, region.box)) > THRESHOLD
    )
    chosen: dict[Candidate, str] = {}
    used: set[int] = set()
    for _, i, j in pairs:
        if i not in used and found[j] not in chosen:
            used.add(i)
            chosen[found[j]] = regions[i].type
    return chosen
