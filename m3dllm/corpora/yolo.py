"""YOLO text files: one box per line, `class cx cy w h`, centre and size as fractions of the frame.

The class is a number, whose name is in a file such as `classes.txt`, `obj.names` (one name per line) or `data.yaml`,
or the name itself. Lines of more numbers are polygons or rotated boxes, corner by corner, or a box and its keypoints.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from m3dllm.corpora.images import SUFFIXES
from m3dllm.corpora.imported import Imported
from m3dllm.errors import UserError
from m3dllm.files import read_text
from m3dllm.types import Box, Region
from m3dllm.wire import read_json

NAMES_FILES = ("classes.txt", "predefined_classes.txt", "data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NAMES_SUFFIXES = (".names", ".labels")
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_CLASS = re.compile(_NUMBER)
_BOX_LINE = re.compile(rf"\S+(?:\s+{_NUMBER}){{4,}}")
_SETTING = re.compile(r"[A-Za-z_][\w-]*\s*(?:=\s*\S|:(?:\s|$))")
_SCALAR = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,\[\]{}]+)\s*(?:,|$)""")
_LONGEST_NAME = 100


def parse_yolo(
    text: str,
    frame: int,
    *,
    names: Sequence[str],
    where: str,
    notes: Imported,
    cover: bool = False,
    keypoints: int = 0,
) -> list[tuple[str, Region]]:
    """(place, region) of each line; a line that is no box, or whose class has no name, is noted as skipped.

    `cover` replaces polygons and rotated boxes by their bounding boxes. `keypoints`: how many keypoint numbers follow
    each box, if known.
    """
    found = []
    for number, line in enumerate(_lines(text), start=1):
        kind, *words = line.split() or [""]
        place = f"{where}:{number}: {line.strip()!r}"
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            numbers = []
        if _is_pose(numbers) or (keypoints and len(numbers) == 4 + keypoints):
            notes.leave_detail("keypoints of a region", place)
            numbers = numbers[:4]
        is_outline = len(numbers) >= 6 and len(numbers) % 2 == 0
        if len(numbers) != 4 and not is_outline:
            if kind:
                notes.leave_out("region", "it is not 'class cx cy w h'", place)
            continue
        if is_outline and not cover:
            notes.leave_out(
                "region",
                "it is a polygon or a rotated box: '--shapes cover' replaces it by the box that covers it",
                place,
            )
            continue
        name, why = _class_name(kind, names)
        if why:
            notes.leave_out("region", why, place)
            continue
        box = Box.from_cxcywh(*numbers) if len(numbers) == 4 else _covering(numbers)
        found.append((place, Region(frame, box, name)))
    return found


def _is_pose(numbers: Sequence[float]) -> bool:
    """Whether the numbers are a box and keypoints after it: x, y, and whether it is seen (0, 1 or 2)."""
    if len(numbers) < 7 or len(numbers) % 3 != 1 or not Box.from_cxcywh(*numbers[:4]).is_legal:
        return False
    places = (*numbers[4::3], *numbers[5::3])
    return all(seen in (0, 1, 2) for seen in numbers[6::3]) and all(0 <= place <= 1 for place in places)


def _lines(text: str) -> list[str]:
    """The lines; those of an old Mac end with a CR alone."""
    lines = [line for line in text.split("\r") if line.strip()]
    return lines if "\n" not in text and all(len(line.split()) >= 5 for line in lines) else text.split("\n")


def _class_name(kind: str, names: Sequence[str]) -> tuple[str, str]:
    """(the class' name, why it has none). A number in any notation that means a whole one is a place in `names`."""
    if not _CLASS.fullmatch(kind):
        return (kind, "") if not names or kind in names else ("", "its class is not among the names")
    value = float(kind)
    if value < 0 or not value.is_integer():
        return "", "its class is not a whole number from 0"
    if value >= len(names) or not names[int(value)]:
        return (
            "",
            "its class has no name: give the file of class names"
            if not names
            else "its class is beyond the list of names",
        )
    return names[int(value)], ""


def _covering(numbers: Sequence[float]) -> Box:
    xs, ys = numbers[::2], numbers[1::2]
    return Box(min(xs), min(ys), max(xs), max(ys))


# --- settings of a whole dataset ----------------------------------------------------------------------------------


