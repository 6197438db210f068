"""Videos in the folder of a corpus or a page.

A hard link takes no space, and stays valid when the folder is moved or sent; but it needs the same disk. Videos are
copied only on request.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from m3dllm.files import cannot_write, hard_link

Put = Literal["link", "copy", "none"]
"""How a video is put into a folder."""
SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mkv", ".webm", ".mov", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".ogv", ".3gp")
)
PLAYED = frozenset((".mp4", ".m4v", ".mkv", ".webm", ".mov", ".ogv", ".3gp"))
"""The containers that some browser can play."""


def put_video(source: Path, target: Path, how: Put) -> str | None:
    """Put the file `source` at the new path `target`; returns None, or why it was not put there.

    Raises UserError if a copy cannot be written.
    """
    if how == "none":
        return None
    if not source.is_file():
        return "the file is gone"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if how == "copy":
            shutil.copyfile(source, target)
            return None
    except OSError as error:
        raise cannot_write(target, error) from error
    if hard_link(source, target):
        return None
    size = source.stat().st_size / 1e6
    return f"it is on another disk: --videos copy makes a copy of {size:,.0f} MB"
