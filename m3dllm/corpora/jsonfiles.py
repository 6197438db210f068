"""The values of JSON files of annotation tools, read piece by piece; unused keys are counted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from m3dllm.corpora.imported import Imported
from m3dllm.errors import one_line

Shape = Mapping[str, Any] | list[Any] | None
"""The parts of a value that an importer knows, in the shape of the value: an object is a dict of the keys that are used
or irrelevant ("*": any key); a list holds the shape of its items; None is any value."""
_WHOLE = re.compile("0|-?[1-9][0-9]{0,17}")
_NOTHING: tuple[Any, ...] = (None, "", [], {}, False)
"""Values of unused keys that are not worth counting; 0 equals False, and so is one."""


def keys(names: str, **parts: Shape) -> dict[str, Any]:
    """The shape of an object that has these keys, with the shapes of some of them."""
    return dict.fromkeys(names.split()) | parts


def note_unread(value: Any, shape: Shape, place: str, notes: Imported) -> None:
    """Count the parts of `value`, at `place`, that are not in the shape: unused keys, parts of another kind."""
    for what, why, where in _unread(value, shape):
        if why:
            notes.leave_out(what, why, f"{place}{where}")
        else:
            notes.leave_detail(what, f"{place}{where}")


def _unread(value: Any, shape: Shape, name: str = "value") -> Iterator[tuple[str, str, str]]:
    """(what, why, place) of each part; no `why` for a key that a corpus cannot hold."""
    if shape is None or value in _NOTHING:
        return
    if isinstance(shape, list):
        if not isinstance(value, list):
            yield name, "it is not a list", ""
            return
        inner = shape[0]
        plain = {key for key, of in inner.items() if of is None} if isinstance(inner, dict) else set()
        for i, part in enumerate(value):
            if not (isinstance(part, dict) and part.keys() <= plain):  # most parts have no unused key
                yield from ((what, why, f"[{i}]{where}") for what, why, where in _unread(part, inner, name))
    elif not isinstance(value, dict):
        yield name, "it is not an object", ""
    else:
        for key, part in value.items():
            if key in shape or "*" in shape:
                inner = shape.get(key, shape.get("*"))
                if inner is not None:
                    found = _unread(part, inner, _named(key))
                    yield from ((what, why, f".{one_line(key)}{where}") for what, why, where in found)
            elif part not in _NOTHING:
                yield _named(key), "", f".{one_line(key)}"


def _named(key: str) -> str:
    return f"key {key!r:.80}"


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list; [] for any other value."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def real(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if found == found and abs(found) != float("inf") else None


def confidence(value: object) -> float | None:
    """A number from 0 to 1, or None."""
    found = real(value)
    return found if found is not None and 0 <= found <= 1 else None


def whole_number(value: object) -> int | None:
    """A whole number, also where it is written as 3.0; None for anything else."""
    found = real(value)
    return int(found) if found is not None and found == int(found) else None


def words(value: object) -> str:
    """Text, a number as text, or "" for anything else."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def key(value: object) -> int | str | None:
    """A possible id: text or a whole number; None for anything else.

    A number written as text is that number: tools write ids one way and refer to them in the other.
    """
    if not isinstance(value, str):
        return whole_number(value)
    return int(value) if _WHOLE.fullmatch(value) else value