def parse_settings(text: str) -> dict[str, list[str]]:
    """setting -> its values, of a `data.yaml` or an `obj.data`: one value, a list in one line, or `- x` lines."""
    found: dict[str, list[str]] = {}
    values: list[str] = []
    for line in text.splitlines():
        if match := re.match(r"([A-Za-z_]\w*)\s*(?:=|:(?=\s|$))\s*(.*)", line):
            values = found.setdefault(match[1], [])
            value = match[2]
            if value.startswith("["):
                values += [_scalar(one[1]) for one in _SCALAR.finditer(value[1:].partition("]")[0])]
            elif value and not value.startswith("#"):
                values.append(_scalar(value))
        elif match := re.match(r"\s*-\s+(.*)", line):
            values.append(_scalar(match[1]))
    return found


# --- the names of the classes -----------------------------------------------------------------------------------------


def is_names_file(name: str) -> bool:
    """Whether a file of this name holds the names of the classes."""
    return name.lower() in NAMES_FILES or PurePosixPath(name.lower()).suffix in _NAMES_SUFFIXES


def parse_names(text: str) -> tuple[str, ...]:
    """The names of the classes 0, 1, …, one per line, or under `names` in YAML; empty lines at the end do not count.

    Raises ValueError, with the reason, for any other file.
    """
    lines = [line.strip() for line in text.rstrip().splitlines()] if text.strip() else []
    for i, line in enumerate(lines):
        if re.match(r"names\s*:", line):
            return _yaml_names(lines[i:])
    if text.lstrip().startswith(("{", "[")):
        return _json_names(text)
    for number, line in enumerate(lines, start=1):
        if why := _is_no_name(line):
            raise ValueError(f"line {number} {why}; expected the name of a class on each line, or YAML with 'names:'")
    return tuple(lines)


def _is_no_name(line: str) -> str:
    """Why a line of a file cannot be the name of a class; "" where it can."""
    if _BOX_LINE.fullmatch(line):
        return f"is a box ({line[:40]!r})"
    if _SETTING.match(line):
        return f"is a setting ({line[:40]!r})"
    if PurePosixPath(line).suffix.lower() in SUFFIXES:
        return f"is the path of an image ({line[:40]!r})"
    if line.startswith("<") or not line.isprintable() or len(line) > _LONGEST_NAME:
        return f"is not a name ({line[:40]!r})"
    return ""


def _json_names(text: str) -> tuple[str, ...]:
    try:
        value = read_json(text)
    except ValueError as error:
        raise ValueError(f"is neither names nor JSON ({error})") from error
    found = value.get("names") if isinstance(value, dict) else value
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ValueError("is JSON without a list of names")
    return tuple(found)


def _yaml_names(lines: Sequence[str]) -> tuple[str, ...]:
    """The names after `names:`, as a list or by number, in one line or over several."""
    first = lines[0].partition(":")[2].split(" #")[0].strip()
    rest = [line for line in lines[1:] if line and not line.startswith("#")]
    if first[:1] in ("[", "{"):
        text = " ".join([first, *rest])
        end = text.find("]" if first[0] == "[" else "}")
        if end < 0:
            raise ValueError(f"has an unclosed list of names, which begins {first[:40]!r}")
        items = [match[1] for match in _SCALAR.finditer(text[1:end])]
    else:
        items = []
        for line in rest:
            if not (match := re.fullmatch(r"""-\s+(.*)|((["']?)\d+\3\s*:\s+.*)""", line)):
                break
            items.append(match[1] or match[2])
    by_number = [re.fullmatch(r"""["']?(\d{1,6})["']?\s*:\s*(.*)""", item.strip()) for item in items]
    if items and all(by_number):
        named = {int(match[1]): _scalar(match[2]) for match in by_number if match}
        return tuple(named.get(i, "") for i in range(max(named) + 1))
    if not items:
        raise ValueError("has no names under 'names:'")
    return tuple(map(_scalar, items))


def _scalar(text: str) -> str:
    text = text.strip()
    if text[:1] == text[-1:] == '"' and len(text) > 1:
        return str(read_json(text))
    if text[:1] == text[-1:] == "'" and len(text) > 1:
        return text[1:-1].replace("''", "'")
    return text.split(" #")[0].strip()


def read_names(path: Path) -> tuple[str, ...]:
    """The names in the file `path`. Raises UserError where it cannot be read, has none, or is another file."""
    try:
        names = parse_names(read_text(path))
    except ValueError as error:
        raise UserError.at(path, str(error)) from error
    if not any(names):
        raise UserError.at(path, "has no names; expected the name of a class on each line")
    return names
