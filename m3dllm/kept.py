"""What is made of an annotation, and asked for by metrics, verdicts and heuristic baselines alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Concatenate, ParamSpec, TypeVar

from m3dllm.types import Annotation

P = ParamSpec("P")
T = TypeVar("T")
MOST = 32
"""Results that are kept: those of the gold and the predictions of one document are asked for one after the other."""


def kept(make: Callable[Concatenate[Annotation, P], T], /) -> Callable[Concatenate[Annotation, P], T]:
    """`make`, with what it made of the last annotations (and of what else it was given); nobody may change that.

    Annotations are told apart by being the same object: comparing them would cost more than `make`.
    """
    known: dict[object, tuple[Annotation, T]] = {}  # holds the annotations too, so that no other one gets their id

    def ask(annotation: Annotation, /, *args: P.args, **kwargs: P.kwargs) -> T:
        key = (id(annotation), *args, *kwargs.values()) if args or kwargs else id(annotation)
        found = known.get(key)
        if found is None:
            if len(known) >= MOST:
                known.clear()
            found = known[key] = annotation, make(annotation, *args, **kwargs)
        return found[1]

    return update_wrapper(ask, make)
