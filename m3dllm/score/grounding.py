"""Visual grounding: typed boxes in annotated frames."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence

from m3dllm.score.matching import largest_matching
from m3dllm.score.metric import Counts, Metric, Sides
from m3dllm.types import PRF, Annotation, Box, Region

THRESHOLD = 0.5


def size(box: Box) -> float:
    """Width times height; 0 if it is not positive or not finite: such a box matches nothing."""
    width, height = box.x1 - box.x0, box.y1 - box.y0
    area = width * height
    return area if width > 0 and height > 0 and math.isfinite(area) else 0.0


def iou(a: Box, b: Box) -> float:
    """Intersection ÷ union of two boxes, in float64, without clipping or epsilon; 0 if either has no area."""
    size_a, size_b = size(a), size(b)
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    if not (size_a and size_b and width > 0 and height > 0):
        return 0.0
    shared = width * height
    return shared / (size_a + size_b - shared)


def regions_in(annotation: Annotation, frames: Collection[int] | None) -> list[Region]:
    """The regions in annotated frames; `frames` None means that every frame is annotated."""
    return [region for region in annotation.regions if frames is None or region.frame in frames]


def partners(gold: Sequence[Region], pred: Sequence[Region], threshold: float = THRESHOLD) -> list[list[int]]:
    """For each pred region, the gold regions that it may match: same frame, same type, IoU above the threshold."""
    placed: dict[tuple[int, str], list[int]] = defaultdict(list)
    for i, region in enumerate(gold):
        placed[region.frame, region.type].append(i)
    return [
        [i for i in placed.get((region.frame, region.type), ()) if iou(gold[i].box, region.box) > threshold]
        for region in pred
    ]


def grounding(
    gold: Annotation, pred: Annotation, *, frames: Collection[int] | None = None, threshold: float = THRESHOLD
) -> PRF:
    """True positives (TP) are a maximum one-to-one matching of pred regions with gold ones; P = TP ÷ |P|, R = TP ÷ |G|.

    A pred region may match a gold one in the same frame when the types are equal and IoU > `threshold`, strictly.
    Regions outside the annotated `frames` (None: all are) count on neither side. Repeated regions count twice.
    """
    of_gold, of_pred = regions_in(gold, frames), regions_in(pred, frames)
    tp = largest_matching(partners(of_gold, of_pred, threshold))
    return PRF(tp, len(of_pred), tp, len(of_gold))


def _at_thresholds(sides: Sides) -> Counts:
    return {
        f"grounding.iou_{threshold:.12g}": grounding(sides.gold, sides.pred, frames=sides.frames, threshold=threshold)
        for threshold in sides.thresholds
    }


METRICS = (
    Metric(
        name="grounding",
        task="grounding",
        count=lambda sides: grounding(sides.gold, sides.pred, frames=sides.frames),
        headline=True,
    ),
    Metric("grounding.iou", "grounding", _at_thresholds, variant="iou=X"),
)
