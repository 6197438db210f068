"""The list of systems and their options, as text and as JSON. Listing loads no system."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from m3dllm.columns import columns
from m3dllm.options import option_table, presets_of
from m3dllm.registry import Broken, all_systems, find_system
from m3dllm.system import SystemSpec
from m3dllm.types import TASKS
from m3dllm.wire import pretty

KINDS = {"": "options", "advanced": "advanced options", "fit": "options of training"}
"""The kinds of options that `option_table` tells apart, in the order in which they are listed."""


def overview(*, json: bool = False) -> str:
    """Every system, one per line: tasks, modalities, languages, whether it trains, whether its extra is installed."""
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
    return "\n".join(columns(rows))


def describe(name: str, *, json: bool = False) -> str:
    """One system and its options. Raises UserError for an unknown name, or a plugin that fails on import."""
    spec = find_system(name)
    options = list(option_table(spec.config_class()))
    presets = list(presets_of(spec.config_class()))
    if json:
        return pretty(_facts(spec) | {"presets": presets, "options": options})
    lines = [
        f"{spec.name}: {spec.summary}",
        "",
        *columns([("tasks", "reads", "languages", "trains", "given", "installed"), _row(spec)[1:7]]),
    ]
    if presets:
        lines += ["", f"presets: {', '.join(presets)}"]
    for kind, title in KINDS.items():
        part = [option for option in options if option.get("for", "") == kind]
        rows = [(o["flag"], o["default"], " ".join(filter(None, (o["help"], _range(o))))) for o in part]
        lines += ["", f"{title}:", *("  " + line for line in columns(rows))] if part else []
    if not options:
        lines += ["", "It has no options."]
    return "\n".join(lines)


def _range(option: Mapping[str, str]) -> str:
    return f"({option['range']})" if "range" in option else ""


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
