"""What is found by its place: a module of a package, or an entry point of another, and the class in it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from typing import Any


def modules_of(path: Iterable[str]) -> list[str]:
    """The names of the modules of a package. None is imported."""
    return sorted(found.name for found in pkgutil.iter_modules(path))


def load_class(module: str, kind: type, name: str) -> Any:
    """The class in `module` that is a `kind` and has this `name`. Raises TypeError where there is none."""
    for found in vars(importlib.import_module(module)).values():
        if isinstance(found, type) and issubclass(found, kind) and getattr(found, "name", None) == name:
            return found
    raise TypeError(f"{module} has no {kind.__name__} named '{name}'")
