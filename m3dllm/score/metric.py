"""Metrics: a name, a task, and a function from gold and prediction of a document to counts.

A module of `m3dllm.score` registers metrics in `METRICS`; another package names a `Metric`, or a tuple of them, by
an entry point of the group "m3dllm.metrics". They are computed, micro-averaged over documents, and appear
in scores.json and reports; those with a `variant` only on request.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Any, TypeVar

from m3dllm.errors import UserError
from m3dllm.types import PRF, TASKS, Annotation, Task

T = TypeVar("T")
GROUP = "m3dllm.metrics"
Counts = Mapping[str, PRF]
"""Counts by their reported names, such as "entity" or "chain.muc"."""


@dataclass(frozen=True, slots=True)
class Sides:
    """The arguments of a metric: gold and prediction of one document, and what counts in it."""

    gold: Annotation
    pred: Annotation
    frames: Collection[int] | None = None
    """The annotated frames; None: all."""
    symmetric: Collection[str] = ()
    """The relation types that are compared unordered."""
    thresholds: tuple[float, ...] = ()
    """The X of the variants "iou=X"."""
    _made: dict[Any, Any] = field(default_factory=dict)

    def both(self, make: Callable[[Annotation], T]) -> tuple[T, T]:
        """(`make(gold)`, `make(pred)`), computed once for all metrics of the task."""
        if make not in self._made:
            self._made[make] = make(self.gold), make(self.pred)
        found: tuple[T, T] = self._made[make]
        return found


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, registered under the name by which it is reported, such as "entity" or "relation.any_match"."""

    name: str
    task: Task
    """The task whose prediction it gets; it counts on the documents on which the task does."""
    count: Callable[[Sides], PRF | Counts]
    """The counts of a document: one, or several by their reported names."""
    variant: str | None = None
    """The name that requests it (`--variant`); None: it is always computed."""
    headline: bool = False
    """Whether it is in the main table. The average is always over the four tasks."""
    means: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Scores that are means of others, by their reported names: of precisions, recalls and F1."""
    needs: tuple[Task, ...] = ()
    """Other tasks that must also count on the document."""

    def __post_init__(self) -> None:
        if odd := {self.task, *self.needs} - set(TASKS):
            raise ValueError(f"metric {self.name!r}: {sorted(odd)} are not among {', '.join(TASKS)}")


@cache
def metrics() -> tuple[Metric, ...]:
    """Every metric, in the order of the tasks. Raises UserError for one of another package that cannot be loaded."""
    found = list(own_metrics())
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        source = point.dist.name if point.dist else point.value
        try:
            loaded = point.load()
        except Exception as error:  # the import of a plugin may fail in any way
            why = f"{type(error).__name__}: {error}"
            raise UserError(f"metric '{point.name}' of {source} cannot be loaded: {why}") from error
        for metric in loaded if isinstance(loaded, tuple) else (loaded,):
            if not isinstance(metric, Metric):
                raise UserError(f"metric '{point.name}' of {source}: {point.value} is not a Metric")
            if any(metric.name == other.name for other in found):
                raise UserError(f"metric '{metric.name}' of {source}: a metric with this name already exists")
            found.append(metric)
    return tuple(sorted(found, key=lambda metric: place(metric.name)))


@cache
def own_metrics() -> tuple[Metric, ...]:
    """The metrics of the modules of this package."""
    package = importlib.import_module("m3dllm.score")
    modules = [
        importlib.import_module(f"m3dllm.score.{found.name}") for found in pkgutil.iter_modules(package.__path__)
    ]
    found = [metric for module in modules for metric in vars(module).get("METRICS", ())]
    return tuple(sorted(found, key=lambda metric: place(metric.name)))


@cache
def means() -> Mapping[str, tuple[str, ...]]:
    """The scores that are the mean of others: of their precisions, of their recalls and of their F1."""
    return {name: parts for metric in metrics() for name, parts in metric.means.items()}


def headline() -> tuple[str, ...]:
    """The metrics of the main table: the tasks, and headline metrics of other packages."""
    return tuple(dict.fromkeys((*TASKS, *(metric.name for metric in metrics() if metric.headline))))


def place(name: str) -> int:
    """The sort key of a reported name: in the order of the tasks, others after them."""
    task = name.split(".")[0]
    return TASKS.index(task) if task in TASKS else len(TASKS)
