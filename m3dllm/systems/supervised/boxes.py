"""Non-maximum suppression; nothing here imports torch."""

from __future__ import annotations

from typing import Any

import numpy as np


def merged(corners: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], limit: float) -> list[int]:
    """The boxes (n, 4), best first, that are kept: those with no IoU > `limit` to a kept one of the same label."""
    low = np.maximum(corners[:, None, :2], corners[None, :, :2])
    high = np.minimum(corners[:, None, 2:], corners[None, :, 2:])
    both = (high - low).clip(min=0).prod(-1)
    area = (corners[:, 2:] - corners[:, :2]).prod(-1)
    overlap = both / np.maximum(area[:, None] + area[None, :] - both, 1e-12)
    rival = (overlap > limit) & (labels[:, None] == labels[None, :])
    kept: list[int] = []
    for i in range(len(corners)):
        if not rival[i, kept].any():
            kept.append(i)
    return kept
