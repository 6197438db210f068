"""The section "I have a video" of the README, word for word."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clips import write_clip

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## I have a video")[1].split("\n## ")[0]
COMMANDS = re.findall(r"^m3dllm (extract .*?)(?: +#.*)?$", SECTION, flags=re.MULTILINE)


def test_the_section_has_its_commands():
    assert len(COMMANDS) == 4


@pytest.mark.slow
def test_the_first_command_runs_as_it_stands(tmp_path):
    pytest.importorskip("av", reason="needs av (the extra video)")
    pytest.importorskip("transformers", reason="needs transformers (the extra llm)")
    write_clip(tmp_path / "film.mp4", 60, subtitles=[(0.5, 2.0, "Ada Lovelace was born in London.")])
    command = [sys.executable, "-m", "m3dllm", *shlex.split(COMMANDS[0])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "in-domain pretrained: the embedded demonstration model" in done.stderr
    for name in ("corpus/labels.json", "run/predictions.jsonl", "joins.jsonl", "graph/film.jsonld", "page/index.html"):
        assert (tmp_path / "films/film" / name).is_file()


def test_the_extras_that_it_names_exist():
    project = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    for extras in re.findall(r"m3dllm\[([\w,]+)\]", SECTION):
        assert all(re.search(rf"^{name} = \[", project, flags=re.MULTILINE) for name in extras.split(","))
