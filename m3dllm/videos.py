"""Videos beside what is made of their documents, a corpus or a page.

A hard link takes no room, and stays whole when the folder is moved or sent; but it needs the same disk. Gigabytes are
copied only where that was asked for.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from m3dllm.files import cannot_write, hard_link

Put = Literal["link", "copy", "none"]
"""How a video comes into a folder."""
SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mkv", ".webm", ".mov", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".ogv", ".3gp")
)
PLAYED = frozenset((".mp4", ".m4v", ".mkv", ".webm", ".mov", ".ogv", ".3gp"))
"""The containers of which some browser plays something."""


def put_video(source: Path, target: Path, how: Put) -> str | None:
    """Put the file `source` at `target`, a new place; why not, in words, where it is not there then.

    Raises UserError where a copy cannot be written.
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
