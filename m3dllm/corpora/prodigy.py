"""Prodigy JSONL: accepted texts with spans and relations, and images with boxes.

Of several annotations of one input the first is taken. What was accepted by itself (`ner`) does not say what else
stands in its text, and is no gold.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from m3dllm.corpora.brat import COREFERENCE
from m3dllm.corpora.documents import JSON, read_documents, scan_documents
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.jsonfiles import key, keys, note_unread, objects, real, whole_number, words
from m3dllm.corpora.labelme_shapes import corners_of
from m3dllm.corpora.marks import Marks, language_of
from m3dllm.corpora.sources import Incoming, files_of_documents
from m3dllm.corpora.stills import Size, drawn_size, find_image, still
from m3dllm.corpora.voc import ONLY_REGIONS
from m3dllm.stream import Spool
from m3dllm.types import Box, Document, Example, Frame, Lang, Region, Task

_ABOUT = ("text", "image")
_BY_THEMSELVES = ("ner", "ner.teach", "classification")
"""The views that ask about one span at a time."""
_SHAPE = keys(
    "text image width height path answer tokens _input_hash _task_hash _view_id _timestamp _session_id _annotator_id "
    "_is_binary",
    meta=keys("id"),
    spans=[keys("start end label text token_start token_end id color type x y width height center points")],
    relations=[keys("head child head_span child_span label color")],
)


def read_prodigy(
    path: Path,
    *,
    lang: Lang | None = None,
    images: Path | None = None,
    coreference: Sequence[str] = COREFERENCE,
    split: str | None = None,
) -> Imported:
    """The examples of the export, or of the exports in the folder, at `path`. Rejected and ignored ones are skipped.

    - `lang`: the language of all documents; default: detected.
    - `images`: the folder of the images; default: next to the export.
    - `coreference`: the names of relations that link coreferent mentions; case is ignored.
    - `split`: the split to write; default: from the file names.

    Raises UserError where a file is no JSON, or there is no document.
    """
    incoming = Incoming()
    joining = frozenset(map(str.casefold, coreference))
    pictures: Spool[bytes] = Spool(base64.b64encode, base64.b64decode)
    for file in files_of_documents(path, JSON, "a JSONL export of Prodigy", incoming.notes, _ABOUT):
        links = (link for row in scan_documents(file, keys=_ABOUT) for link in objects(row.get("relations")))
        labels = {words(link.get("label")).casefold() for link in links}
        unannotated: set[Task] = set() if labels & joining else {"chain"}
        unannotated |= set() if labels - joining else {"relation"}
        part = split or incoming.split_of(file, path)
        seen: set[tuple[object, object]] = set()
        rows = read_documents(file, incoming.notes, keys=_ABOUT, lines=True)
        for n, one in enumerate(rows, start=1):
            row, where = one.value, one.where(file.name)
            answer = row.get("answer", "accept")
            if answer != "accept":
                incoming.notes.leave_out("document", "its answer is not 'accept'", f"{where}: {answer}")
            elif (made := (key(row.get("_input_hash")), words(row.get("_view_id")))) in seen:
                who = words(row.get("_session_id")) or words(row.get("_annotator_id"))
                incoming.notes.leave_out("annotation", "another one of its input is taken", f"{where}: {who}")
            elif isinstance(row.get("text"), str) or isinstance(row.get("image"), str):
                name = incoming.id_for(_name(row), f"{file.stem}-{n}", where)
                folders = [images] if images else [file.parent]
                note_unread(row, _SHAPE, one.at(file.name), incoming.notes)
                example = _example(row, name, where, incoming.notes, lang, folders, joining, unannotated, pictures)
                incoming.add(part, example)
                if made[0] is not None:
                    seen.add(made)
            else:
                incoming.notes.leave_out("document", "it has neither a text nor an image", where)
    return incoming.done(path)


def _name(row: dict[str, Any]) -> str:
    meta = row.get("meta")
    return words(meta.get("id")) if isinstance(meta, dict) else ""


def _example(
    row: dict[str, Any],
    name: str,
    where: str,
    notes: Imported,
    lang: Lang | None,
    folders: list[Path],
    joining: frozenset[str],
    unannotated: set[Task],
    pictures: Spool[bytes],
) -> Example:
    text = row["text"] if isinstance(row.get("text"), str) and not isinstance(row.get("image"), str) else ""
    marks = Marks(text, notes, where)
    frame, size = _frame(row, name, where, notes, folders, pictures)
    alone = bool(row.get("_is_binary")) or row.get("_view_id") in _BY_THEMSELVES
    for span in objects(row.get("spans")):
        if frame is not None or isinstance(row.get("image"), str):
            _box(span, frame, size, marks, where)
        elif alone:
            why = "it was accepted separately: the rest of its text is not annotated"
            notes.leave_out("mention", why, f"{where}: {words(span.get('label'))} {span.get('start')}")
        else:
            start, end = whole_number(span.get("start")), whole_number(span.get("end"))
            kind, said = words(span.get("label")), span.get("text")
            first, last = -1 if start is None else start, -1 if end is None else end
            marks.mention((start, end), first, last, kind, surface=said if isinstance(said, str) else None)
    for relation in objects(row.get("relations")):
        ends = [_ends(relation.get(end)) for end in ("head_span", "child_span")]
        kind = words(relation.get("label"))
        if kind.casefold() in joining:
            marks.join(ends)
        else:
            marks.relate(ends[0], ends[1], kind)
    is_marked = (
        "spans" in row or "tokens" in row
    ) and not alone  # else something else was accepted, such as a label of the whole
    if isinstance(row.get("image"), str):
        only = ONLY_REGIONS
    else:
        only = frozenset(unannotated if is_marked else ("entity", "chain", "relation"))
    frames = [replace(frame, annotated=is_marked)] if frame else []
    document = Document(name, language_of(text, lang), text, frames=marks.annotated_frames(frames))
    return Example(document, marks.gold(), only)


def _ends(span: object) -> tuple[int | None, int | None]:
    found: dict[str, Any] = span if isinstance(span, dict) else {}
    return whole_number(found.get("start")), whole_number(found.get("end"))


def _frame(
    row: dict[str, Any], name: str, where: str, notes: Imported, folders: list[Path], pictures: Spool[bytes]
) -> tuple[Frame | None, Size | None]:
    """The frame of an example with an image, and the size that its boxes are drawn in."""
    source = row.get("image")
    if not isinstance(source, str):
        return None, None
    width, height = whole_number(row.get("width")), whole_number(row.get("height"))
    size = (width, height) if width and height and width > 0 and height > 0 else None
    found = words(row.get("path")) or source
    image = _inside(found) if found.startswith("data:") else find_image(found, folders)
    again = None
    if isinstance(image, bytes):
        again = partial(pictures.__getitem__, len(pictures))
        pictures.append(image)
    boxes = [
        [real(span.get(side)) or 0.0 for side in ("x", "y", "width", "height")] for span in objects(row.get("spans"))
    ]
    reach = max((x + w for x, _, w, _ in boxes), default=0.0), max((y + h for _, y, _, h in boxes), default=0.0)
    return still(name, 0, image, size, notes, where=f"{where}: {found[:80]}", reach=reach, again=again), size


def _inside(address: str) -> bytes | None:
    """The image that a `data:` address is."""
    try:
        return base64.b64decode(address.partition(",")[2]) or None
    except (binascii.Error, ValueError):  # ValueError: characters beyond ASCII
        return None


def _box(span: dict[str, Any], frame: Frame | None, size: Size | None, marks: Marks, where: str) -> None:
    numbers = [real(span.get(name)) for name in ("x", "y", "width", "height")]
    if None in numbers and "type" not in span and (found := corners_of(span.get("points"))):  # of an old version
        numbers = [found[0], found[1], found[2] - found[0], found[3] - found[1]]
    if frame is None:
        marks.notes.leave_out("region", "its image has no size", where)
    elif span.get("type", "rect") != "rect" or None in numbers:
        marks.notes.leave_out("region", "its shape is not a rectangle", f"{where}: {span.get('type', '')}")
        marks.spoil(0)
    elif not words(span.get("label")):
        marks.notes.leave_out("region", "it has no type", where)
        marks.spoil(0)
    else:
        whole = drawn_size(frame, size, marks.notes)
        x, y, width, height = (value or 0.0 for value in numbers)
        box = Box.from_corners(x, y, x + width, y + height, size=whole)
        marks.shows(Region(0, box, words(span["label"])), where)


IMPORTER = read_prodigy
