"""Grounded mentions: exact span, type and region, as in grounded multimodal entity recognition (Yu et al. 2023)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from m3dllm.score.grounding import THRESHOLD, iou, regions_in
from m3dllm.score.metric import Metric
from m3dllm.types import PRF, Annotation, Mention, Region

Grounded = dict[Mention, list[Region]]


def triple(gold: Annotation, pred: Annotation, *, frames: Collection[int] | None = None) -> PRF:
    """True positives (TP) are typed spans that both sides have and ground alike; P = TP ÷ |P|, R = TP ÷ |G|.

    A typed span is grounded by the regions, in annotated frames, of the chains that contain it. Both sides ground it
    alike if neither has a region for it, or if a region of one and a region of the other, in one frame, have IoU > 0.5.
    """
    of_gold, of_pred = _grounded(gold, frames), _grounded(pred, frames)
    tp = sum(_alike(of_gold[mention], of_pred[mention]) for mention in of_gold.keys() & of_pred.keys())
    return PRF(tp, len(of_pred), tp, len(of_gold))


def _grounded(annotation: Annotation, frames: Collection[int] | None) -> Grounded:
    shown: dict[str | None, list[Region]] = defaultdict(list)
    for region in regions_in(annotation, frames):
        shown[region.chain].append(region)
    grounded: Grounded = defaultdict(list)
    for chain in annotation.chains:
        for mention in chain.mentions:
            grounded[mention] += shown.get(chain.id, ())
    return grounded


def _alike(gold: list[Region], pred: list[Region]) -> bool:
    if not gold or not pred:
        return not gold and not pred
    return any(g.frame == p.frame and iou(g.box, p.box) > THRESHOLD for g in gold for p in pred)


METRICS = (
    Metric(
        name="triple",
        task="entity",
        count=lambda sides: triple(sides.gold, sides.pred, frames=sides.frames),
        variant="triple",
        needs=("grounding",),
    ),
)
