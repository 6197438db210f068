"""Every system of a table against the best one: is the difference more than chance?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from m3dllm.report.sources import Field, SystemRuns
from m3dllm.score import Difference, holm, paired_bootstrap
from m3dllm.score.scores import Pairs
from m3dllm.types import TASKS

RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Compared:
    """One system less the reference in one score; `adjusted` is p after Holm's correction over the systems."""

    system: SystemRuns
    key: str
    found: Difference
    adjusted: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The best system of a table, and the others against it."""

    reference: SystemRuns
    rows: tuple[Compared, ...]
    resamples: int


def compare(field: Field, pairs: Pairs, *, resamples: int = RESAMPLES) -> Comparison | None:
    """The systems of the table against the best, in every task and in the average; None where there is one only.

    The best has the highest average F1 among those with most tasks. An average is compared only between systems that
    have the same tasks.
    """
    systems = field.with_pairs(pairs)
    if len(systems) < 2:
        return None
    reference = best(systems, field.lang, pairs)
    tasks = reference.average_of(field.lang, pairs)
    rows: list[tuple[SystemRuns, str, Difference]] = []
    for system in systems:
        if system is not reference:
            own, theirs = (of.documents(field.lang, pairs) for of in (reference, system))
            differences = paired_bootstrap(own, theirs, resamples=resamples)
            keys = [*TASKS, *(["average"] if system.average_of(field.lang, pairs) == tasks else [])]
            rows += [(system, key, differences[key]) for key in keys if key in differences]
    adjusted: dict[tuple[str, str], float] = {}
    for key in (*TASKS, "average"):
        family = [(system.label, found.p) for system, name, found in rows if name == key]
        for (label, _), p in zip(family, holm([p for _, p in family]), strict=True):
            adjusted[label, key] = p
    compared = tuple(Compared(system, key, found, adjusted[system.label, key]) for system, key, found in rows)
    return Comparison(reference, compared, resamples)


def best(systems: Sequence[SystemRuns], lang: str, pairs: Pairs) -> SystemRuns:
    """The system with most tasks, of these the one with the highest mean average F1, of these the first by name."""

    def rank(system: SystemRuns) -> tuple[int, float]:
        f1s = system.f1s(lang, pairs, "average")
        return -len(system.average_of(lang, pairs)), -sum(f1s) / len(f1s) if f1s else 0.0

    return min(systems, key=rank)
