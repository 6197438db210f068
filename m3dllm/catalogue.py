"""What systems there are and what options they take, as text and as JSON. No system is loaded for a list."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
from typing import Any

from m3dllm.registry import Broken, all_systems, find_system
from m3dllm.system import SystemSpec
from m3dllm.types import TASKS
from m3dllm.wire import pretty


def overview(*, json: bool = False) -> str:
    """Every system, a line each: tasks, modalities, languages, whether it trains, whether its extra is installed."""
    found = list(all_systems())
    if json:
        return pretty([_facts(system) for system in found])
    rows: list[tuple[str, ...]] = [
        ("system", "tasks", "reads", "languages", "trains", "given", "installed", "what it is")
    ]
    for system in found:
        if isinstance(system, Broken):
            rows.append((system.name, *["–"] * 5, "broken", f"{system.source}: {system.error}"))
        else:
            rows.append(_row(system))
    return _columns(rows)


def describe(name: str, *, json: bool = False) -> str:
    """One system and its options. Raises UserError for an unknown name or a plugin that fails on import."""
    spec = find_system(name)
    options = list(option_table(spec.config_class()))
    presets = list(getattr(spec.config_class(), "presets", {}))
    if json:
        return pretty(_facts(spec) | {"presets": presets, "options": options})
    lines = [
        f"{spec.name}: {spec.summary}",
        "",
        _columns([("tasks", "reads", "languages", "trains", "given", "installed"), _row(spec)[1:7]]),
    ]
    if presets:
        lines += ["", f"presets: {', '.join(presets)}"]
    lines += ["", "options:" if options else "It has no options of its own."]
    lines += ["  " + line for line in _columns([(o["flag"], o["default"], o["help"]) for o in options]).splitlines()]
    return "\n".join(lines)


def option_table(config: type[Any] | None) -> list[dict[str, str]]:
    """The fields of a config dataclass as options: flag, type, default, and the docstring under the field."""
    if config is None:
        return []
    helps = _field_docstrings(config)
    return [
        {
            "flag": f"--{field.name.replace('_', '-')}",
            "type": field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type)),
            "default": _default(field),
            "help": helps.get(field.name, ""),
        }
        for field in dataclasses.fields(config)
    ]


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "(required)"
    if isinstance(value, (tuple, list, frozenset, set)):
        return ",".join(map(str, value)) or "(none)"
    return "(none)" if value is None or value == "" else str(value)


def _field_docstrings(config: type[Any]) -> dict[str, str]:
    """The string under each field of the class and of those it extends, from their source where there is one."""
    found: dict[str, str] = {}
    for kind in reversed(config.__mro__[:-1]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
        except (OSError, TypeError, SyntaxError):
            continue
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, text in itertools.pairwise(statements):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return found


def _row(spec: SystemSpec) -> tuple[str, ...]:
    missing = spec.missing
    hint = f" (pip install 'm3dllm[{spec.extra}]')" if spec.extra else ""
    return (
        spec.name,
        "all four" if spec.tasks == set(TASKS) else " ".join(task for task in TASKS if task in spec.tasks),
        " ".join(sorted(spec.modalities)),
        " ".join(sorted(spec.languages)),
        "yes" if spec.trainable else "no",
        "yes" if spec.takes_given else "no",
        f"lacks {' '.join(missing)}{hint}" if missing else "yes",
        spec.summary,
    )


def _facts(system: SystemSpec | Broken) -> dict[str, Any]:
    if isinstance(system, Broken):
        return {"name": system.name, "source": system.source, "error": system.error, "installed": False}
    return {
        "name": system.name,
        "summary": system.summary,
        "tasks": [task for task in TASKS if task in system.tasks],
        "modalities": sorted(system.modalities),
        "languages": sorted(system.languages),
        "trainable": system.trainable,
        "takes_given": system.takes_given,
        "extra": system.extra,
        "installed": not system.missing,
    }


def _columns(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
