"""Thumbnails of frames, or the reason why one is missing (frame gone, changed or not an image).

A thumbnail is named by the hash of its frame, so that documents and later pages share it and none is made twice.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import get_ident
from typing import Any

from m3dllm.errors import UserError
from m3dllm.files import cannot_write, inside, links_out, read_bytes, sha256
from m3dllm.pictures import open_picture, orientation, upright
from m3dllm.types import Frame

SIDE_PX = 400
"""The longer side of a thumbnail; smaller frames keep their size."""
QUALITY = 72


class Thumbnails:
    """Writes thumbnails into the folder `out`, or, if it is None, into the page itself."""

    def __init__(self, out: Path | None) -> None:
        self._out = out
        self.used: set[str] = set()
        self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))

    def of(self, frames: Sequence[Frame], roots: Sequence[Path]) -> list[dict[str, Any]]:
        """For each frame, {"src": address} or {"gone": why}; a frame is sought under each of the `roots` in turn."""
        return list(self._pool.map(lambda frame: self._one(frame, roots), frames))

    def _one(self, frame: Frame, roots: Sequence[Path]) -> dict[str, Any]:
        why = "the file is missing"
        for root in roots:
            try:
                file = inside(root, frame.path)
                if not frame.sha256 and links_out(root, file):
                    return {"gone": "it is a link to a file outside the corpus"}
                data = read_bytes(file)
            except ValueError:
                return {"gone": "its path leads out of the corpus"}
            except UserError:
                continue
            digest = sha256(data)
            if frame.sha256 and digest != frame.sha256:
                why = "the file has changed since the run"
                continue
            return self._kept(digest, data)
        return {"gone": why}

    def _kept(self, digest: str, data: bytes) -> dict[str, Any]:
        name = f"thumbs/{digest[:2]}/{digest}.jpg"
        if self._out is not None:
            self.used.add(name)
        if self._out is not None and (self._out / name).is_file():
            return {"src": name}
        try:
            small = thumbnail(data)
        except ValueError:
            return {"gone": "the file is not a readable image"}
        if self._out is None:
            return {"src": f"data:image/jpeg;base64,{base64.b64encode(small).decode()}"}
        _write(self._out / name, small)
        return {"src": name}


def thumbnail(data: bytes) -> bytes:
    """The image `data` as a JPEG whose longer side has at most `SIDE_PX`. Raises ValueError if it is not an image."""
    from PIL import Image

    try:
        with open_picture(data) as image:
            turn = 1 if image.format == "TIFF" else orientation(image, data)
            share = min(1, SIDE_PX / max(image.size))
            size = max(1, round(share * image.width)), max(1, round(share * image.height))
            image.draft("RGB", size)
            small = upright(image.convert("RGB").resize(size, Image.Resampling.BICUBIC, reducing_gap=2), turn)
    except (OSError, SyntaxError, EOFError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"no image: {error}") from error
    written = io.BytesIO()
    small.save(written, "JPEG", quality=QUALITY)
    return written.getvalue()


def _write(path: Path, data: bytes) -> None:
    """Write a thumbnail atomically, without waiting for the disk.

    Threads that make the same one each use their own temporary name.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
