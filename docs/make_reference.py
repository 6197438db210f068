"""The pages of the reference that the program itself knows: its commands and options, and its systems.

    python docs/make_reference.py

`docs/reference/{commands,systems}.md` are kept beside the pages written by hand, so that they can be read without
a build; a test compares them with the program.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from m3dllm.catalogue import KINDS
from m3dllm.cli import app
from m3dllm.commands import ADVANCED, section_of
from m3dllm.options import option_table, presets_of
from m3dllm.registry import Broken, all_systems
from m3dllm.system import SystemSpec
from m3dllm.types import TASKS

REFERENCE = Path(__file__).parent / "reference"
OURS = "m3dllm."


def commands() -> str:
    """Every command, in the order of the workflow, with its arguments and options."""
    root = typer.main.get_command(app)
    head = [
        "# Commands\n",
        "Generated from the program. Options of a system follow those of `run`, `fit`, `predict` and `extract` as",
        "`--name value`: [Systems](systems.md). Results go to stdout, progress and warnings to stderr. Exit code",
        "0: success; 2: an error that you can fix, reported in one line, or failed documents; 1: a bug in the program.",
    ]
    return "\n".join([*head, *_group(root, "m3dllm", 2)]) + "\n"


def systems() -> str:
    """Every system that travels with the program, with its options: first those that most runs set."""
    lines = ["# Systems", "", "Generated from the program: `m3dllm systems NAME` prints the same of one."]
    for spec in all_systems():
        if not isinstance(spec, Broken) and spec.factory.startswith(OURS):
            lines += _system(spec)
    return "\n".join(lines) + "\n"


def _group(group: Any, name: str, depth: int) -> Iterator[str]:
    context = group.make_context(name, [], resilient_parsing=True)
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        yield from ("", f"{'#' * depth} {name} {word}", "", _text(command.help))
        for advanced in (False, True):
            shown = [one for one in command.params if one.name != "help" and (section_of(one) == ADVANCED) == advanced]
            rows = [(_flags(one), _text(one.help), _default(one)) for one in shown]
            yield from ("", f"{ADVANCED}:") if advanced and rows else ()
            yield from _table(("option", "what it does", "default"), rows)
        if hasattr(command, "list_commands"):
            yield from _group(command, f"{name} {word}", depth + 1)


def _flags(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    return " ".join(f"`{word}`" for word in (*parameter.opts, *parameter.secondary_opts))


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    default = parameter.default
    if callable(default) or default is None or default is False or default == [] or default == ():
        return ""
    return f"`{getattr(default, 'value', default)}`"


def _system(spec: SystemSpec) -> Iterator[str]:
    tasks = "all four" if spec.tasks == set(TASKS) else ", ".join(task for task in TASKS if task in spec.tasks)
    facts = [
        f"tasks: {tasks}",
        f"reads {' and '.join(sorted(spec.modalities))}",
        "trains" if spec.trainable else "does not train",
    ]
    facts += [f"extra `{spec.extra}`"] if spec.extra else []
    yield from ("", f"## {spec.name}", "", f"{spec.summary}. {'; '.join(facts).capitalize()}.")
    config = spec.config_class()
    if presets := list(presets_of(config)):
        yield from ("", f"Presets (`--preset`): {', '.join(f'`{preset}`' for preset in presets)}.")
    table = option_table(config)
    kinds = {option.get("for", "") for option in table}
    for kind, title in KINDS.items():
        if kind in kinds:
            yield from ("", f"### {spec.name}: {title}")
            yield from _table(
                ("option", "what it does", "default"),
                [(f"`{o['flag']}`", _help(o), f"`{o['default']}`") for o in table if o.get("for", "") == kind],
            )


def _help(option: dict[str, str]) -> str:
    return _text(option["help"]) + (f" ({option['range']})" if "range" in option else "")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    if rows:
        yield from ("", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}")
        for row in rows:
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _text(text: Any) -> str:
    return " ".join((text or "").replace("\b", "").split())


if __name__ == "__main__":
    for name, page in {"commands": commands(), "systems": systems()}.items():
        (REFERENCE / f"{name}.md").write_text(page, encoding="utf-8")
