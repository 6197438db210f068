"""Templates with alternatives."""

from __future__ import annotations

import re
from itertools import product


def ways(*templates: str) -> tuple[str, ...]:
    """All that the templates can say: `[a|b|]` stands for a, for b, and for nothing."""
    return tuple(dict.fromkeys("".join(said) for one in templates for said in product(*map(_choices, _pieces(one)))))


def _pieces(template: str) -> list[str]:
    return re.findall(r"\[[^\]]*\]|[^\[]+", template)


def _choices(piece: str) -> list[str]:
    return piece[1:-1].split("|") if piece.startswith("[") else [piece]
