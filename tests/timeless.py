"""The files of a run without what tells the time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from m3dllm.runs import Run
from m3dllm.types import RawOutput
from m3dllm.wire import encode_raw


def files_of(run: Path) -> dict[str, bytes]:
    """The files of a run, by name; in raw.jsonl no times."""
    names = ("documents.jsonl", "predictions.jsonl", "scores.json", "per_document.jsonl")
    raws = b"\n".join(encode_raw(_timeless(raw)) for raw in Run(run).raws().values())
    return {name: (run / name).read_bytes() for name in names} | {"raw.jsonl": raws}


def _timeless(raw: RawOutput) -> RawOutput:
    turns = [replace(turn, seconds=None, first_token_s=None, grammar_s=None, thinking_s=None) for turn in raw.turns]
    return replace(raw, turns=tuple(turns), seconds=None)
