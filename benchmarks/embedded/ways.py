"""Templates with alternatives."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

WORDINGS = Path(__file__).parent / "wordings"
"""One folder per language, with a file for each kind of fact and each table of prose: one template per line."""


def ways(*templates: str) -> tuple[str, ...]:
    """All expansions of the templates: `[a|b|]` stands for a, b, or nothing."""
    return tuple(dict.fromkeys("".join(said) for one in templates for said in product(*map(_choices, _pieces(one)))))


def wordings(lang: str) -> dict[str, tuple[str, ...]]:
    """file name -> all expansions of its templates."""
    files = sorted((WORDINGS / lang).glob("*.txt"))
    return {path.stem: ways(*path.read_text(encoding="utf-8").splitlines()) for path in files}


def _pieces(template: str) -> list[str]:
    return re.findall(r"\[[^\]]*\]|[^\[]+", template)


def _choices(piece: str) -> list[str]:
    return piece[1:-1].split("|") if piece.startswith("[") else [piece]
