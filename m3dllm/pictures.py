"""Images as people see them: upright, by their EXIF orientation.

All code that reads, measures, shows or draws on a frame uses this module, so that a box has one meaning everywhere.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from m3dllm.files import open_file
from m3dllm.types import Box

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""The supported formats; others are refused even if Pillow could open them."""
MOST_PIXELS = 64_000_000
"""Larger images are not decoded: they would take a gigabyte, even from a file of a few kilobytes."""
OVERHANG = 0.02
"""A box may exceed the frame by this fraction of its side, and is then clipped."""
ORIENTATION = 0x0112
TURNS: dict[int, Callable[[float, float], tuple[float, float]]] = {
    1: lambda x, y: (x, y),
    2: lambda x, y: (1 - x, y),
    3: lambda x, y: (1 - x, 1 - y),
    4: lambda x, y: (x, 1 - y),
    5: lambda x, y: (y, x),
    6: lambda x, y: (1 - y, x),
    7: lambda x, y: (1 - y, 1 - x),
    8: lambda x, y: (y, 1 - x),
}
"""Orientation -> the function from a point of the stored pixels to the upright image, both in fractions."""
_PNG_TEXT = (b"Raw profile type", b"XML:com.adobe.xmp")


def open_picture(source: Path | bytes) -> Image:
    """The image as stored, with its header read. Raises what Pillow raises, also for more than MOST_PIXELS."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit warns, and lets twice as many through
    if isinstance(source, Path):
        open_file(source).close()  # a pipe or a device is refused, not waited for
    image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    width, height = image.size
    if width * height > MOST_PIXELS:
        image.close()
        raise Image.DecompressionBombError(f"{width} x {height} pixels, more than {MOST_PIXELS // 1_000_000} million")
    return image


def orientation(image: Image, source: Path | bytes) -> int:
    """The EXIF orientation, 1 (upright) to 8; 1 if it is missing or unreadable. `source` is the image's file."""
    if image.format == "PNG" and not _png_says_more(source):
        return 1
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # broken metadata raises many kinds of errors in Pillow; the pixels may be intact
        return 1
    return found if isinstance(found, int) and found in TURNS else 1


def upright_size(image: Image, turn: int) -> tuple[int, int]:
    """(width, height) in pixels of the upright image, for this orientation. Pillow rotates TIFF itself."""
    width, height = image.size
    return (height, width) if turn > 4 and image.format != "TIFF" else (width, height)


def upright(image: Image, turn: int) -> Image:
    """The upright image, for this orientation; the same object if it is upright already."""
    from PIL.Image import Transpose

    methods = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(methods[turn]) if turn in methods else image


def load_upright(source: Path | bytes) -> Image:
    """The decoded image in RGB, upright. Raises what Pillow raises."""
    with open_picture(source) as image:
        turn = 1 if image.format == "TIFF" else orientation(image, source)
        if image.mode != "RGB":
            return upright(image.convert("RGB"), turn)
        image.load()
        return upright(image, turn)


def turn_box(box: Box, turn: int) -> Box:
    """A box on the stored pixels as a box on the upright image, both in fractions."""
    corners = TURNS[turn](box.x0, box.y0), TURNS[turn](box.x1, box.y1)
    return Box.from_corners(*corners[0], *corners[1])


def cut_to_frame(box: Box) -> Box | None:
    """The box clipped to the frame; None if it is outside, or exceeds it by more than OVERHANG."""
    if not box.has_area or overhang(box) > OVERHANG:
        return None
    inside = Box(max(box.x0, 0.0), max(box.y0, 0.0), min(box.x1, 1.0), min(box.y1, 1.0))
    return inside if inside.is_legal else None


def overhang(box: Box) -> float:
    """How far the box exceeds the frame, as a fraction of its side; 0 if it does not."""
    return max(-box.x0, -box.y0, box.x1 - 1, box.y1 - 1, 0.0)


def as_png(source: Path | bytes) -> bytes:
    """The upright image as PNG. Raises what Pillow raises."""
    written = io.BytesIO()
    load_upright(source).save(written, "PNG")
    return written.getvalue()


def _png_says_more(source: Path | bytes) -> bool:
    """Whether a PNG has a chunk that may hold an orientation: only then is the whole file read for it."""
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        return _has_exif(file)


def _has_exif(file: BinaryIO) -> bool:
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        begin = file.read(min(length, 32)) if kind in (b"tEXt", b"zTXt", b"iTXt") else b""
        if kind == b"eXIf" or begin.startswith(_PNG_TEXT):
            return True
        file.seek(length - len(begin) + 4, 1)
    return False
