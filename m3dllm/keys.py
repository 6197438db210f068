"""Keys of JSON objects that a reader would pass over: those that appear twice, and those that no field has."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Hashable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

import msgspec

from m3dllm.errors import one_line

TWICE = "appears twice in one object: only the last value would count"
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')


def repeated_keys(data: bytes, value: Any = None) -> list[str]:
    """The places of the keys that appear twice in an object of the JSON `data`, decoded as `value` (None: not yet)."""
    try:
        written = msgspec.json.encode(value) if value is not None else _once(data)
        colons = data.count(b":"), written.count(b":")
        # Strings have as many colons in both, unless one is written as an escape.
        if colons[0] == colons[1] and b"\\u003" not in data:
            return []
        if _colons(data) == _colons(written):
            return []
        return list(_repeats(json.loads(data, object_pairs_hook=_Pairs), "$"))
    except (ValueError, RecursionError):  # only a more lenient parser reads it: its keys are not checked
        return []


def unknown_keys(
    value: Any, kind: Any, *, unnamed: Collection[str] = (), place: str = "$"
) -> Iterator[tuple[str, str]]:
    """(place, message) of the keys in a JSON value that the dataclass `kind`, and those in it, have no field of.

    `unnamed`: known fields that the messages do not name.
    """
    item, known = _parts_of(kind)
    if item is not None and isinstance(value, list):
        for i, part in enumerate(value):
            yield from unknown_keys(part, item, unnamed=unnamed, place=f"{place}[{i}]")
    elif known is not None and isinstance(value, dict):
        for name, part in value.items():
            if name not in known:
                expected = ", ".join(field for field in known if field not in unnamed)
                yield f"{place}.{name}", f"is not a known field and is ignored; expected {expected}"
            elif isinstance(part, list | dict):
                yield from unknown_keys(part, known[name][0], unnamed=unnamed, place=f"{place}.{name}")


@cache
def _parts_of(kind: Any) -> tuple[Any, dict[str, tuple[Any, bool]] | None]:
    """(the dataclass whose values a list of this kind holds, the `shape` of this dataclass); None: it is no such."""
    item = item_of(kind)
    return item if is_dataclass(item) else None, shape(cast("Hashable", kind)) if is_dataclass(kind) else None


@cache
def shape(kind: Hashable) -> dict[str, tuple[Any, bool]]:
    """field -> (its type, whether it must be there) of a dataclass."""
    found = cast("type[Any]", kind)
    hints = get_type_hints(found)
    return {f.name: (hints[f.name], f.default is MISSING and f.default_factory is MISSING) for f in fields(found)}


@cache
def item_of(kind: Any) -> Any:
    """The type of the items of a `tuple[item, ...]`, which may be missing (`| None`), or None."""
    if get_origin(kind) is UnionType and NoneType in get_args(kind):
        kind = get_args(kind)[0]
    return get_args(kind)[0] if get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis else None


def _colons(data: bytes) -> int:
    """The number of colons outside strings: one per key."""
    return data.count(b":") - sum(found.group().count(b":") for found in _STRING.finditer(data))


def _once(data: bytes) -> bytes:
    """JSON as Python reads it, each key once."""
    return json.dumps(json.loads(data.removeprefix(b"\xef\xbb\xbf"))).encode()


class _Pairs(dict[str, Any]):
    """An object that knows which of its keys appeared twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        seen: set[str] = set()
        self.twice = [key for key, _ in pairs if key in seen or seen.add(key)]  # type: ignore[func-returns-value]


def _repeats(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, _Pairs):
        yield from (f"{place}.{one_line(key)}" for key in value.twice)
        for key, part in value.items():
            yield from _repeats(part, f"{place}.{one_line(key)}")
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from _repeats(part, f"{place}[{i}]")
