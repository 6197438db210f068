"""Settings of scoring: modality, variants, tasks and threshold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from m3dllm.errors import UserError
from m3dllm.score.metric import metrics
from m3dllm.types import TASKS, Task

Modality = Literal["available", "all"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)


def variants() -> tuple[str, ...]:
    """The names of metrics computed on request; "iou=X" (0 <= X < 1) is one more."""
    return tuple(sorted({metric.variant for metric in metrics() if metric.variant} - {"iou=X"}))


@dataclass(frozen=True, slots=True)
class Settings:
    """How to score. Raises UserError for an unknown name.

    `modality` "available" counts a text task on the documents whose text was given and grounding on those whose frames
    were given; "all" counts every document. `variants` are some of `variants()`, or "iou=0.3". `tasks` (None: all four)
    are the tasks that the system answers: others are absent, also from the average. `threshold` drops predictions with
    a lower confidence (`confidence.at_least`); None: drops nothing.
    """

    modality: Modality = "available"
    variants: tuple[str, ...] = ()
    tasks: tuple[Task, ...] | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise UserError(f"modality '{self.modality}' is not known; expected {' or '.join(MODALITIES)}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UserError(f"threshold {self.threshold:g}: expected a number from 0 to 1")
        for task in self.tasks or ():
            if task not in TASKS:
                raise UserError(f"task '{task}' is not known; the tasks are {', '.join(TASKS)}")
        for name in self.variants:
            if not name.startswith("iou=") and name not in (known := variants()):
                raise UserError(f"variant '{name}' is not known; the variants are {', '.join(known)} and iou=X")
        _ = self.thresholds

    @property
    def scored(self) -> tuple[Task, ...]:
        """The tasks to score, in their usual order."""
        return TASKS if self.tasks is None else _in_order(tuple(self.tasks))

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The thresholds X of the variants "iou=X". Raises UserError for one that is not a number from 0 to below 1."""
        found = []
        for name in self.variants:
            if name.startswith("iou="):
                try:
                    threshold = float(name.removeprefix("iou="))
                except ValueError:
                    threshold = -1.0
                if not 0 <= threshold < 1:
                    raise UserError(f"variant '{name}': expected iou=X with a number X from 0 to below 1")
                found.append(threshold)
        return tuple(dict.fromkeys(found))


@cache
def _in_order(tasks: tuple[Task, ...]) -> tuple[Task, ...]:
    return tuple(task for task in TASKS if task in tasks)
