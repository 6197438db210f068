"""From names to SystemSpecs: the systems of `m3dllm.systems`, and those of other packages by entry points.

A module or package of `m3dllm.systems` that has a SPEC is a system, one with SPECS several; importing it loads no array
or model library. A plugin's entry point, in the group "m3dllm.systems", names its SPEC; one that fails on import is
listed with its error, and raises only when used.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from m3dllm.errors import UserError
from m3dllm.system import SystemSpec

GROUP = "m3dllm.systems"


@dataclass(frozen=True, slots=True)
class Broken:
    """A plugin whose entry point could not be loaded, and why."""

    name: str
    source: str
    error: str


@cache
def built_in() -> Mapping[str, SystemSpec]:
    """The systems that come with the project, by name."""
    package = importlib.import_module(GROUP)
    modules = [importlib.import_module(f"{GROUP}.{found.name}") for found in pkgutil.iter_modules(package.__path__)]
    named = [vars(module) for module in modules]
    specs = [spec for own in named for spec in ((own["SPEC"],) if "SPEC" in own else own.get("SPECS", ()))]
    return {spec.name: spec for spec in sorted(specs, key=lambda spec: spec.name)}


def system_names() -> list[str]:
    """Every known name, built-in or of plugins, without importing a plugin."""
    return sorted({*built_in(), *(point.name for point in _points())})


def find_system(name: str) -> SystemSpec:
    """The spec of that name. Raises UserError for an unknown name or a plugin that fails on import."""
    if name in built_in():
        return built_in()[name]
    for point in _points():
        if point.name == name:
            found = _read(point)
            if isinstance(found, Broken):
                raise UserError(f"system '{name}' of {found.source} cannot be loaded: {found.error}")
            return found
    known = system_names()
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ";"
    raise UserError(f"unknown system '{name}'{hint} known: {', '.join(known)}")


def all_systems() -> Iterator[SystemSpec | Broken]:
    """Every system in the order of the names, broken plugins included."""
    points = {point.name: point for point in _points()}
    for name in system_names():
        yield built_in().get(name) or _read(points[name])


def _points() -> list[EntryPoint]:
    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def _read(point: EntryPoint) -> SystemSpec | Broken:
    source = point.dist.name if point.dist else point.value
    try:
        spec = point.load()
    except Exception as error:  # the import of a plugin may fail in any way
        return Broken(point.name, source, f"{type(error).__name__}: {error}")
    if not isinstance(spec, SystemSpec) or spec.name != point.name:
        return Broken(point.name, source, f"{point.value} is not a SystemSpec named '{point.name}'")
    return spec
