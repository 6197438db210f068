"""YOLO datasets: folders of images with a text file of boxes each, in the layouts of Ultralytics and of Darknet.

`images/<split>/x.jpg` has its boxes in `labels/<split>/x.txt`, or beside it; an image without a file shows nothing. An
image is a document.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from m3dllm.corpora.frames import frame_number, is_unusable
from m3dllm.corpora.images import SUFFIXES
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.marks import Marks
from m3dllm.corpora.sources import Incoming
from m3dllm.corpora.stills import still
from m3dllm.corpora.voc import ONLY_REGIONS
from m3dllm.corpora.walk import walk_files
from m3dllm.corpora.yolo import is_names_file, parse_yolo, read_names
from m3dllm.errors import UserError
from m3dllm.files import read_text
from m3dllm.types import Document, Example, Frame


def read_yolo_dataset(
    path: Path,
    *,
    names: Path | None = None,
    clips: bool = False,
    shapes: Literal["boxes", "cover"] = "boxes",
    split: str | None = None,
) -> Imported:
    """The images of the folder at `path`, searched through.

    - `names`: the file that names the classes; default: the `data.yaml`, `classes.txt` or `obj.names` there.
    - `clips`: the images of one folder are the frames of one document, numbered as their names are.
    - `shapes`: polygons and rotated boxes are skipped ("boxes"), or become the box that covers them ("cover").
    - `split`: the split to write; default: as the names of the folders say: train, val, test.

    Raises UserError where no image has a file of boxes.
    """
    if not path.is_dir():
        raise UserError.at(path, "is no folder; expected one of images and text files of boxes")
    incoming, read = Incoming(), set()
    files = list(walk_files(path, incoming.notes))
    found = names or next((file for file in files if is_names_file(file.name)), None)
    classes = read_names(found) if found else ()
    texts = {_place(text.relative_to(path)): text for text in files if text.suffix.lower() == ".txt"}
    groups: dict[str, list[tuple[int, Path]]] = {}
    for file in files:
        if file.suffix.lower() in SUFFIXES:
            inside = file.relative_to(path)
            number = frame_number(file.name)
            if not clips:
                groups.setdefault(inside.with_suffix("").as_posix(), []).append((0, file))
            elif number is None:
                incoming.notes.leave_out("frame", "its name holds no frame number", inside.as_posix())
            else:
                groups.setdefault(inside.parent.as_posix(), []).append((number, file))
    for name, members in groups.items():
        own = incoming.id_for(name.removeprefix("images/"), f"image-{len(incoming.ids)}", name)
        marks, frames = Marks("", incoming.notes, own), dict[int, Frame]()
        for number, image in members:
            where = image.relative_to(path).as_posix()
            if number in frames:
                incoming.notes.leave_out("frame", "another image of the document has its number", where)
            elif frame := still(own, number, image, None, incoming.notes, where=where):
                frames[number] = frame
                boxes = next((texts[name] for name in _boxes_of(image.relative_to(path)) if name in texts), None)
                if boxes:
                    read.add(boxes)
                    before = len(incoming.notes.left_out)
                    drawn = parse_yolo(
                        read_text(boxes),
                        number,
                        names=classes,
                        where=boxes.relative_to(path).as_posix(),
                        notes=incoming.notes,
                        cover=shapes == "cover",
                    )
                    if any(map(is_unusable, incoming.notes.left_out[before:])):
                        marks.spoil(number)
                    for place, region in drawn:
                        marks.shows(region, place)
        if frames:
            document = Document(own, "en", "", frames=marks.annotated_frames(frames[n] for n in sorted(frames)))
            part = split or incoming.split_of(members[0][1], path)
            incoming.add(part, Example(document, marks.gold(), ONLY_REGIONS))
    for name, file in texts.items():
        if file not in read and file != found and "labels" in name.split("/"):
            incoming.notes.leave_out("box file", "there is no image of it", file.relative_to(path).as_posix())
    if not read:
        raise UserError.at(path, "has no text file of boxes for any image; expected labels/x.txt for images/x.jpg")
    return incoming.done(path)


def _boxes_of(image: Path) -> list[str]:
    """Where the boxes of an image may stand: `labels` in place of the last `images` of its path, or beside it."""
    beside = _place(image)
    *folders, name = beside.split("/")
    if "images" not in folders:
        return [beside]
    last = len(folders) - 1 - folders[::-1].index("images")
    return ["/".join([*folders[:last], "labels", *folders[last + 1 :], name]), beside]


def _place(file: Path) -> str:
    """The path of a file of boxes, or of an image's beside it, with the words of these layouts in lower case."""
    folders = [part.lower() if part.lower() in ("images", "labels") else part for part in file.parts[:-1]]
    return "/".join([*folders, f"{file.stem}.txt"])


IMPORTER = read_yolo_dataset
