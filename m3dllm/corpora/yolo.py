"""YOLO text files: one box a line, `class cx cy w h`, centre and size as fractions of the frame.

The class is a number, whose name stands in a file such as `classes.txt` (one name a line), or the name itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from m3dllm.corpora.imported import Imported
from m3dllm.errors import UserError
from m3dllm.files import read_text
from m3dllm.types import Box, Region

NAMES_FILES = ("classes.txt", "predefined_classes.txt")
_CLASS = re.compile("[0-9]{1,9}")


def parse_yolo(text: str, frame: int, *, names: Sequence[str], where: str, notes: Imported) -> list[tuple[str, Region]]:
    """(place, region) of each line; a line that is no box, or whose class has no name, is noted as left out."""
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        kind, *words = line.split() or [""]
        place = f"{where}:{number}: {line.strip()!r}"
        try:
            cx, cy, width, height = map(float, words)
        except ValueError:
            if kind:
                notes.leave_out("region", "it is not 'class cx cy w h'", place)
            continue
        if _CLASS.fullmatch(kind):
            if int(kind) >= len(names) or not names[int(kind)]:
                why = "its class has no name: give the file of names" if not names else "its class is past the names"
                notes.leave_out("region", why, place)
                continue
            kind = names[int(kind)]
        found.append((place, Region(frame, Box.from_cxcywh(cx, cy, width, height), kind)))
    return found


def parse_names(text: str) -> tuple[str, ...]:
    """The names of the classes 0, 1, …, one a line; empty lines at the end are none."""
    return tuple(line.strip() for line in text.rstrip().split("\n")) if text.strip() else ()


def read_names(path: Path) -> tuple[str, ...]:
    """The names in the file `path`. Raises UserError where it cannot be read or has none."""
    names = parse_names(read_text(path))
    if not any(names):
        raise UserError.at(path, "has no names; expected the name of a class on each line")
    return names
