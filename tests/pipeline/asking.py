"""A run as a command and as an experiment, and what it leaves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from m3dllm.experiment import Experiment
from tests.conftest import ROOT


def m3dllm(*words: object, env: dict[str, str] | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "m3dllm", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd)


def majority(corpus: Path, out: Path, **words) -> Experiment:
    return Experiment(system="majority", corpus=corpus, out=out, **words)


def files(run: Path) -> dict[str, bytes]:
    """The files of a run that do not tell the time."""
    names = ("documents.jsonl", "raw.jsonl", "predictions.jsonl", "scores.json", "per_document.jsonl")
    found = {name: (run / name).read_bytes() for name in names}
    return found | {p.name: p.read_bytes() for p in (run / "checkpoint").glob("*")}
