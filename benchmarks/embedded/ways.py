"""Templates with alternatives."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

WORDINGS = Path(__file__).parent / "wordings"
"""A folder of each language, in it a file of each kind of fact and of each table of prose: a template a line."""


def ways(*templates: str) -> tuple[str, ...]:
    """All that the templates can say: `[a|b|]` stands for a, for b, and for nothing."""
    return tuple(dict.fromkeys("".join(said) for one in templates for said in product(*map(_choices, _pieces(one)))))


def wordings(lang: str) -> dict[str, tuple[str, ...]]:
    """What the templates of the files can say, by the names of the files."""
    files = sorted((WORDINGS / lang).glob("*.txt"))
    return {path.stem: ways(*path.read_text(encoding="utf-8").splitlines()) for path in files}


def _pieces(template: str) -> list[str]:
    return re.findall(r"\[[^\]]*\]|[^\[]+", template)


def _choices(piece: str) -> list[str]:
    return piece[1:-1].split("|") if piece.startswith("[") else [piece]
