"""Which files make a frame: an image, and the boxes that belong to it, by folder and name, else by number.

A frame's number is the last separate number in its file's name: digits inside a hash or a resolution
(`…_jpg.rf.3c2f…`, `_720p`) do not count.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from m3dllm.corpora.images import SUFFIXES, UNREAD
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.yolo import is_names_file

_ROBOFLOW = re.compile(r"[._](?:jpe?g|png|bmp|webp|tiff?|gif)\.rf\.\w+$", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")
_HASH = re.compile(r"(?=.*[0-9])(?=.*[a-f])[0-9a-f]{10,}", re.IGNORECASE)
_NUMBER = re.compile(r"([^\W\d_]*)([0-9]+)[^\W\d_a-zA-Z]*")
_MEASURES = frozenset(("w", "h", "q", "x", "res", "fps", "crf", "kbps"))
"""Letters before a number that is a measure, not a frame number (`w640`)."""


@dataclass(frozen=True, slots=True)
class ClipFile:
    """A file of a clip; `where` is its place for people. `path` is None in an archive. `read` raises ValueError.

    `rest` is the rest of its name after the document's name, if the document is recognized by the file name.
    """

    name: str
    where: str
    read: Callable[[], bytes]
    path: Path | None = None
    rest: str | None = None

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem.casefold()

    @property
    def folder(self) -> str:
        return self.where.removesuffix(self.name)

    @property
    def label(self) -> str:
        """The part of its name that may hold a number."""
        return PurePosixPath(self.name).stem if self.rest is None else self.rest

    @property
    def number(self) -> int | None:
        """The number of the file's frame, or None; 0 for the only frame of a document, named as the document."""
        return 0 if self.rest == "" else number_in(self.label)


def frame_number(name: str) -> int | None:
    """The number in a file's name, without its suffix."""
    return number_in(PurePosixPath(name).stem)


def number_in(label: str) -> int | None:
    """The last separate number, if it has at most nine digits."""
    found = _number(label)
    return int(found[2]) if found and len(found[2]) <= 9 else None


def _number(label: str) -> re.Match[str] | None:
    """The last separate number; its digits are group 2."""
    label = _UUID.sub(lambda match: "_" * len(match[0]), _ROBOFLOW.sub("", label))
    words = [word for word in _WORD.finditer(label) if not _HASH.fullmatch(word[0])]
    numbers = [match for word in words if (match := _NUMBER.fullmatch(label, word.start(), word.end()))]
    kept = [match for match in numbers if match[1].lower() not in _MEASURES]
    return kept[-1] if kept else None


# --- files to frames --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Still:
    """The files of one frame."""

    image: ClipFile | None = None
    labelme: ClipFile | None = None
    yolo: ClipFile | None = None

    @property
    def files(self) -> list[ClipFile]:
        return [file for file in (self.image, self.labelme, self.yolo) if file]

    @property
    def name(self) -> ClipFile:
        """The file whose name numbers the frame."""
        return self.files[0]


def pair_files(files: Iterable[ClipFile], notes: Imported) -> tuple[dict[int, Still], list[ClipFile]]:
    """(frame number -> its files, the files with YOLO's class names); files without a frame are noted.

    Boxes belong to the image with their folder and name, else to the only image with their name, else (noted) to the
    only one with their number.
    """
    images: list[ClipFile] = []
    boxes: dict[str, list[ClipFile]] = {"labelme": [], "yolo": []}
    unread: list[ClipFile] = []
    names = []
    for file in files:
        if is_names_file(file.name):
            names.append(file)
        elif file.suffix in SUFFIXES:
            images.append(file)
        elif file.suffix in (".json", ".txt"):
            boxes["labelme" if file.suffix == ".json" else "yolo"].append(file)
        elif file.suffix in UNREAD:
            unread.append(file)
        else:
            notes.leave_out("file", "it is neither an image nor a box file", file.where)
    _leave_out_unread(unread, boxes, notes)
    stills, gone = _of_images(images, notes)
    for slot, found in boxes.items():
        _add_boxes(stills, slot, found, gone, notes)
    return _numbered(stills, notes), names


