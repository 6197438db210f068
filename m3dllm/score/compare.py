"""Two systems on the same documents: is the difference significant?

Paired bootstrap (Efron and Tibshirani 1993; Berg-Kirkpatrick et al. 2012) over groups, the source videos, because clips
of one video are not independent: the groups are drawn with replacement, their counts added, and the scores made of the
sums. Everything is a product of two matrices; no loop runs over the resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m3dllm.errors import UserError
from m3dllm.score.metric import means
from m3dllm.score.scores import DocumentScore
from m3dllm.types import TASKS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DECIMALS = 12  # smaller differences may come from the order of a sum of floats
CELLS = 4_000_000  # draws held in memory at a time


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference in F1 of two systems on the same documents, `other` minus `reference`.

    `low` and `high` are the 95 % confidence interval: the middle 95 % of the resampled differences. `p` is two-sided:
    twice the share of resamples on the rarer side of 0 (plus one in both numbers), at most 1. `resamples` counts those
    in which both scores exist.
    """

    reference: float
    other: float
    low: float
    high: float
    p: float
    resamples: int

    @property
    def difference(self) -> float:
        return self.other - self.reference


def paired_bootstrap(
    reference: Sequence[Sequence[DocumentScore]],
    other: Sequence[Sequence[DocumentScore]],
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Difference]:
    """The difference between two systems in every score that both have, and in "average", the mean of the tasks.

    A system is a sequence of its runs, one per seed; a run is the documents of one language and protocol. The counts of
    the runs are averaged by document. A document without a group is its own group. Equal seeds give equal results.
    Raises UserError if the runs have different documents.
    """
    import numpy as np

    runs = [*reference, *other]
    if not reference or not other or not runs[0]:
        raise UserError("nothing to compare: each system needs a run, and the runs need documents")
    groups = _groups(runs)
    names = _names(runs)
    systems = np.stack([_counts(system, groups, names) for system in (reference, other)])  # (2, groups, names, 4)
    observed = _f1(systems.sum(axis=1), names)
    drawn = [_f1(sums, names) for sums in _resampled(systems, resamples=resamples, seed=seed)]
    found = {}
    for name, (first, second) in observed.items():
        if np.isnan(first) or np.isnan(second):
            continue
        f1 = np.concatenate([part[name] for part in drawn], axis=-1)  # (2, resamples)
        differences = np.round(f1[1] - f1[0], DECIMALS)
        differences = differences[~np.isnan(differences)]
        found[name] = _difference(float(first), float(second), differences)
    return found


def f1_intervals(
    system: Sequence[Sequence[DocumentScore]], *, resamples: int = 10_000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """The 95 % confidence interval of one system's F1 in every score of `paired_bootstrap`, from the same resamples."""
    import numpy as np

    if not system or not system[0]:
        raise UserError("nothing to resample: a system needs a run, and the run needs documents")
    groups, names = _groups(system), _names(system)
    counts = _counts(system, groups, names)[None]
    drawn = [_f1(sums, names) for sums in _resampled(counts, resamples=resamples, seed=seed)]
    found = {}
    for name in drawn[0]:
        f1 = np.concatenate([part[name][0] for part in drawn])
        f1 = f1[~np.isnan(f1)]
        if len(f1):
            low, high = np.quantile(f1, (0.025, 0.975))
            found[name] = float(low), float(high)
    return found


def holm(p: Sequence[float]) -> list[float]:
    """The p-values of one family, adjusted by Holm (1979): the k-th smallest of m times m − k + 1, never falling."""
    adjusted, highest = [0.0] * len(p), 0.0
    for k, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, p[i] * (len(p) - k)))
        adjusted[i] = highest
    return adjusted


# --- counts -----------------------------------------------------------------------------------------------------------


