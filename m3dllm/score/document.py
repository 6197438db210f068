"""All counts of one document: those of every metric whose tasks count on it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from m3dllm.score.metric import Metric, Sides, metrics
from m3dllm.score.settings import Settings
from m3dllm.types import PRF, Annotation, Task

Counts = dict[str, PRF]
"""Counts by their reported names, such as "entity" or "chain.muc"."""


def count(
    gold: Annotation,
    preds: Mapping[Task, Annotation],
    *,
    frames: Collection[int] | None = None,
    symmetric: Collection[str] = (),
    settings: Settings | None = None,
) -> Counts:
    """The counts of the tasks in `preds`, which holds the prediction for each task.

    `frames` are the annotated frames (None: all), `symmetric` the relation types that are compared unordered.
    """
    settings = settings or Settings()
    sides = {
        task: Sides(gold, pred, frames=frames, symmetric=symmetric, thresholds=settings.thresholds)
        for task, pred in preds.items()
    }
    counts: Counts = {}
    for metric in metrics():
        if metric.task in sides and _is_asked_for(metric, settings) and all(task in sides for task in metric.needs):
            found = metric.count(sides[metric.task])
            counts |= {metric.name: found} if isinstance(found, PRF) else found
    return counts


def _is_asked_for(metric: Metric, settings: Settings) -> bool:
    if metric.variant == "iou=X":
        return bool(settings.thresholds)
    return metric.variant is None or metric.variant in settings.variants
