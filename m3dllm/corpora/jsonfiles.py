"""JSON files of annotation tools, whose values are looked at piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from m3dllm.errors import UserError
from m3dllm.files import read_text
from m3dllm.wire import WireError, decode


def read_json(path: Path) -> Any:
    """The JSON value in the file. Raises UserError where there is none."""
    try:
        return decode(read_text(path), Any)
    except WireError as error:
        raise error.at(path) from error


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of each JSON object in the file, one a line or over several, or all in one list.

    Raises UserError at the line of what is none.
    """
    text = read_text(path)
    decoder = json.JSONDecoder()
    place, line = 0, 1
    while True:
        rest = len(text) - len(text[place:].lstrip()) if text[place : place + 1].isspace() else place
        line += text.count("\n", place, rest)
        place = rest
        if place >= len(text):
            return
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise UserError.at(path, f"is no JSON ({error})", line=line) from error
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, dict):
                raise UserError.at(path, f"holds {type(one).__name__}; expected a JSON object", line=line)
            yield line, one
        line += text.count("\n", place, end)
        place = end


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list; whatever else there is has none."""
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
    """What may be the id of something: text or a whole number; None for anything else."""
    return value if isinstance(value, str) else whole_number(value)
