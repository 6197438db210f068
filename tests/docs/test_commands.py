"""Every command that the documents show is one that the program understands, with its options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from m3dllm.cli import app
from m3dllm.options import parse_options, resolve_config
from m3dllm.registry import find_system

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
    if system in ("cascade", "dffm", "majority", "replay", "video-llm"):
        own = [*context.params.get("sources", ()), *context.args]
        first = next((i for i, word in enumerate(own) if word.startswith("--")), len(own))
        options = parse_options(own[first:])
        resolve_config(find_system(system), options, preset=context.params.get("preset"), seed=0)
