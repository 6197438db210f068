"""Detect the format from file names and first lines, print it, and import.

Only formats of this package are detected, and only where there is no doubt.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from m3dllm.corpora.images import SUFFIXES
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.importers import find_importer
from m3dllm.corpora.yolo import is_names_file
from m3dllm.errors import UserError
from m3dllm.files import other_encoding
from m3dllm.wire import WireError, decode

Guess = tuple[str, str]
"""(format, why)."""
_MOST_FILES = 2000
_MOST_BYTES = 64 * 2**20
_HEAD = 4096
_BY_SUFFIX = {".ann": "brat", ".conllu": "corefud", ".parquet": "parquet", ".eaf": "elan"}
_TAGGED = re.compile(r"^\S+[ \t].*?(?:O|[BIESLUMW][-_]\S+)[ \t\r]*$", re.MULTILINE)
log = logging.getLogger(__name__)


def read_auto(path: Path) -> Imported:
    """The documents at `path`, by the importer of the detected format, with its defaults.

    Raises UserError if no known format is found.
    """
    name, why = guess(path)
    log.info("%s: read as %s, for %s ('m3dllm import %s' has options)", path, name, why, name)
    return find_importer(name).read(path)


def guess(path: Path) -> Guess:
    """The format of the files at `path`, and why. Raises UserError if no known format is found."""
    if not path.exists():
        raise UserError.at(path, "does not exist; expected a file or folder of annotations")
    files = [path] if path.is_file() else list(_files(path))
    if path.is_dir() and (path / "labels.json").is_file() and any(path.glob("*.jsonl")):
        raise UserError.at(path, "is already a native corpus: pass it as --corpus")
    for name in ("dataset_dict.json", "state.json"):
        if path.is_dir() and (path / name).is_file():
            return "hf-datasets", f"it has {name}, as save_to_disk of Hugging Face datasets writes it"
    suffixes = {file.suffix.lower(): file for file in reversed(files)}
    for suffix, name in _BY_SUFFIX.items():
        if suffix in suffixes:
            return name, f"it has {suffix} files ({suffixes[suffix].name})"
    drawn: Guess | None = None
    for file in files:
        if found := _by_content(file, files):
            if found[0] != "labelme":  # LabelMe files also lie beside those of other formats
                return found
            drawn = drawn or found
    if drawn:
        return drawn
    if suffixes.keys() & SUFFIXES and any(is_names_file(file.name) for file in files):
        return "yolo-dataset", "it has images and a file of class names"
    for file in files:
        if file.suffix.lower() not in SUFFIXES and (problem := _packed(file)):
            raise UserError.at(file, f"{problem}; or name its format")
    shown = ", ".join(sorted(filter(None, suffixes))[:8]) or "none"
    raise UserError.at(
        path,
        f"is in no format that is recognized (its files: {shown}): name the format; 'm3dllm import --help' lists them",
    )


def _files(folder: Path) -> Iterator[Path]:
    found = (file for file in folder.rglob("*") if file.is_file())
    return islice(sorted(file for file in found if not _is_hidden(file.relative_to(folder))), _MOST_FILES)


def _packed(file: Path) -> str | None:
    """Why a file is not UTF-8 text (gzipped, or UTF-16), by its first bytes; None if it may be."""
    with file.open("rb") as opened:
        return other_encoding(opened.read(_HEAD))


def _is_hidden(inside: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in inside.parts)


def _by_content(file: Path, beside: Iterable[Path]) -> Guess | None:
    """The format by a file's first lines, or by the keys of its JSON."""
    suffix = file.suffix.lower()
    if suffix in SUFFIXES or is_names_file(file.name):
        return None
    try:
        with file.open("rb") as opened:
            head = opened.read(_HEAD).decode("utf-8", "ignore").lstrip("\ufeff")
    except OSError as error:
        raise UserError.at(file, f"cannot be read: {error.strerror}") from error
    name = _by_json(file, head, suffix) or _by_xml(head, suffix) or _by_lines(head, suffix, beside)
    return (name[0], f"{file.name} {name[1]}") if name else None


def _by_xml(head: str, suffix: str) -> Guess | None:
    if suffix == ".xml" and (match := re.search(r"<(annotations?)[\s>]", head)):
        return {"annotation": "voc", "annotations": "cvat"}[match[1]], f"begins with <{match[1]}>"
    return None


def _by_lines(head: str, suffix: str, beside: Iterable[Path]) -> Guess | None:
    if suffix not in (".txt", ".conll", ".bio", ".iob", ".iob2", ".tsv"):
        return None
    if re.match(r"\s*\{['\"]token['\"]", head):
        return "mnre", "has one dict with 'token' per line"
    if head.startswith("IMGID:"):
        boxes = any(file.suffix == ".xml" or file.name.startswith("xml.t") for file in beside)
        return (
            ("gmner", "has IMGID lines, with box files beside it") if boxes else ("conll", "has IMGID lines and tags")
        )
    return ("conll", "has one token and its tag per line") if _TAGGED.search(head) else None


def _by_json(file: Path, head: str, suffix: str) -> Guess | None:
    if suffix not in (".json", ".jsonl") or file.stat().st_size > _MOST_BYTES:
        return None
    try:
        value: Any = decode(
            head.split("\n", 1)[0] if suffix == ".jsonl" else file.read_bytes().removeprefix(b"\xef\xbb\xbf"), Any
        )
    except WireError:
        return None
    keys = _keys(value)
    first = _keys(value[0]) if isinstance(value, list) and value else set()
    data = keys if suffix == ".jsonl" else first
    for name, held, wanted in (
        ("uima", keys, {"%FEATURE_STRUCTURES"}),
        ("coco", keys, {"images", "annotations", "categories"}),
        ("label-studio", first, {"data", "annotations"}),
        ("label-studio", first, {"data", "predictions"}),
        ("redocred", first, {"vertexSet", "sents"}),
        ("m3d", first, {"doc", "entityLink"}),
        ("prodigy", data, {"_input_hash"}),
        ("prodigy", data, {"text", "spans"}),
        ("prodigy", data, {"image", "spans"}),
        ("doccano", data, {"text", "entities"}),
        ("doccano", data, {"text", "label"}),
        ("doccano", data, {"text", "labels"}),
        ("doccano", data, {"data", "label"}),
        ("labelme", keys, {"imagePath", "shapes"}),
    ):
        if wanted <= held:
            return name, f"has the keys {', '.join(sorted(wanted))}"
    return None


def _keys(value: Any) -> set[str]:
    return set(value) if isinstance(value, dict) else set()


IMPORTER = read_auto
