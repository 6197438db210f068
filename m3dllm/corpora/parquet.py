"""Parquet: one file per split, as written by `m3dllm export parquet`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.jsonfiles import keys, note_unread
from m3dllm.corpora.places import split_word
from m3dllm.corpora.sources import Incoming, files_at
from m3dllm.corpora.stills import find_image, still
from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.types import Example
from m3dllm.wire import WireError, decode_example, decode_labels, encode

ROW = keys(
    "id lang text title group tokens",
    segments=[keys("start end start_s end_s")],
    frames=[keys("index path width_px height_px annotated sha256 time_s")],
    gold=keys(
        "unannotated",
        chains=[keys("id", mentions=[keys("start end type confidence link")])],
        relations=[keys("head tail type confidence")],
        regions=[keys("frame box type chain confidence")],
    ),
)
"""The columns of a table of documents, which are the fields of a line of the native corpus."""
_ROWS = 1000
_SHARD = re.compile(r"-[0-9]{5}-of-[0-9]{5}$")
"""How the name of one file of several ends."""


def read_parquet(path: Path) -> Imported:
    """The documents of the file, or of the files in the folder, at `path`; images stand beside, by their paths.

    Raises UserError where pyarrow is not installed, or a row is no document.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("parquet needs 'pyarrow': pip install 'm3dllm[parquet]'") from error
    incoming = Incoming()
    labels: LabelSet | None = None
    for file in files_at(path, (".parquet",), "Parquet files of documents", incoming.notes):
        name = _SHARD.sub("", file.stem)
        split = split_word(name) or name
        try:
            table = pyarrow.parquet.ParquetFile(file)
            labels = labels or _labels(table.schema_arrow.metadata or {})
            rows = (row for batch in table.iter_batches(_ROWS) for row in batch.to_pylist())
            for number, row in enumerate(rows):
                incoming.add(split, _example(row, file, number, incoming))
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError.at(file, f"is not a readable Parquet file: {error}") from error
    return incoming.done(path, labels)


def _labels(metadata: dict[bytes, bytes]) -> LabelSet | None:
    try:
        return decode_labels(metadata[b"labels"])
    except (KeyError, WireError):
        return None


def _example(row: dict[str, Any], file: Path, number: int, incoming: Incoming) -> Example:
    where = f"{file.name}[{number}]"
    note_unread(row, ROW, where, incoming.notes)
    try:
        example = decode_example(encode({key: row[key] for key in ROW if row.get(key) is not None}))
    except WireError as error:
        raise error.at(where) from error
    name = incoming.id_for(example.document.id, f"{file.stem}-{number}", where)
    frames = []
    for frame in example.document.frames:
        image, place, size = (
            find_image(frame.path, [file.parent]),
            f"{where}: {frame.path}",
            (frame.width_px, frame.height_px),
        )
        held = still(name, frame.index, image, size, incoming.notes, where=place)
        frames.append(
            replace(frame, path=held.path, width_px=held.width_px, height_px=held.height_px) if held else frame
        )
    return replace(example, document=replace(example.document, id=name, frames=tuple(frames)))


IMPORTER = read_parquet
