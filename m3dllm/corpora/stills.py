"""Find the images that annotation tools refer to, and make frames of them."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from m3dllm.corpora.images import SUFFIXES, image_as_png, image_size, image_turn, is_tiff, suffix_of
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.turned import Turned
from m3dllm.files import file_name, inside
from m3dllm.types import Frame

Size = tuple[int, int]
GREY = "its file is missing: replaced by a grey image of its size"
FRACTIONS = "its numbers are fractions of the image, not pixels"
LARGEST = 100_000_000
"""The most pixels of a declared size; larger ones are ignored."""


def find_image(name: str, folders: Sequence[Path]) -> Path | None:
    """The image that a tool calls `name` (a path, URL or Label Studio's local file): its longest end that is a file."""
    url = urlsplit(name.replace("\\", "/"))
    plain = parse_qs(url.query)["d"][0] if "d=" in url.query else url.path if url.scheme in ("http", "https") else name
    parts = [part for part in plain.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    for words in (parts, [unquote(part) for part in parts]):
        for first in range(len(words)):
            for folder in folders:
                try:
                    found = inside(folder, "/".join(words[first:]))
                    if found.suffix.lower() in SUFFIXES and found.is_file():
                        return found
                except (ValueError, OSError):  # not a path, or too long
                    continue
    return None


def find_own(stem: str, named: str, folders: Sequence[Path], notes: Imported, where: str) -> Path | None:
    """The image of a box file: the one with the file's stem, with any suffix, else the one that it names.

    If both exist, the files were renamed, which is noted.
    """
    by_name = PurePosixPath(named.replace("\\", "/")).stem
    other = find_image(named, folders) or _of_stem(by_name, folders) if named else None
    own = None if by_name == stem and other else _of_stem(stem, folders)
    if own and other:
        why = "both an image with the file's name and the image named in it exist: the former is used"
        notes.remark("image", why, f"{where}: {named}")
    return own or other


def _of_stem(stem: str, folders: Sequence[Path]) -> Path | None:
    """The image of that stem, its suffix in lower or upper case."""
    if not stem or "\0" in stem:
        return None
    ends = [end for suffix in sorted(SUFFIXES) for end in (suffix, suffix.upper())]
    places = (f"{folder}/{stem}{end}" for folder in folders for end in ends)
    return next((Path(place) for place in places if os.path.isfile(place)), None)  # noqa: PTH113  many, and quick


def are_fractions(numbers: Sequence[float | None]) -> bool:
    """Whether box edges are fractions, not pixels: all lie within the first pixel."""
    known = [number for number in numbers if number is not None]
    return all(0 <= number <= 1 for number in known) and any(0 < number < 1 for number in known)


def still(
    document: str,
    index: int,
    image: Path | bytes | None,
    size: Size | None,
    notes: Imported,
    *,
    where: str,
    annotated: bool = True,
    time_s: float | None = None,
    reach: tuple[float, float] = (0.0, 0.0),
    again: Callable[[], bytes] | None = None,
) -> Frame | None:
    """The frame of an image, or of the `size` that a tool declares; None, noted, if neither is known.

    `again` reads an image that is not a file again when it is written, so that its bytes need not be kept.

    `reach`: the rightmost and lowest edge of its boxes, in pixels (`drawn_size` gives the size of their image).

    The size of the image file wins. Without a file, a grey image of the declared size replaces it (noted), so that the
    frame's regions can be scored.
    """
    found, turned = size, None
    if image is not None:
        try:
            found, turn = image_size(image), image_turn(image)
            by = (
                Turned.by_reach(turn, found, reach, where) if size is None else Turned.by_size(turn, found, size, where)
            )
            turned = by if turn > 1 else None
        except ValueError as error:
            notes.leave_out("image", "it is broken", f"{where}: {error}")
            image = None
    if found is None or not 0 < found[0] * found[1] <= LARGEST or min(found) <= 0:
        notes.leave_out("image", "neither its file nor its size is known", where)
        return None
    if time_s is not None and not 0 <= time_s < math.inf:
        notes.leave_out("time of a frame", "it is not a valid time", f"{where}: {time_s}")
        time_s = None
    suffix = image.suffix.lower() if isinstance(image, Path) else suffix_of(image) if image else ".png"
    path = f"frames/{file_name(document)}/{index}{'.png' if is_tiff(suffix) else suffix}"
    if image is None:
        notes.change("image", GREY, where)
    elif size not in (None, found) and not (turned and turned.stored):
        notes.change("image", "its size differs from that of its boxes: they were scaled", f"{where}: {size}, {found}")
    if turned and image:
        notes.turned[path] = turned
    if image is None:
        notes.images[path] = _grey(found)
    else:
        notes.images[path] = image_as_png(image) if is_tiff(suffix) else again or image
    return Frame(index, path, *found, annotated=annotated, time_s=time_s)


def drawn_size(frame: Frame, size: Size | None, notes: Imported) -> Size:
    """The size of the image that pixel boxes were drawn on: `size`, if the tool declares it, else that of the file."""
    upright = frame.width_px, frame.height_px
    turned = notes.turned.get(frame.path)
    return size or (turned.size(upright) if turned else upright)


@lru_cache(maxsize=64)
def _grey(size: Size) -> bytes:
    """A grey PNG with one bit per pixel: thousands are made in seconds."""
    from PIL import Image

    image = Image.new("P", size)
    image.putpalette((128, 128, 128))
    data = io.BytesIO()
    image.save(data, "PNG", bits=1)
    return data.getvalue()
