"""A cache of values computed from an annotation that metrics, verdicts and heuristic baselines share."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Concatenate, ParamSpec, TypeVar

from m3dllm.types import Annotation

P = ParamSpec("P")
T = TypeVar("T")
MOST = 32
"""The number of cached results: enough for the gold and the predictions of one document."""


def kept(make: Callable[Concatenate[Annotation, P], T], /) -> Callable[Concatenate[Annotation, P], T]:
    """`make`, with its last results cached by annotation and further arguments; callers must not change them.

    Annotations are compared by identity: comparing their values would cost more than `make`.
    """
    known: dict[object, tuple[Annotation, T]] = {}  # keeps the annotations too, so that their ids are not reused

    def ask(annotation: Annotation, /, *args: P.args, **kwargs: P.kwargs) -> T:
        key = (id(annotation), *args, *kwargs.values()) if args or kwargs else id(annotation)
        found = known.get(key)
        if found is None:
            if len(known) >= MOST:
                known.clear()
            found = known[key] = annotation, make(annotation, *args, **kwargs)
        return found[1]

    return update_wrapper(ask, make)
