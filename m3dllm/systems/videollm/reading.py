"""Parse replies within a conversation, from which the next question is made.

It uses the reader of `normalize`, reads only what a stage needs, and what had to be repaired, or could not be read,
becomes an Issue.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from m3dllm.normalize.salvage import complete, is_whole, without_thoughts
from m3dllm.normalize.salvage import read_object as read
from m3dllm.types import Issue
from m3dllm.wire import read_json

__all__ = ["complete", "has_shape", "is_whole", "read_object", "rows", "strings", "without_thoughts"]


def read_object(text: str, where: str, keys: Collection[str] = ()) -> tuple[dict[str, Any], tuple[Issue, ...]]:
    """(the object in `text`, Issues at the place `where`); empty, with an Issue, if there is none.

    `keys` are those that the answer may have; () for any.
    """
    value, issues = read(text, keys)
    return value if isinstance(value, dict) else {}, tuple(replace(issue, where=where) for issue in issues)


def has_shape(text: str, schema: Mapping[str, Any]) -> bool:
    """Whether a text, without its thoughts, is an object with the keys and kinds of values of `schema`.

    A server that constrains answers to a schema writes nothing else.
    """
    kinds = {"array": list, "object": dict, "string": str, "integer": int, "number": (int, float)}
    try:
        value = read_json(without_thoughts(text))
    except ValueError:
        return False
    return isinstance(value, dict) and all(
        name in value and isinstance(value[name], kinds.get(inner.get("type"), object))  # type: ignore[arg-type]
        for name, inner in schema.get("properties", {}).items()
    )


def strings(value: Any) -> list[str]:
    """The texts of a list, also those wrapped in a list or an object; nothing else."""
    return [text for item in value if isinstance(text := _text(item), str)] if isinstance(value, list) else []


def _text(item: Any) -> Any:
    if isinstance(item, list):
        return item[0] if item else None
    if isinstance(item, dict):
        return next((item[name] for name in ("text", "mention", "name") if name in item), None)
    return item


def rows(value: Any) -> list[Any]:
    """The unchanged items of a list, or the value in its place as the only item: `normalize` makes Issues of them."""
    return value if isinstance(value, list) else [] if value is None else [value]
