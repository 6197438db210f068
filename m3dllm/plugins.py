"""Modules found by name: each a file in a package of ours, or named by an entry point of another package.

Listing them imports nothing. The options of a module's function are its keyword-only parameters, and their help is
in its docstring, as ``- `name`: …``.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from m3dllm.errors import UserError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_HELP = re.compile(r"^ *- ((?:`\w+`(?:, )?)+): (.*(?:\n(?! *- `|\s*$).*)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Modules:
    """The modules of one kind: its name, the package with ours, the entry-point group."""

    noun: str
    package: str
    group: str
    besides: tuple[str, ...] = ()
    """Modules of the package that are not of this kind."""

    def names(self) -> list[str]:
        """Every name, without importing a module: `label_studio.py` is named `label-studio`; `_x.py` is ignored."""
        return sorted({*self._own(), *(point.name for point in self._points())})

    def find(self, name: str) -> Any:
        """The module of that name. Raises UserError for an unknown name, or one that fails on import."""
        if name in self._own():
            return importlib.import_module(f"{self.package}.{name.replace('-', '_')}")
        for point in self._points():
            if point.name == name:
                source = point.dist.name if point.dist else point.value
                try:
                    return point.load()
                except Exception as error:  # the import of a plugin may fail in any way
                    why = f"{type(error).__name__}: {error}"
                    raise UserError(f"{self.noun} '{name}' of {source} cannot be loaded: {why}") from error
        known = self.names()
        close = get_close_matches(name, known, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ";"
        raise UserError(f"unknown {self.noun} '{name}'{hint} known: {', '.join(known)}")

    def _own(self) -> list[str]:
        folder = importlib.import_module(self.package).__path__
        found = (module.name for module in pkgutil.iter_modules(folder))
        return [name.replace("_", "-") for name in found if not name.startswith("_") and name not in self.besides]

    def _points(self) -> list[EntryPoint]:
        from importlib.metadata import entry_points  # slow to load, and `--help` needs none

        return sorted(entry_points(group=self.group), key=lambda point: point.name)


def class_in(found: Any, kind: type, name: str) -> Any:
    """The class of that kind and `name` in a module, or the one that an entry point names.

    Raises UserError if there is none.
    """
    for one in [found] if isinstance(found, type) else vars(found).values():
        if isinstance(one, type) and issubclass(one, kind) and getattr(one, "name", None) == name:
            return one
    raise UserError(f"{found!r} is not a {kind.__name__} named '{name}', and contains none")


def summary(module: Any) -> str:
    """The first line of the module's docstring."""
    return (inspect.getdoc(module) or "").partition("\n")[0]


def options(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The keyword-only parameters of a function, their annotations evaluated."""
    found = inspect.signature(function, eval_str=True).parameters.values()
    return [parameter for parameter in found if parameter.kind is inspect.Parameter.KEYWORD_ONLY]


def option_helps(function: Callable[..., Any]) -> dict[str, str]:
    """option -> its help, from the docstring of the function."""
    found = {}
    for match in _HELP.finditer(inspect.getdoc(function) or ""):
        for name in re.findall(r"`(\w+)`", match[1]):
            found[name] = " ".join(match[2].split())
    return found
