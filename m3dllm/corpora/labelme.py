"""LabelMe: one JSON file with boxes per image; each image becomes a document.

The shapes of a file are read by `labelme_shapes`, as where they stand beside the frames of other formats.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from m3dllm.corpora.frames import is_unusable
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.labelme_shapes import LabelMe, parse_labelme
from m3dllm.corpora.marks import Marks
from m3dllm.corpora.sources import Incoming, files_at
from m3dllm.corpora.stills import drawn_size, find_own, still
from m3dllm.corpora.voc import ONLY_REGIONS
from m3dllm.errors import UserError
from m3dllm.files import read_bytes
from m3dllm.types import Document, Example


def read_labelme(
    path: Path,
    *,
    images: Path | None = None,
    shapes: Literal["boxes", "cover"] = "boxes",
    split: str | None = None,
) -> Imported:
    """The images of the JSON files at `path`: a file, or a folder searched through.

    - `images`: the folder of the images; default: next to the file, by the file's name, else by the name in it,
      else the image inside the file.
    - `shapes`: "boxes" skips polygons, circles and other shapes; "cover" replaces them by their bounding boxes.
    - `split`: the split to write; default: from the folder names: train, val, test.

    Raises UserError where no file is one of LabelMe.
    """
    incoming = Incoming()
    root = path if path.is_dir() else path.parent
    for file in files_at(path, (".json",), "LabelMe JSON files", incoming.notes):
        try:
            found = parse_labelme(read_bytes(file))
        except ValueError as error:
            if file == path:
                raise UserError.at(file, str(error)) from error
            incoming.notes.leave_out("file", "it is not a LabelMe file", f"{file.name}: {error}")
            continue
        if example := _example(found, file, images, incoming, cover=shapes == "cover"):
            incoming.add(split or incoming.split_of(file, root), example)
    return incoming.done(path)


def _example(found: LabelMe, file: Path, images: Path | None, incoming: Incoming, *, cover: bool) -> Example | None:
    notes, named = incoming.notes, found.image_path
    folders = [images] if images else [file.parent, file.parent.parent]
    beside = find_own(file.stem, named, folders, notes, file.name)
    again = partial(_image_in, file) if beside is None else None
    name = incoming.id_for(file.stem, f"image-{len(incoming.ids)}", file.name)
    size = (int(found.size[0]), int(found.size[1])) if found.size else None
    image, where = beside or found.image, f"{file.name}: {named}"
    frame = still(name, 0, image, size, notes, where=where, reach=found.reach, again=again)
    if frame is None:
        notes.leave_out("document", "its image has no size", file.name)
        return None
    marks, before = Marks("", notes, file.name), len(notes.left_out)
    for place, region in found.regions(
        0, size=drawn_size(frame, size, notes), where=file.name, notes=notes, cover=cover
    ):
        marks.shows(region, place)
    if any(map(is_unusable, notes.left_out[before:])):
        marks.spoil(0)
    found.note_extras(file.name, notes)
    return Example(Document(name, "en", "", frames=marks.annotated_frames([frame])), marks.gold(), ONLY_REGIONS)


def _image_in(file: Path) -> bytes:
    """The image inside a file. Raises ValueError where it is there no more."""
    return parse_labelme(read_bytes(file)).image or b""


IMPORTER = read_labelme
