"""YOLO: images, each with a text file of boxes (Ultralytics or Darknet layout).

`images/<split>/x.jpg` has its boxes in `labels/<split>/x.txt`, or beside it. An image without a file has no boxes, but
if no image of its folder has a file, it is not annotated. Each image becomes a document.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from m3dllm.corpora.frames import frame_number, is_unusable
from m3dllm.corpora.images import SUFFIXES
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.marks import Marks
from m3dllm.corpora.places import split_word
from m3dllm.corpora.sources import Incoming
from m3dllm.corpora.stills import find_image, still
from m3dllm.corpora.voc import ONLY_REGIONS
from m3dllm.corpora.walk import walk_files
from m3dllm.corpora.yolo import is_names_file, parse_settings, parse_yolo, read_names
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

    - `names`: the file with the class names; default: `data.yaml`, `classes.txt` or `obj.names`, the nearest one to a
      box file.
    - `clips`: treat the images of a folder as the frames of one document, numbered by their file names.
    - `shapes`: "boxes" skips polygons and rotated boxes; "cover" replaces them by their bounding boxes.
    - `split`: the split to write; default: from `data.yaml` or `obj.data`, or the folder names: train, val, test.

    Raises UserError if no image has a box file.
    """
    if not path.is_dir():
        raise UserError.at(path, "is not a folder; expected one of images and text files of boxes")
    incoming, read = Incoming(), set()
    files = list(walk_files(path, incoming.notes))
    said = _Said.of(files, path, names, incoming.notes)
    texts = {_place(text.relative_to(path)): text for text in files if text.suffix.lower() == ".txt"}
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    boxes = {image: _boxes_for(image.relative_to(path), texts) for image in images}
    annotated = {image.parent for image, text in boxes.items() if text}
    for name, members in _groups(images, path, clips, incoming.notes).items():
        own = incoming.id_for(name.removeprefix("images/"), f"image-{len(incoming.ids)}", name)
        marks, frames = Marks("", incoming.notes, own), dict[int, Frame]()
        for number, image in members:
            where = image.relative_to(path).as_posix()
            if number in frames:
                what = "number" if clips else "name"
                incoming.notes.leave_out("frame", f"another image of the document has its {what}", where)
                continue
            drawn_in = image.parent in annotated
            frame = still(own, number, image, None, incoming.notes, where=where, annotated=drawn_in)
            if frame is None:
                continue
            frames[number] = frame
            if text := boxes[image]:
                read.add(text)
                before = len(incoming.notes.left_out)
                drawn = parse_yolo(
                    read_text(text),
                    number,
                    names=said.names(text),
                    where=text.relative_to(path).as_posix(),
                    notes=incoming.notes,
                    cover=shapes == "cover",
                    keypoints=said.keypoints,
                )
                if any(map(is_unusable, incoming.notes.left_out[before:])):
                    marks.spoil(number)
                for place, region in drawn:
                    marks.shows(region, place)
            else:
                why = "it shows nothing" if drawn_in else "no image of its folder has one, and it is not annotated"
                incoming.notes.remark("image", f"it has no box file: {why}", where)
        if frames:
            document = Document(own, "en", "", frames=marks.annotated_frames(frames[n] for n in sorted(frames)))
            part = split or said.splits.get(members[0][1]) or incoming.split_of(members[0][1], path)
            incoming.add(part, Example(document, marks.gold(), ONLY_REGIONS))
    for name, file in texts.items():
        if file not in read and file not in said.files and "labels" in name.split("/"):
            incoming.notes.leave_out("box file", "there is no image for it", file.relative_to(path).as_posix())
    if not read:
        raise UserError.at(path, "has no text file of boxes for any image; expected labels/x.txt for images/x.jpg")
    return incoming.done(path)


