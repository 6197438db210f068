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
    """A box that may be a region: the position of its frame in the document, and where it is."""

    frame: int
    box: Box


Boxes = Mapping[str, Mapping[int, tuple[Box, ...]]]
"""By document and frame number, the surest first."""


def read_boxes(sources: Sequence[str]) -> Boxes:
    """The legal boxes of all sources, their types aside. Raises UserError for a file that holds no answers."""
    found: dict[str, dict[int, dict[Box, float]]] = defaultdict(lambda: defaultdict(dict))
    for source in sources:
        path = _file(source)
        for number, line in numbered_lines(path):
            try:
                document, annotation = _read(line)
            except WireError as error:
                raise error.at(path, number) from error
            for region in annotation.regions:
                if region.box.is_legal:
                    sure = found[document][region.frame]
                    sure[region.box] = max(sure.get(region.box, 0.0), region.confidence or 0.0)
    return {
        document: {frame: tuple(sorted(boxes, key=lambda box: (-boxes[box], box))) for frame, boxes in frames.items()}
        for document, frames in found.items()
    }


def candidates(document: Document, boxes: Boxes, most: int) -> tuple[Candidate, ...]:
    """The candidates of a document, frame by frame, `most` of each."""
    of = boxes.get(document.id, {})
    return tuple(Candidate(i, box) for i, frame in enumerate(document.frames) for box in of.get(frame.index, ())[:most])


def boxes_sha256(source: str) -> str:
    """The hash of the file behind a source. Raises UserError where there is none."""
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
    """How far each candidate overlaps the nearest region of its frame (IoU), 0 where no score would count it.

    None where that holds of all of them: the regions cannot be chosen.
    """
    of_frame = {i: [region.box for region in regions if region.frame == f.index] for i, f in enumerate(document.frames)}
    most = [max((iou(one.box, box) for box in of_frame[one.frame]), default=0.0) for one in found]
    counted = tuple(overlap if overlap > THRESHOLD else 0.0 for overlap in most)
    return counted if any(counted) else None


def best_candidates(document: Document, found: Sequence[Candidate], regions: Sequence[Region]) -> dict[Candidate, str]:
    """Of each region the candidate of its frame that overlaps it most, if as much as scores ask for, and its type."""
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
