"""Every system of a table against a reference: is the difference significant?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from m3dllm.report.groups import ComparisonGroup, SystemRuns
from m3dllm.score import Difference, f1_intervals, holm, paired_bootstrap
from m3dllm.score.scores import Pairs
from m3dllm.types import TASKS

RESAMPLES = 10_000
LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Compared:
    """A system's difference to the reference in one score; `adjusted` is p after Holm's correction over systems."""

    system: SystemRuns
    key: str
    found: Difference
    adjusted: float

    @property
    def is_significant(self) -> bool:
        """Whether the difference is significant at 5 %, after correction."""
        return self.adjusted < LEVEL


@dataclass(frozen=True, slots=True)
class Comparison:
    """A reference, and the other systems of its table compared with it; `best`: whether it is the best of them."""

    reference: SystemRuns
    rows: tuple[Compared, ...]
    resamples: int
    best: bool = True

    def row(self, system: SystemRuns, key: str) -> Compared | None:
        return next((row for row in self.rows if row.system is system and row.key == key), None)


def compare(
    group: ComparisonGroup, pairs: Pairs, *, baseline: str | None = None, resamples: int = RESAMPLES
) -> tuple[Comparison, ...]:
    """The systems of the table compared with the best one, and with `baseline` if that is another.

    A system that failed on documents is not compared. () if there is only one system. The best has the highest average
    F1 among those with most tasks.
    """
    systems = [system for system in group.with_pairs(pairs) if not system.has_failed(group.lang)]
    if len(systems) < 2:
        return ()
    winner = best(systems, group.lang, pairs)
    found = [Comparison(winner, _against(winner, systems, group.lang, pairs, resamples), resamples)]
    for system in named(systems, baseline):
        if system is not winner:
            rows = _against(system, systems, group.lang, pairs, resamples)
            found.append(Comparison(system, rows, resamples, best=False))
    return tuple(found)


def f1_of(
    group: ComparisonGroup, pairs: Pairs, *, resamples: int = RESAMPLES
) -> dict[tuple[str, str], tuple[float, float]]:
    """The 95 % confidence intervals of every system's F1, by its label and the score."""
    return {
        (system.label, key): interval
        for system in group.with_pairs(pairs)
        if not system.has_failed(group.lang)
        for key, interval in f1_intervals(system.documents(group.lang, pairs), resamples=resamples).items()
    }


def named(systems: Sequence[SystemRuns], name: str | None) -> list[SystemRuns]:
    """The systems that `name` means: by their label, else by a run of theirs, else by the system's own name."""
    for names in (
        lambda system: (system.label,),
        lambda system: (run.name for run in system.runs),
        lambda system: (run.record.system for run in system.runs),
    ):
        if found := [system for system in systems if name in names(system)]:
            return found
    return []


def _against(
    reference: SystemRuns, systems: Sequence[SystemRuns], lang: str, pairs: Pairs, resamples: int
) -> tuple[Compared, ...]:
    """The differences of all other systems to the reference, by task; also of averages, if both have the same tasks."""
    tasks = reference.average_of(lang, pairs)
    rows: list[tuple[SystemRuns, str, Difference]] = []
    for system in systems:
        if system is not reference:
            own, theirs = (of.documents(lang, pairs) for of in (reference, system))
            differences = paired_bootstrap(own, theirs, resamples=resamples)
            keys = [*TASKS, *(["average"] if system.average_of(lang, pairs) == tasks else [])]
            rows += [(system, key, differences[key]) for key in keys if key in differences]
    adjusted: dict[tuple[str, str], float] = {}
    for key in (*TASKS, "average"):
        family = [(system.label, found.p) for system, name, found in rows if name == key]
        for (label, _), p in zip(family, holm([p for _, p in family]), strict=True):
            adjusted[label, key] = p
    return tuple(Compared(system, key, found, adjusted[system.label, key]) for system, key, found in rows)


def best(systems: Sequence[SystemRuns], lang: str, pairs: Pairs) -> SystemRuns:
    """The system with most tasks; of several, the one with the highest mean average F1, then the first by name.

    One that failed on documents comes after all others.
    """

    def rank(system: SystemRuns) -> tuple[bool, int, float]:
        f1s = system.f1s(lang, pairs, "average")
        return system.has_failed(lang), -len(system.average_of(lang, pairs)), -sum(f1s) / len(f1s) if f1s else 0.0

    return min(systems, key=rank)
