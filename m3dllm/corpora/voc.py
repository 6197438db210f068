"""Pascal VOC: one XML file with boxes per image; each image becomes a document.

The image of a file is the one with the same name, else the one that it names. `ImageSets/Main/<split>.txt` lists the
images of a split. Coordinates are read as edges, as current tools write them, not as pixel numbers from 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.jsonfiles import keys, note_unread
from m3dllm.corpora.marks import Marks
from m3dllm.corpora.markup import Element, as_value, number, read_xml, text_of
from m3dllm.corpora.places import split_word
from m3dllm.corpora.sources import Incoming, files_at
from m3dllm.corpora.stills import FRACTIONS, Size, are_fractions, drawn_size, find_own, still
from m3dllm.errors import UserError
from m3dllm.files import read_text
from m3dllm.types import Box, Document, Example, Frame, Region, Task

ONLY_REGIONS: frozenset[Task] = frozenset(("entity", "chain", "relation"))
_SHAPE = keys(
    "folder filename path source segmented @verified",
    size=[keys("width height depth")],
    object=[keys("name bndbox part", attributes=[keys("rotation")])],
)


@dataclass(frozen=True, slots=True)
class Boxed:
    """A file: its image, the declared size of that, and the boxes as (place, name, corners in pixels)."""

    image: str
    size: Size | None
    boxes: tuple[tuple[str, str, tuple[float, float, float, float]], ...]
    is_whole: bool = True
    """Whether all of its boxes can be used."""

    @property
    def reach(self) -> tuple[float, float]:
        """The rightmost and lowest edge of all boxes, in pixels."""
        corners = [corners for _, _, corners in self.boxes]
        return max((max(c[::2]) for c in corners), default=0.0), max((max(c[1::2]) for c in corners), default=0.0)

    def regions(self, frame: Frame, notes: Imported) -> Iterator[tuple[str, str, Region]]:
        """(place, name, region) of each box in a frame."""
        size = drawn_size(frame, self.size, notes)
        for where, name, corners in self.boxes:
            yield where, name, Region(frame.index, Box.from_corners(*corners, size=size), name)


def parse_voc(root: Element, where: str, notes: Imported) -> Boxed:
    """The content of a file. An object without a box or a name is noted."""
    sizes = number(text_of(root, "size/width")), number(text_of(root, "size/height"))
    width, height = (int(size) if size and size > 0 else 0 for size in sizes)
    boxes = []
    note_unread(as_value(root), _SHAPE, where, notes)
    for n, thing in enumerate(root.findall("object")):
        place = f"{where}: object {n + 1}"
        corners = [number(text_of(thing, f"bndbox/{name}")) for name in ("xmin", "ymin", "xmax", "ymax")]
        name = text_of(thing, "name")
        if any(corner is None for corner in corners):
            notes.leave_out("region", "it has no bndbox of four numbers", place)
        elif are_fractions(corners):
            notes.leave_out("region", FRACTIONS, place)
        elif not name:
            notes.leave_out("region", "it has no type", place)
        elif any(number(turn) for turn in _rotations(thing)):
            notes.leave_out("region", "it is rotated: not an upright box", place)
        else:
            xa, ya, xb, yb = (corner or 0.0 for corner in corners)
            boxes.append((place, name, (xa, ya, xb, yb)))
        for _ in thing.findall("bndbox")[1:]:
            notes.leave_out("box of a region", "it has another one", place)
        for part in thing.findall("part"):
            notes.leave_out("part of a region", "a corpus cannot represent parts", f"{place}: {text_of(part, 'name')}")
    size = (width, height) if width and height else None
    return Boxed(text_of(root, "filename"), size, tuple(boxes), len(boxes) == len(root.findall("object")))


def _rotations(thing: Element) -> list[str]:
    """The rotation of a box, which CVAT writes beside the box before rotation."""
    found = thing.iterfind("attributes/attribute")
    return [text_of(one, "value") for one in found if text_of(one, "name") == "rotation"]


def read_voc(path: Path, *, images: Path | None = None, split: str | None = None) -> Imported:
    """The images of the XML files at `path`: a file, or a folder searched through.

    - `images`: the folder of the images; default: next to the files, `JPEGImages` or `images`.
    - `split`: the split to write; default: from `ImageSets/Main`, or the names of files and folders.

    Raises UserError where there is no image, or a file is no XML.
    """
    incoming = Incoming()
    root = path if path.is_dir() else path.parent
    listed = _listed(root)
    for file in files_at(path, (".xml",), "Pascal VOC XML files", incoming.notes):
        try:
            found = parse_voc(read_xml(file, "annotation"), file.name, incoming.notes)
        except UserError as error:
            if file == path:
                raise
            incoming.notes.leave_out("file", "it is not a Pascal VOC file", str(error))
            continue
        beside = [file.parent.parent / name for name in ("JPEGImages", "images")]
        folders = [images] if images else [file.parent, *beside, root]
        image = find_own(file.stem, found.image, folders, incoming.notes, file.name)
        name = incoming.id_for(file.stem, f"image-{len(incoming.ids)}", file.name)
        where = f"{file.name}: {found.image}"
        frame = still(name, 0, image, found.size, incoming.notes, where=where, reach=found.reach)
        if frame is None:
            incoming.notes.leave_out("document", "its image has no size", file.name)
            continue
        marks = Marks("", incoming.notes, file.name)
        for where, _, region in found.regions(frame, incoming.notes):
            marks.shows(region, where)
        if not found.is_whole:
            marks.spoil(0)
        document = Document(name, "en", "", frames=marks.annotated_frames([frame]))
        if listed and file.stem not in listed and not split:
            incoming.notes.remark("image", "it is in no list in ImageSets/Main: split by its folder", file.name)
        part = split or listed.get(file.stem) or incoming.split_of(file, root)
        incoming.add(part, Example(document, marks.gold(), ONLY_REGIONS))
    return incoming.done(path)


def _listed(root: Path) -> dict[str, str]:
    """image -> split, of the lists in `ImageSets/Main` that are of a whole split."""
    found: dict[str, str] = {}
    folder = root / "ImageSets" / "Main"
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        split = split_word(file.stem) if file.suffix.lower() == ".txt" else None
        if split and file.is_file():
            found |= {line.split()[0]: split for line in read_text(file).splitlines() if line.split()}
    return found


IMPORTER = read_voc
