"""The paired bootstrap again, slowly: one resample after the other, scored with the scorer's own sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from m3dllm.score import DocumentScore, total


def differences(
    reference: Sequence[DocumentScore], other: Sequence[DocumentScore], *, name: str, resamples: int, seed: int
) -> list[float]:
    """The difference in the F1 of `name` ("average": of the average) in every resample where both exist."""
    groups = sorted({row.group or row.document for row in reference})
    draws = np.random.default_rng(seed).integers(len(groups), size=(resamples, len(groups)))
    found = []
    for draw in draws:
        scores = []
        for rows in (reference, other):
            of_group = {g: [row.tasks for row in rows if (row.group or row.document) == g] for g in groups}
            sums = total(tasks for i in draw for tasks in of_group[groups[i]])
            scores.append(sums.average_f1 if name == "average" else sums.tasks[name].f1)
        if None not in scores:
            found.append(round(scores[1] - scores[0], 12))  # ties are ties, whatever the order of the sums
    return found


def p_value(found: Sequence[float]) -> float:
    below, above = sum(d <= 0 for d in found), sum(d >= 0 for d in found)
    return min(1.0, 2 * (min(below, above) + 1) / (len(found) + 1))


def interval(found: Sequence[float]) -> tuple[float, float]:
    """The 2.5 and 97.5 percentiles, with linear interpolation between the sorted values."""
    ordered = sorted(found)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

    return at(0.025), at(0.975)
