"""Two systems on the same documents: is the difference significant?

Paired bootstrap (Efron and Tibshirani 1993; Berg-Kirkpatrick et al. 2012) over groups, the source videos, because clips
of one video are not independent: the groups are drawn with replacement, their counts added, and the scores made of the
sums. Everything is a product of two matrices; no loop runs over the resamples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m3dllm.errors import UserError
from m3dllm.score.metric import means
from m3dllm.score.per_document import DocumentCounts
from m3dllm.score.scores import COUNTS, DocumentScore
from m3dllm.types import TASKS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DECIMALS = 12  # smaller differences may come from the order of a sum of floats
CELLS = 4_000_000  # draws, counted by group, held in memory at a time
DRAWN = 2**18  # draws made at a time
Run = Sequence[DocumentScore] | DocumentCounts


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
    reference: Sequence[Run],
    other: Sequence[Run],
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

    systems = [_tables(reference), _tables(other)]
    runs = [*systems[0], *systems[1]]
    if not reference or not other or not len(runs[0]):
        raise UserError("nothing to compare: each system needs a run, and the runs need documents")
    names = _names(runs)
    table = _table(systems, _groups(runs), names)
    observed = _f1(table.sum(axis=0), names)
    drawn = [_f1(sums, names) for sums in _resampled(table, resamples=resamples, seed=seed)]
    found = {}
    for name, (first, second) in observed.items():
        if np.isnan(first) or np.isnan(second):
            continue
        f1 = np.concatenate([part[name] for part in drawn], axis=-1)  # (2, resamples)
        differences = np.round(f1[1] - f1[0], DECIMALS)
        differences = differences[~np.isnan(differences)]
        found[name] = _difference(float(first), float(second), differences)
    return found


def f1_intervals(system: Sequence[Run], *, resamples: int = 10_000, seed: int = 0) -> dict[str, tuple[float, float]]:
    """The 95 % confidence interval of one system's F1 in every score of `paired_bootstrap`, from the same resamples."""
    import numpy as np

    runs = _tables(system)
    if not runs or not len(runs[0]):
        raise UserError("nothing to resample: a system needs a run, and the run needs documents")
    names = _names(runs)
    table = _table([runs], _groups(runs), names)
    drawn = [_f1(sums, names) for sums in _resampled(table, resamples=resamples, seed=seed)]
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


def _tables(runs: Iterable[Run]) -> list[DocumentCounts]:
    return [run if isinstance(run, DocumentCounts) else DocumentCounts.of(run) for run in runs]


def _groups(runs: Sequence[DocumentCounts]) -> list[NDArray[np.intp]]:
    """(documents,) for each run: the row of each document, which is that of its group, in the order of their names."""
    import numpy as np

    first = runs[0]
    if len(kinds := {kind for run in runs for kind in run.kinds}) > 1:
        raise UserError(f"cannot compare documents of several languages or protocols at once: {sorted(kinds)}")
    _, rows = np.unique(first.groups, return_inverse=True)
    found = []
    for run in runs:
        places = run.places_in(first.documents)
        if len(np.unique(run.documents)) < len(run) or len(run) != len(first) or (places < 0).any():
            odd = sorted({*run.documents.tolist()} ^ {*first.documents.tolist()})
            what = f"differ in {len(odd)}, such as '{odd[0].decode()}'" if odd else "name one twice"
            raise UserError(f"cannot compare runs of other documents: they {what}")
        found.append(rows[places])
    return found


def _names(runs: Sequence[DocumentCounts]) -> list[str]:
    """The counts that every run has."""
    return [name for name in runs[0].names if all(name in run.names for run in runs)]


def _table(
    systems: Sequence[Sequence[DocumentCounts]], rows: Sequence[NDArray[np.intp]], names: Sequence[str]
) -> Floats:
    """The counts of each system summed by group and averaged over its runs: (groups, systems, names, 4).

    `rows` are the rows of the documents of all runs, one run after the other.
    """
    import numpy as np

    table = np.zeros((max(int(of.max()) for of in rows) + 1, len(systems), len(names), len(COUNTS)))
    left = iter(rows)
    for i, runs in enumerate(systems):
        for run, of in zip(runs, left, strict=False):
            begin = 0
            for counts in run.counts(names):
                np.add.at(table[:, i], of[begin : begin + len(counts)], counts)
                begin += len(counts)
        table[:, i] /= len(runs)
    return table


def _resampled(table: Floats, *, resamples: int, seed: int) -> list[Floats]:
    """The counts summed over each resample of the groups, in parts of (systems, some resamples, names, 4)."""
    import numpy as np

    n_groups, *others = table.shape
    flat = table.reshape(n_groups, -1)
    generator = np.random.default_rng(seed)
    rows, together = max(1, CELLS // n_groups), max(1, DRAWN // n_groups)
    times = np.empty((min(rows, resamples), n_groups))
    parts = []
    for start in range(0, resamples, rows):
        n = min(rows, resamples - start)
        for row in range(0, n, together):
            several = min(together, n - row)
            draws = generator.integers(n_groups, size=(several, n_groups)) + n_groups * np.arange(several)[:, None]
            drawn = np.bincount(draws.ravel(), minlength=several * n_groups)
            times[row : row + several] = drawn.reshape(several, n_groups)
        parts.append((times[:n] @ flat).reshape(n, *others).transpose(1, 0, 2, 3))
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