def _leave_out_unread(unread: Iterable[ClipFile], boxes: dict[str, list[ClipFile]], notes: Imported) -> None:
    """Note the images of unsupported kinds, each with its boxes, in one line per kind."""
    for image in unread:
        own = [box for found in boxes.values() for box in found if (box.folder, box.stem) == (image.folder, image.stem)]
        for found in boxes.values():
            found[:] = [box for box in found if box not in own]
        kind = image.suffix[1:].upper()
        with_boxes = "".join(f", with {box.where}" for box in own)
        why = f"{kind} images are not supported: save it as JPEG or PNG"
        notes.leave_out("frame", why, f"{image.where}{with_boxes}")


def _of_images(images: Iterable[ClipFile], notes: Imported) -> tuple[list[Still], set[tuple[str, str]]]:
    """(a still for each image, (folder, stem) of those that are skipped)."""
    stills, gone = [], set()
    first: dict[tuple[str, int], ClipFile] = {}
    for image in images:
        if image.number is None:
            notes.leave_out("frame", "its name has no frame number", image.where)
            gone.add((image.folder, image.stem))
        elif (same := first.setdefault(_key(image), image)) is not image:
            notes.leave_out("frame", "another file has the same number", f"{image.where}, after {same.where}")
            gone.add((image.folder, image.stem))
        else:
            stills.append(Still(image))
    return stills, gone


def _key(file: ClipFile) -> tuple[str, int]:
    """The key that files of one frame share: the text around the number, and the number."""
    found = _number(file.label)
    around = file.label[: found.start(2)] + "#" + file.label[found.end(2) :] if found else file.label
    return around.casefold(), file.number or 0


def _add_boxes(
    stills: list[Still], slot: str, boxes: Sequence[ClipFile], gone: set[tuple[str, str]], notes: Imported
) -> None:
    """Assign each box file to its image; a LabelMe file without one may hold the image itself."""
    own = {(still.name.folder, still.name.stem): still for still in stills if still.image}
    by_stem: dict[str, list[Still]] = defaultdict(list)
    by_number: dict[int | None, list[Still]] = defaultdict(list)
    for still in stills:
        by_stem[still.name.stem].append(still)
        by_number[still.name.number].append(still)
    left: list[ClipFile] = []
    for box in boxes:
        place, same = (box.folder, box.stem), by_stem[box.stem]
        image = own.get(place) or (same[0] if len(same) == 1 else None)
        if place in gone and place not in own:
            notes.leave_out("box file", "its image was skipped", box.where)
        elif image is None:
            left.append(box)
        elif taken := getattr(image, slot):
            notes.leave_out("box file", "another file has the same number", f"{box.where}, after {taken.where}")
        else:
            setattr(image, slot, box)
    numbers = Counter(box.number for box in left)
    for box in left:
        of_number = by_number.get(box.number, [])
        if box.number is None:
            notes.leave_out("box file", "its name has no frame number", box.where)
        elif len(of_number) == 1 and numbers[box.number] == 1 and getattr(of_number[0], slot) is None:
            setattr(of_number[0], slot, box)
            why = "no image has its name: matched by its number"
            notes.change("box file", why, f"{box.where} with {of_number[0].name.where}")
        elif of_number or numbers[box.number] > 1:
            notes.leave_out("box file", "no image has its name, and several files have its number", box.where)
        else:
            stills.append(Still(**{slot: box}))


def _numbered(stills: Sequence[Still], notes: Imported) -> dict[int, Still]:
    """The stills by the number in their names; if two have the same number, all by their order (noted)."""
    numbers = Counter(still.name.number for still in stills)
    ordered = sorted(stills, key=lambda still: (still.name.number or 0, still.name.name, still.name.where))
    if all(n == 1 for n in numbers.values()):
        return {still.name.number or 0: still for still in ordered}
    ordered.sort(key=lambda still: (_key(still.name), still.name.where))
    for i, still in enumerate(ordered):
        why = "frame numbers in the file names of its clip repeat: numbered in the order of the names"
        notes.change("frame", why, f"{still.name.where} is {i}")
    return dict(enumerate(ordered))
