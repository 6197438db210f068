"""Images that tools name in many ways, as the frames of documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from m3dllm.corpora.images import SUFFIXES, image_size
from m3dllm.corpora.imported import Imported
from m3dllm.files import file_name, inside
from m3dllm.types import Frame

Size = tuple[int, int]


def find_image(name: str, folders: Sequence[Path]) -> Path | None:
    """The image that a tool calls `name` (a path, a URL, Label Studio's local file): the end of it that is a file."""
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
                except (ValueError, OSError):  # no path, or one that is too long
                    continue
    return None


def still(
    document: str,
    index: int,
    image: Path | None,
    size: Size | None,
    notes: Imported,
    *,
    where: str,
    annotated: bool = True,
    time_s: float | None = None,
) -> Frame | None:
    """The frame of a document that an image file is, or that a tool says the `size` of; None, noted, without both.

    The file's own size counts. A frame without a file is kept for its regions, and noted.
    """
    found = size
    if image is None:
        why = (
            "there is no file of it: its frame stands without" if size else "there is neither a file of it nor its size"
        )
        notes.leave_out("image", why, where)
    else:
        try:
            found = image_size(image)
            if size not in (None, found):
                notes.change(
                    "image", "it has another size than its boxes: they were scaled", f"{where}: {size}, {found}"
                )
        except ValueError as error:
            notes.leave_out("image", "it is broken", f"{where}: {error}")
            image = None
    if found is None or min(found) <= 0:
        return None
    suffix = image.suffix.lower() if image else Path(where).suffix.lower()
    path = f"frames/{file_name(document)}/{index}{suffix if suffix in SUFFIXES else '.jpg'}"
    if image:
        notes.images[path] = image
    return Frame(index, path, *found, annotated=annotated, time_s=time_s)
