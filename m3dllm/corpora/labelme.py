"""LabelMe JSON: the rectangles drawn in one image, in its pixels, and often the image itself as base64.

Corners may stand in any order. Polygons, circles and other shapes that are no boxes are left out by name.
"""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from typing import Any

from m3dllm.corpora.imported import Imported
from m3dllm.types import Box, Region
from m3dllm.wire import WireError, decode


@dataclass(frozen=True, slots=True)
class LabelMe:
    """A file: its shapes as they stand, (width, height) of its image, and the image itself; None where not said."""

    shapes: tuple[Any, ...]
    size: tuple[float, float] | None
    image: bytes | None

    def regions(
        self, frame: int, *, size: tuple[float, float], where: str, notes: Imported
    ) -> list[tuple[str, Region]]:
        """(place, region) of each rectangle in an image of `size` pixels; other shapes are noted as left out."""
        found = []
        for i, shape in enumerate(self.shapes):
            place = f"{where}: $.shapes[{i}]"
            if not isinstance(shape, dict):
                notes.leave_out("region", "it is no object", place)
            elif (kind := shape.get("shape_type") or "rectangle") != "rectangle":
                notes.leave_out("region", "its shape is no rectangle", f"{place}: {kind!r}")
            elif (corners := _corners(shape.get("points"))) is None:
                notes.leave_out("region", "its points are not two opposite corners", place)
            elif not isinstance(name := shape.get("label"), str) or not name.strip():
                notes.leave_out("region", "it has no type", place)
            else:
                found.append((place, Region(frame, Box.from_corners(*corners, size=size), name.strip())))
        return found


def parse_labelme(data: bytes) -> LabelMe:
    """The LabelMe file of these bytes. Raises ValueError, which says why, where it is none."""
    try:
        value = decode(data.removeprefix(b"\xef\xbb\xbf"), Any)
    except WireError as error:
        raise ValueError(f"it is no JSON ({error})") from error
    if not isinstance(value, dict) or not isinstance(shapes := value.get("shapes"), list):
        raise ValueError("it is no LabelMe file: it has no list of shapes")
    size = _number(value.get("imageWidth")), _number(value.get("imageHeight"))
    width, height = size
    return LabelMe(
        tuple(shapes),
        (width, height) if width and height and width > 0 and height > 0 else None,
        _image(value.get("imageData")),
    )


def _image(text: object) -> bytes | None:
    if not isinstance(text, str):
        return None
    try:
        return base64.b64decode(text) or None
    except (binascii.Error, ValueError):  # ValueError: characters beyond ASCII
        return None


def _corners(points: object) -> tuple[float, float, float, float] | None:
    """Two opposite corners, of two points or of the four corners of a rectangle that stands upright."""
    pairs = [_pair(point) for point in points] if isinstance(points, list) else []
    xs, ys = [pair[0] for pair in pairs if pair], [pair[1] for pair in pairs if pair]
    if len(pairs) not in (2, 4) or len(xs) < len(pairs):
        return None
    corners = min(xs), min(ys), max(xs), max(ys)
    upright = {(x, y) for x in (corners[0], corners[2]) for y in (corners[1], corners[3])}
    if len(pairs) == 4 and set(zip(xs, ys, strict=True)) != upright:
        return None
    return corners


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
