"""LabelMe JSON: the shapes drawn in one image, in its pixels, and often the image itself as base64.

Rectangles are boxes, their corners in any order. Other shapes that have an area are skipped by name, or covered by a
box where that is asked for. What a corpus has no place for (groups, flags, descriptions) is counted.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from m3dllm.corpora.documents import decode_value
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.jsonfiles import keys, note_unread
from m3dllm.corpora.stills import FRACTIONS, are_fractions
from m3dllm.files import other_encoding
from m3dllm.types import Box, Region
from m3dllm.wire import WireError

AREAS = frozenset(
    ("polygon", "circle", "mask", "ai_mask", "ai_polygon", "oriented_rectangle", "rotation", "rectangle", "ellipse")
)
"""The shapes of which a box can be made; points and lines have no area."""
_SHAPE = keys("label points shape_type mask line_color fill_color", flags={})
_FILE = keys("version imagePath imageData imageHeight imageWidth lineColor fillColor", flags={})
Point = tuple[float, float]
Corners = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class LabelMe:
    """A file: its shapes as they stand, (width, height) of its image, and the image itself; None where not said.

    `image_path` is the image that it names, "" where it names none; `about` is the object without the two.
    """

    shapes: tuple[Any, ...]
    size: tuple[float, float] | None
    image: bytes | None
    image_path: str = ""
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def reach(self) -> Point:
        """The furthest right and down of all points of its shapes, in pixels."""
        found = [
            point for shape in self.shapes if isinstance(shape, dict) for point in _points(shape.get("points")) or ()
        ]
        return max((x for x, _ in found), default=0.0), max((y for _, y in found), default=0.0)

    def regions(
        self, frame: int, *, size: tuple[float, float], where: str, notes: Imported, cover: bool = False
    ) -> list[tuple[str, Region]]:
        """(place, region) of each rectangle in an image of `size` pixels; other shapes are noted as skipped.

        `cover` makes a box of every shape that has an area: the one that covers it.
        """
        found = []
        for i, shape in enumerate(self.shapes):
            place = f"{where}: $.shapes[{i}]"
            if not isinstance(shape, dict):
                notes.leave_out("region", "it is not an object", place)
                continue
            corners = corners_of(shape.get("points"))
            kind = shape.get("shape_type") or ("rectangle" if corners else "polygon")  # old files do not say it
            covers = cover and isinstance(kind, str) and kind in AREAS
            corners = corners if kind == "rectangle" else None
            if corners is None and covers:
                corners = _covering(kind, shape.get("points"))
            if kind != "rectangle" and not covers:
                notes.leave_out("region", "its shape is not a rectangle", f"{place}: {kind!r}{_remedy(kind)}")
            elif corners is None:
                notes.leave_out("region", "its points are not two opposite corners", place)
            elif are_fractions(corners):
                notes.leave_out("region", FRACTIONS, place)
            elif not isinstance(name := shape.get("label"), str) or not name.strip():
                notes.leave_out("region", "it has no type", place)
            else:
                found.append((place, Region(frame, Box.from_corners(*corners, size=size), name.strip())))
                if kind != "rectangle" or corners_of(shape.get("points")) is None:
                    notes.change(
                        "region",
                        "its shape is not a rectangle: replaced by the box that covers it",
                        f"{place}: {kind!r}",
                    )
        return found

    def note_extras(self, where: str, notes: Imported) -> None:
        """Count what the file says beyond types and boxes."""
        note_unread(self.about, _FILE, f"{where}: $", notes)
        for i, shape in enumerate(self.shapes):
            if isinstance(shape, dict):
                note_unread(shape, _SHAPE, f"{where}: $.shapes[{i}]", notes)


def parse_labelme(data: bytes) -> LabelMe:
    """The LabelMe file of these bytes. Raises ValueError, which says why, where it is none."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    if problem := other_encoding(data):
        raise ValueError(f"it {problem}")
    try:
        value = decode_value(data)
    except WireError as error:
        raise ValueError(f"it cannot be parsed ({error})") from error
    if not isinstance(value, dict) or not isinstance(shapes := value.get("shapes"), list):
        raise ValueError("it is not a LabelMe file: it has no list of shapes")
    size = _number(value.get("imageWidth")), _number(value.get("imageHeight"))
    width, height = size
    named = value.get("imagePath")
    return LabelMe(
        tuple(shapes),
        (width, height) if width and height and width > 0 and height > 0 else None,
        _image(value.get("imageData")),
        named if isinstance(named, str) else "",
        {key: part for key, part in value.items() if key not in ("shapes", "imageData")},
    )


def _remedy(kind: object) -> str:
    return (
        " ('--shapes cover' replaces it by the box that covers it)" if isinstance(kind, str) and kind in AREAS else ""
    )


def _image(text: object) -> bytes | None:
    if not isinstance(text, str):
        return None
    try:
        return base64.b64decode(text) or None
    except (binascii.Error, ValueError):  # ValueError: characters beyond ASCII
        return None


def corners_of(points: object) -> Corners | None:
    """Two opposite corners, of two points or of the four corners of a rectangle that stands upright."""
    pairs = _points(points)
    if pairs is None or len(pairs) not in (2, 4):
        return None
    corners = _around(pairs)
    upright = {(x, y) for x in (corners[0], corners[2]) for y in (corners[1], corners[3])}
    return None if len(pairs) == 4 and set(pairs) != upright else corners


def _covering(kind: str, points: object) -> Corners | None:
    """Two opposite corners of the box that covers a shape. A circle is its centre and a point on it."""
    pairs = _points(points)
    if pairs is None or len(pairs) < 2:
        return None
    if kind == "circle":
        if len(pairs) != 2:
            return None
        (x, y), edge = pairs
        radius = math.dist((x, y), edge)
        return x - radius, y - radius, x + radius, y + radius
    return _around(pairs)


def _around(pairs: Sequence[tuple[float, float]]) -> Corners:
    xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    return min(xs), min(ys), max(xs), max(ys)


def _points(points: object) -> list[tuple[float, float]] | None:
    """The points as pairs of numbers; None where one is none."""
    pairs = [_pair(point) for point in points] if isinstance(points, list) else []
    found = [pair for pair in pairs if pair]
    return found if found and len(found) == len(pairs) else None


def _pair(point: object) -> tuple[float, float] | None:
    if not isinstance(point, list) or len(point) != 2:
        return None
    x, y = map(_number, point)
    return None if x is None or y is None else (x, y)


def _number(value: object) -> float | None:
    """A finite number, or None."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
