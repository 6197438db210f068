"""Parquet: one file per split, one row per document, with the native fields.

The label set is in the file's metadata under `labels`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import msgspec

from m3dllm.errors import UserError
from m3dllm.export import PARTS, File, Item, Notes, Source, image_name, images
from m3dllm.wire import encode_labels

HOLDS = PARTS
ROWS = 1000
"""Documents that are held in memory and written together."""


def export(source: Source, notes: Notes) -> Iterator[File]:
    """One file per split, and the images. Raises UserError if pyarrow is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("parquet needs 'pyarrow': pip install 'm3dllm[parquet]'") from error
    ids = any(region.id is not None for item in source.items for region in item.annotation.regions)
    schema = _schema(pyarrow, ids=ids).with_metadata({"labels": encode_labels(source.labels)})
    for split, items in source.splits().items():
        out = io.BytesIO()
        with pyarrow.parquet.ParquetWriter(out, schema) as writer:
            for first in range(0, len(items), ROWS):
                rows = [_row(item) for item in items[first : first + ROWS]]
                writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
        yield f"{split}.parquet", out.getvalue()
    yield from images(source.items, notes)


def _row(item: Item) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(item.document)
    del row["given"]
    for frame, written in zip(item.document.frames, row["frames"], strict=True):
        written["path"] = image_name(item.document, frame)
    gold = msgspec.to_builtins(item.annotation) | {"unannotated": sorted(item.unannotated)}
    return row | {"gold": gold}


def _schema(pyarrow: Any, *, ids: bool) -> Any:
    """The columns; those of regions with their ids, where any has one."""
    text, number, real, truth = pyarrow.string(), pyarrow.int64(), pyarrow.float64(), pyarrow.bool_()

    def rows(**columns: Any) -> Any:
        return pyarrow.list_(pyarrow.struct(columns.items()))

    gold = {
        "chains": rows(id=text, mentions=rows(start=number, end=number, type=text, confidence=real, link=real)),
        "relations": rows(head=text, tail=text, type=text, confidence=real),
        "regions": rows(
            frame=number,
            box=pyarrow.list_(real),
            type=text,
            chain=text,
            confidence=real,
            **({"id": text} if ids else {}),
        ),
        "unannotated": pyarrow.list_(text),
    }
    frame = {"index": number, "path": text, "width_px": number, "height_px": number, "annotated": truth}
    return pyarrow.schema(
        {
            **dict.fromkeys(("id", "lang", "text", "title", "group"), text),
            "tokens": pyarrow.list_(pyarrow.list_(number)),
            "segments": rows(start=number, end=number, start_s=real, end_s=real),
            "frames": rows(**frame, sha256=text, time_s=real),
            "gold": pyarrow.struct(gold.items()),
        }
    )
