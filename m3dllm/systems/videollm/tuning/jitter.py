"""Box jitter in training, so that a model does not memorize the last digits of boxes.

As in E2E-GMNER (arXiv:2604.17319, released code): centre and size of a box change by a Gaussian truncated at `share` of
its side, and the box is kept if it still overlaps the true one enough. Its smaller share for boxes of a few pixels is
not implemented.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

from m3dllm.score.grounding import iou
from m3dllm.types import Annotation, Box

TRIES, LEAST_IOU = 3, 0.6
"""The number of draws, and the minimum IoU with the true box; if none reaches it, the true one is used."""


def jittered(gold: Annotation, share: float, rng: random.Random) -> Annotation:
    """The gold with every box jittered."""
    return replace(gold, regions=tuple(replace(region, box=_near(region.box, share, rng)) for region in gold.regions))


def _near(box: Box, share: float, rng: random.Random) -> Box:
    for _ in range(TRIES):
        (x0, x1), (y0, y1) = _moved(box.x0, box.x1, share, rng), _moved(box.y0, box.y1, share, rng)
        if iou(drawn := Box(x0, y0, x1, y1), box) >= LEAST_IOU:
            return drawn
    return box


def _moved(low: float, high: float, share: float, rng: random.Random) -> tuple[float, float]:
    """The two edges along one axis, within the frame."""
    side = high - low
    middle = (low + high) / 2 + side * _change(share, rng)
    half = side * (1 + _change(share, rng)) / 2
    return max(0.0, middle - half), min(1.0, middle + half)


def _change(share: float, rng: random.Random) -> float:
    """A change as a share of the side, with the variance of a uniform one between -`share` and `share`."""
    return max(-share, min(share, rng.gauss(0, share / math.sqrt(3))))
