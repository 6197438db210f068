"""Breaking JSON values in one place, for hypothesis: what an importer or a check has to survive."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from tests.strategies import json_values

Path = tuple[str | int, ...]


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """The place of every value inside `value`, itself left out."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*at, key)
        yield from paths(part, (*at, key))


def replaced(value: Any, at: Path, new: Any) -> Any:
    """A copy of `value` with another value at that place; DELETED takes it out."""
    made = copy.deepcopy(value)
    inner = made
    for key in at[:-1]:
        inner = inner[key]
    if new is DELETED:
        del inner[at[-1]]
    else:
        inner[at[-1]] = new
    return made


DELETED = object()


@st.composite
def mutated(draw: st.DrawFn, value: Any, *, most: int = 3) -> Any:
    """`value` with one to `most` of its places deleted, or filled with near misses or any JSON."""
    for _ in range(draw(st.integers(1, most))):
        places = list(paths(value))
        if not places:
            return value
        odd = st.sampled_from(
            ["", "L0", "en", "zh", "PER", 0, 1, -1, 10**9, 10**30, 0.5, None, True, [], {}, [[]], "\x00"]
        )
        other = at(value, draw(st.sampled_from(places)))
        new = draw(st.one_of(st.just(DELETED), odd, json_values(), st.just(other)))
        value = replaced(value, draw(st.sampled_from(places)), new)
    return value


def at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value
