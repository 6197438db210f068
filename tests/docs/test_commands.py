"""Every command that the documents show is one that the program understands, with its options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from m3dllm.cli import app
from m3dllm.config import flag, options_of
from m3dllm.options import parse_options, resolve_config
from m3dllm.registry import Broken, all_systems, find_system

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks/servers.md"]


def shown(page: Path) -> list[str]:
    """The commands of a page's code blocks, with their comments; a backslash joins two lines."""
    blocks = re.findall(r"^```(?:sh)?\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("m3dllm ")]


COMMANDS = sorted({command for page in PAGES for command in shown(page)})


def test_there_are_commands():
    assert len(COMMANDS) > 50


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command):
    """Also the options that are the system's own."""
    words = shlex.split(command, comments=True)[1:]
    found, context = typer.main.get_command(app), None
    while hasattr(found, "get_command") and words and not words[0].startswith("-"):
        context = found.make_context(None, [], resilient_parsing=True)
        name = words.pop(0)
        found = found.get_command(context, name)
        assert found is not None, f"there is no command {name}"
    context = found.make_context(None, words)
    system = context.params.get("system") or ("video-llm" if context.args else None)
    if system is not None:
        own = [*context.params.get("sources", ()), *context.args]
        first = next((i for i, word in enumerate(own) if word.startswith("--")), len(own))
        options = parse_options(own[first:])
        resolve_config(find_system(system), options, preset=context.params.get("preset"), seed=0)


FOREIGN = {"--help", "--head", "--nnodes", "--nproc-per-node", "--reasoning-parser"}
"""Of typer, Ray, torch and vLLM."""


def known_options() -> set[str]:
    """Of every command, and of every system."""
    found, commands = set(FOREIGN), [typer.main.get_command(app)]
    while commands:
        command = commands.pop()
        found.update(name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts))
        if hasattr(command, "get_command"):
            context = command.make_context(None, [], resilient_parsing=True)
            commands += [command.get_command(context, name) for name in command.list_commands(context)]
    for system in all_systems():
        if not isinstance(system, Broken) and (config := system.config_class()):
            found.update(flag(option.name) for option in options_of(config))
    return found


def test_every_option_that_the_documents_name_in_a_sentence_exists():
    known = known_options()
    for page in PAGES:
        if page.name == "CHANGELOG.md":  # names old ones too
            continue
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        named = re.findall(r"(?<![\w-])--[a-z][\w-]*", " ".join(re.findall(r"`([^`\n]+)`", prose)))
        assert set(named) - {"--name"} <= known, page.name