def _groups(runs: Sequence[Sequence[DocumentScore]]) -> dict[str, int]:
    """The row of each document: that of its group, in the order of their names."""
    first = {row.document: (row.group or row.document) for row in runs[0]}
    kinds = {(row.lang, row.pairs) for run in runs for row in run}
    if len(kinds) > 1:
        raise UserError(f"cannot compare documents of several languages or protocols at once: {sorted(kinds)}")
    for run in runs:
        documents = [row.document for row in run]
        if len(set(documents)) < len(documents) or set(documents) != first.keys():
            odd = sorted(set(documents) ^ first.keys())
            what = f"differ in {len(odd)}, such as '{odd[0]}'" if odd else "name one twice"
            raise UserError(f"cannot compare runs of other documents: they {what}")
    place = {name: i for i, name in enumerate(sorted(set(first.values())))}
    return {document: place[group] for document, group in first.items()}


def _names(runs: Sequence[Sequence[DocumentScore]]) -> list[str]:
    """The counts that every run has."""
    of_run = [dict.fromkeys(name for row in run for name in row.tasks) for run in runs]
    return [name for name in of_run[0] if all(name in names for names in of_run)]


def _counts(runs: Sequence[Sequence[DocumentScore]], groups: dict[str, int], names: Sequence[str]) -> Floats:
    """The counts summed by group and averaged over the runs: (groups, names, 4)."""
    import numpy as np

    table = np.zeros((max(groups.values()) + 1, len(names), 4))
    for run in runs:
        for row in run:
            for j, name in enumerate(names):
                if (counts := row.tasks.get(name)) is not None:
                    table[groups[row.document], j] += (counts.p_num, counts.p_den, counts.r_num, counts.r_den)
    return table / len(runs)


def _resampled(systems: Floats, *, resamples: int, seed: int) -> list[Floats]:
    """The counts summed over each resample of the groups, in parts of (2, some resamples, names, 4)."""
    import numpy as np

    n_systems, n_groups, n_names, _ = systems.shape
    table = systems.transpose(1, 0, 2, 3).reshape(n_groups, -1)
    generator = np.random.default_rng(seed)
    rows = max(1, CELLS // n_groups)
    parts = []
    for start in range(0, resamples, rows):
        n = min(rows, resamples - start)
        draws = generator.integers(n_groups, size=(n, n_groups)) + n_groups * np.arange(n)[:, None]
        times = np.bincount(draws.ravel(), minlength=n * n_groups).reshape(n, n_groups)
        sums = (times.astype(np.float64) @ table).reshape(n, n_systems, n_names, 4)
        parts.append(sums.transpose(1, 0, 2, 3))
    return parts


# --- scores -----------------------------------------------------------------------------------------------------------


def _f1(counts: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """F1 of counts (…, names, 4) by name, with the means and the average; nan over nothing."""
    import numpy as np

    p_num, p_den, r_num, r_den = np.moveaxis(counts, -1, 0)
    precision = np.divide(p_num, p_den, out=np.zeros_like(p_num), where=p_den > 0)
    recall = np.divide(r_num, r_den, out=np.zeros_like(r_num), where=r_den > 0)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    f1[(p_den == 0) & (r_den == 0)] = np.nan
    found = {name: f1[..., j] for j, name in enumerate(names)}
    for name, parts in means().items():
        if all(part in found for part in parts):
            column = np.stack([found[part] for part in parts])
            found[name] = np.where(np.isnan(column).all(axis=0), np.nan, np.nan_to_num(column).mean(axis=0))
    if tasks := [found[task] for task in TASKS if task in found]:
        present = ~np.isnan(tasks)
        n_present = present.sum(axis=0)
        total = np.nan_to_num(tasks).sum(axis=0)
        found["average"] = np.divide(total, n_present, out=np.full_like(total, np.nan), where=n_present > 0)
    return found


def _difference(reference: float, other: float, differences: Floats) -> Difference:
    import numpy as np

    n = len(differences)
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    low, high = np.quantile(differences, (0.025, 0.975)) if n else (float("nan"), float("nan"))
    p = min(1.0, 2 * (min(below, above) + 1) / (n + 1))
    return Difference(reference, other, float(low), float(high), p, n)
