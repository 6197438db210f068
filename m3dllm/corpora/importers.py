"""Importers: annotations of other tools as a native corpus, one module each, found by name. None is loaded here.

An importer is a function of a path (or of nothing) that returns an `Imported`. Ours are the modules of this package
with a line `IMPORTER = …`; another package names such a module, or the function itself, in the entry-point group
"m3dllm.importers". The keyword-only parameters of the function are its options on the command line; their help
is in its docstring as ``- `name`: …``. An option that is a `Choice` of types is written `--name TYPE[=NEW]`,
repeatable, its flag without the plural's s.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from m3dllm import plugins
from m3dllm.corpora.choice import Chosen, parse_choice
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.turned import BoxOrientation, read_again
from m3dllm.errors import UserError

_MARK = re.compile(r"^IMPORTER\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Importers(plugins.Modules):
    def _own(self) -> list[str]:
        folders = [Path(folder) for folder in importlib.import_module(self.package).__path__]
        found = (module.name for module in pkgutil.iter_modules(map(str, folders)))
        return [name.replace("_", "-") for name in found if any(_is_marked(folder, name) for folder in folders)]


def _is_marked(folder: Path, name: str) -> bool:
    """Whether the module's source names an importer; it is not imported."""
    files = (folder / f"{name}.py", folder / name / "__init__.py")
    return any(_MARK.search(file.read_text(encoding="utf-8")) for file in files if file.is_file())


_ORIENTATION = inspect.Parameter(
    "box_orientation", inspect.Parameter.KEYWORD_ONLY, default="auto", annotation=BoxOrientation
)
_ORIENTATION_HELP = """- `box_orientation`: whether boxes in images rotated by EXIF were drawn on the upright image
  or on the stored pixels; "auto" compares the size in the annotations, and else assumes upright."""
"""The help of an option that every importer of images has, unless it defines it itself."""
IMPORTERS = _Importers("import format", "m3dllm.corpora", "m3dllm.importers")


@dataclass(frozen=True, slots=True)
class Importer:
    """A loaded importer: its function and its docstring."""

    read: Callable[..., Imported]
    summary: str

    @property
    def takes_path(self) -> bool:
        """Whether it reads a path, or generates its documents."""
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return any(parameter.kind in kinds for parameter in inspect.signature(self.read).parameters.values())

    def by_options(self) -> Callable[..., Imported]:
        """Its function with options as on a command line: strings, numbers, paths and lists of them."""
        shaped = [_shape(parameter) for parameter in plugins.options(self.read)]
        text = inspect.getdoc(self.read) or ""

        names = {name for name, _, _ in shaped}
        turns = _ORIENTATION if names & {"images", "clips"} and _ORIENTATION.name not in names else None

        @functools.wraps(self.read)
        def read(*path: Path, **values: Any) -> Imported:
            orientation: Any = values.pop(turns.name, "auto") if turns else "auto"
            given = {name: convert(values[p.name]) for name, p, convert in shaped if p.name in values}
            for name, value in given.items():
                if isinstance(value, Path) and not value.exists():
                    raise UserError(f"--{name.replace('_', '-')} {value}: does not exist")
            imported = self.read(*path, **given)
            for choice in given.values():
                if isinstance(choice, Chosen):
                    imported.problems += choice.never()
            read_again(imported, orientation)
            return imported

        for name, parameter, _ in shaped:
            text = text.replace(f"`{name}`", f"`{parameter.name}`")
        parameters = [parameter for _, parameter, _ in shaped]
        if turns:
            parameters, text = [*parameters, turns], f"{text}\n\n{_ORIENTATION_HELP}"
        read.__doc__ = text
        read.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return read


def find_importer(name: str) -> Importer:
    """The importer of that name. Raises UserError for an unknown name, or one that cannot be loaded."""
    found = IMPORTERS.find(name)
    read = getattr(found, "IMPORTER", found)
    if not callable(read):
        raise UserError(f"import format '{name}' is not a function and has no IMPORTER: see m3dllm.corpora.importers")
    return Importer(read, plugins.summary(found if isinstance(found, ModuleType) else read))


def _shape(parameter: inspect.Parameter) -> tuple[str, inspect.Parameter, Callable[[Any], Any]]:
    """(the name in the function, the option on the command line, the converter from there to the function)."""
    name, kind = parameter.name, parameter.annotation
    parts = typing.get_args(kind) or (kind,)
    if any(typing.get_origin(part) is Mapping for part in parts):
        flag = name.removesuffix("s")
        new = parameter.replace(name=flag, annotation=tuple[str, ...], default=())
        option = f"--{flag.replace('_', '-')}"
        return name, new, lambda texts: parse_choice(texts, option=option) if texts else None
    if Path in parts and len(parts) > 2:  # a file, or its content
        return name, parameter.replace(annotation=Path | None), lambda value: value
    return name, parameter, lambda value: value
