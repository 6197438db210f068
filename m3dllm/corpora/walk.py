"""The files under a folder, those in linked folders too."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from m3dllm.corpora.imported import Imported
from m3dllm.files import natural


def walk_files(root: Path, notes: Imported) -> Iterator[Path]:
    """Every file under `root`, in the order of the paths, except hidden ones.

    Links are followed; one that leads nowhere, or back to a folder around it, is noted as skipped.
    """
    yield from _walk(root, root, (), notes)


def is_hidden(name: str) -> bool:
    """Whether a name is that of a hidden file, or of one that macOS adds to archives."""
    return (name.startswith(".") and name != "..") or name == "__MACOSX"


def shown(path: Path, root: Path) -> str:
    """A path below `root` as printable text: bytes that are not UTF-8 become question marks."""
    return readable(path.relative_to(root).as_posix())


def readable(name: str) -> str:
    """A file's name as printable text, in NFC whatever form the disk uses."""
    return unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode())


def _walk(folder: Path, root: Path, around: tuple[tuple[int, int], ...], notes: Imported) -> Iterator[Path]:
    stat = folder.stat()
    place = stat.st_dev, stat.st_ino
    if place in around:
        notes.leave_out("folder", "it is a link to a folder around it", shown(folder, root))
        return
    with os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: natural(entry.name))
    for entry in found:
        path = folder / entry.name
        if entry.is_dir():
            yield from _walk(path, root, (*around, place), notes)
        elif entry.is_file():
            yield path
        elif entry.is_symlink():
            notes.leave_out("file", "it is a link that leads nowhere", shown(path, root))
