"""Scores quoted from papers, shown beside ours: percentages as printed, never compared statistically."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3dllm.errors import UserError
from m3dllm.files import read_bytes
from m3dllm.wire import decode


@dataclass(frozen=True, slots=True)
class Quoted:
    """One system of a paper: by task (and "average") its F1 in percent and, if given, the variance."""

    system: str
    scores: dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Published:
    """The scores of a paper, by language; `source` and `errors_source`: where printed; `measured_on`: the documents."""

    name: str
    title: str
    source: str
    measured_on: str
    errors_source: str
    scores: dict[str, tuple[Quoted, ...]]
    errors: dict[str, dict[str, dict[str, float]]]


def papers() -> tuple[str, ...]:
    """The names that `read_published` knows."""
    return tuple(sorted(file.stem for file in Path(__file__).parent.glob("*.json")))


def read_published(name: str) -> Published:
    """The numbers of one paper. Raises UserError for an unknown name."""
    if name not in papers():
        raise UserError(f"--paper {name}: expected {' or '.join(papers())}")
    found = decode(read_bytes(Path(__file__).parent / f"{name}.json"), dict[str, Any])
    scores = {
        lang: tuple(Quoted(row["system"], {key: row[key] for key in row if key != "system"}) for row in rows)
        for lang, rows in found["scores"].items()
    }
    words = {key: found[key] for key in ("title", "source", "measured_on", "errors_source", "errors")}
    return Published(name=name, scores=scores, **words)