@dataclass(frozen=True, slots=True)
class _Said:
    """Settings of the dataset or of a folder: folder -> names of its classes, image -> its split, and how many
    keypoint numbers follow a box."""

    by_folder: dict[Path, tuple[str, ...]]
    splits: dict[Path, str]
    keypoints: int
    files: frozenset[Path]

    @classmethod
    def of(cls, files: list[Path], root: Path, names: Path | None, notes: Imported) -> _Said:
        """The settings in the files of the folder `root`. Raises UserError if names cannot be read."""
        by_folder: dict[Path, tuple[str, ...]] = {}
        found = [names] if names else [file for file in files if is_names_file(file.name)]
        for file in found:
            classes, folder = read_names(file), root if names else file.parent
            if by_folder.setdefault(folder, classes) != classes:
                why = "another file in its folder has other class names and is used"
                notes.leave_out("file", why, file.relative_to(root).as_posix())
        if found:
            by_folder.setdefault(root, by_folder[root if names else found[0].parent])
        splits: dict[Path, str] = {}
        keypoints = 0
        images = [file for file in files if file.suffix.lower() in SUFFIXES]
        for file in files:
            if file.suffix.lower() not in (".yaml", ".yml", ".data"):
                continue
            settings = parse_settings(read_text(file))
            shape = [int(size) for size in settings.get("kpt_shape", ()) if size.isdigit()]
            keypoints = shape[0] * shape[1] if len(shape) == 2 else keypoints
            for word, values in settings.items():
                if part := split_word(word):
                    bases = [file.parent / one for one in settings.get("path", ())] + [file.parent, root]
                    for image in (image for value in values for image in _listed(value, bases, images)):
                        if splits.setdefault(image, part) != part:
                            why = "lists of several splits have it: it is of the first"
                            notes.remark("image", why, image.relative_to(root).as_posix())
        return cls(by_folder, splits, keypoints, frozenset(found))

    def names(self, text: Path) -> tuple[str, ...]:
        """The class names for a box file: those of the nearest folder around it."""
        return next((self.by_folder[folder] for folder in text.parents if folder in self.by_folder), ())


def _listed(value: str, bases: list[Path], images: list[Path]) -> list[Path]:
    """The images that an entry of `train`, `val` or `test` means: those of a folder, or of a list of them.

    Such paths are often of another machine: the longest end that exists here counts.
    """
    words = [word for word in value.replace("\\", "/").split("/") if word not in ("", ".", "..")]
    for place in (base.joinpath(*words[first:]) for first in range(len(words)) for base in bases):
        if place.is_dir():
            return [image for image in images if place in image.parents]
        if place.suffix.lower() == ".txt" and place.is_file():
            known = set(images)
            found = (find_image(line.strip(), [*bases, place.parent]) for line in read_text(place).splitlines())
            return [image for image in found if image in known]
    return []


def _groups(images: list[Path], root: Path, clips: bool, notes: Imported) -> dict[str, list[tuple[int, Path]]]:
    """document -> (frame number, image) of each of its images."""
    groups: dict[str, list[tuple[int, Path]]] = {}
    for file in images:
        inside, number = file.relative_to(root), frame_number(file.name)
        if not clips:
            groups.setdefault(inside.with_suffix("").as_posix(), []).append((0, file))
        elif number is None:
            notes.leave_out("frame", "its name has no frame number", inside.as_posix())
        else:
            groups.setdefault(inside.parent.as_posix(), []).append((number, file))
    return groups


def _boxes_for(image: Path, texts: dict[str, Path]) -> Path | None:
    return next((texts[name] for name in _boxes_of(image) if name in texts), None)


def _boxes_of(image: Path) -> list[str]:
    """Where the boxes of an image may be: `labels` in place of the last `images` of its path, or beside it."""
    beside = _place(image)
    *folders, name = beside.split("/")
    if "images" not in folders:
        return [beside]
    last = len(folders) - 1 - folders[::-1].index("images")
    return ["/".join([*folders[:last], "labels", *folders[last + 1 :], name]), beside]


def _place(file: Path) -> str:
    """The key of an image or box file: its path with the folder names of these layouts in lower case."""
    folders = [part.lower() if part.lower() in ("images", "labels") else part for part in file.parts[:-1]]
    return "/".join([*folders, f"{file.stem}.txt"])


IMPORTER = read_yolo_dataset
