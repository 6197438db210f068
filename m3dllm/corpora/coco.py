"""COCO JSON: images with boxes; each image becomes a document.

`m3dllm export coco` adds `document`, `frame`, `lang`, `group`, `annotated` and `time_s` to images: they are read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from m3dllm.corpora.documents import read_value
from m3dllm.corpora.frames import frame_number
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.jsonfiles import confidence, key, keys, note_unread, objects, real, whole_number, words
from m3dllm.corpora.marks import Marks
from m3dllm.corpora.sources import Incoming, files_at
from m3dllm.corpora.stills import FRACTIONS, Size, are_fractions, drawn_size, find_image, still
from m3dllm.corpora.voc import ONLY_REGIONS
from m3dllm.errors import UserError
from m3dllm.types import Box, Document, Example, Frame, Lang, Region

_SHAPE = keys(
    "info licenses",
    images=[
        keys(
            "id file_name width height license flickr_url coco_url date_captured document frame lang group annotated "
            "time_s"
        )
    ],
    annotations=[
        keys(
            "id image_id category_id bbox area iscrowd segmentation keypoints num_keypoints caption score",
            attributes=keys("rotation"),
        )
    ],
    categories=[keys("id name keypoints skeleton color")],
)


@dataclass(slots=True)
class _Clip:
    """The images of one document: (frame, the entry, its place)."""

    images: dict[int, tuple[dict[str, Any], str]] = field(default_factory=dict)

    def first(self, key: str) -> str:
        return next((words(entry.get(key)) for entry, _ in self.images.values()), "")


class _Drawn(NamedTuple):
    """An annotation. `box` is its bbox in pixels, empty if it cannot be used; only results have a `score`."""

    place: str
    kind: str
    box: tuple[float, ...] = ()
    score: float | None = None


def read_coco(path: Path, *, images: Path | None = None, clips: bool = False, split: str | None = None) -> Imported:
    """The images of the file, or of the files in the folder, at `path`.

    - `images`: the folder of the images; default: `images` or `images/<split>` next to the file, or its own folder.
    - `clips`: treat the images of a folder as the frames of one document, numbered by their file names.
    - `split`: the split to write; default: from the file names: train, val, test.

    Masks, keypoints and captions are counted as skipped. Raises UserError if a file is not COCO, or there is no image.
    """
    incoming = Incoming()
    for file in files_at(path, (".json", ".json.gz"), "COCO files", incoming.notes):
        value = read_value(file, incoming.notes)
        if not isinstance(value, dict) or not isinstance(value.get("images"), list):
            if file == path:
                raise UserError.at(file, "is not a COCO file: it has no list of images")
            incoming.notes.leave_out("file", "it is not a COCO file: it has no list of images", file.name)
            continue
        note_unread(value, _SHAPE, f"{file.name}: $", incoming.notes)
        root, part = file.parent, split or incoming.split_of(file, path)
        folders = [images] if images else [root, root / "images", root.parent / "images", root.parent]
        drawn = _regions(value, file.name, incoming.notes)
        if not (says_boxes := _says_boxes(value)):
            incoming.notes.remark(
                "file", "it does not mention boxes: its frames are treated as not annotated", file.name
            )
        for name, clip in _clips(value, file.name, clips, incoming.notes):
            example = _example(name, clip, drawn if says_boxes else None, folders, file, incoming)
            if example:
                incoming.add(part, example)
    return incoming.done(path)


def _clips(value: dict[str, Any], where: str, clips: bool, notes: Imported) -> Iterator[tuple[str, _Clip]]:
    """(name, its images) of each document; an image that is a document has its file's name, which may occur twice."""
    found: dict[tuple[str, int], _Clip] = defaultdict(_Clip)
    for i, entry in enumerate(objects(value["images"])):
        place, name = f"{where}: $.images[{i}]", words(entry.get("file_name"))
        own, index, alone = words(entry.get("document")), whole_number(entry.get("frame")), 0
        if not own or index is None or index < 0:
            pure = PurePosixPath(name.replace("\\", "/"))
            own, index = str(pure.with_suffix("")) if pure.name else f"image-{words(entry.get('id'))}", 0
            alone = 0 if clips else i + 1
            if clips:
                own = str(pure.parent) if pure.parent.name else PurePosixPath(where).stem
                index = frame_number(name)
        if index is None:
            notes.leave_out("frame", "its name has no frame number", f"{place}: {name}")
        elif index in found[own, alone].images:
            notes.leave_out("frame", "another image of the document has the same number", f"{place}: {name}")
        else:
            found[own, alone].images[index] = entry, place
    yield from ((name, clip) for (name, _), clip in found.items() if clip.images)


def _regions(value: dict[str, Any], where: str, notes: Imported) -> dict[object, list[_Drawn]]:
    """image id -> its annotations."""
    names: dict[object, str] = {}
    for i, entry in enumerate(objects(value.get("categories"))):
        number, name = key(entry.get("id")), words(entry.get("name"))
        if names.setdefault(number, name) != name:
            place = f"{where}: $.categories[{i}]"
            notes.leave_out("category", "several categories have its id: their regions have no type", place)
            names[number] = ""
    known = Counter(key(entry.get("id")) for entry in objects(value["images"]))
    found: dict[object, list[_Drawn]] = defaultdict(list)
    for i, entry in enumerate(objects(value.get("annotations"))):
        place, image = f"{where}: $.annotations[{i}]", key(entry.get("image_id"))
        if "caption" in entry:
            notes.leave_out("caption", "a corpus cannot represent captions", place)
        elif image is None or image not in known:
            notes.leave_out("region", "its image is missing", f"{place}: {entry.get('image_id')}")
        else:
            drawn = _drawn(entry, place, names, notes)
            if drawn.box and known[image] > 1:
                notes.leave_out("region", "several images have the id of its image", f"{place}: {image}")
                drawn = drawn._replace(box=())
            found[image].append(drawn)
    return found


def _says_boxes(value: dict[str, Any]) -> bool:
    """Whether a file annotates boxes: files of captions do not, nor do files of images alone, such as test sets, whose
    list of annotations may be empty. In a file with boxes, an image without any has no regions.
    """
    entries, images = value.get("annotations"), objects(value["images"])
    if entries == []:
        return len(images) == 1 or any("annotated" in image for image in images)
    return isinstance(entries, list) and any("caption" not in one for one in objects(entries))


def _drawn(entry: dict[str, Any], place: str, names: Mapping[object, str], notes: Imported) -> _Drawn:
    """An annotation of a known image; what cannot be used of it is noted."""
    box = entry.get("bbox")
    numbers = [number for one in box if (number := real(one)) is not None] if isinstance(box, list) else []
    kind, detail = names.get(key(entry.get("category_id")), ""), place
    if len(numbers) != 4:
        why = "it has no bbox of four numbers"
    elif are_fractions(numbers):
        why = FRACTIONS
    elif not kind:
        why, detail = "its category has no name", f"{place}: {entry.get('category_id')}"
    elif _is_turned(entry):
        why = "it is rotated: not an upright box"
    elif entry.get("iscrowd"):
        why = "it is a crowd, not a single object"
    else:
        if entry.get("segmentation") or entry.get("keypoints"):
            notes.change("region", "its outline or keypoints were skipped: its box is kept", place)
        return _Drawn(place, kind, tuple(numbers), confidence(entry.get("score")))
    notes.leave_out("region", why, detail)
    return _Drawn(place, kind)


def _is_turned(entry: dict[str, Any]) -> bool:
    """Whether CVAT marks a box as rotated: its bbox is then that of the box before rotation."""
    attributes = entry.get("attributes")
    return isinstance(attributes, dict) and bool(real(attributes.get("rotation")))


def _example(
    name: str,
    clip: _Clip,
    by_image: dict[object, list[_Drawn]] | None,
    folders: list[Path],
    file: Path,
    incoming: Incoming,
) -> Example | None:
    notes = incoming.notes
    own = incoming.id_for(name, f"{file.stem}-{len(incoming.ids)}", file.name)
    marks, frames = Marks("", notes, own), []
    for index, (entry, place) in sorted(clip.images.items()):
        source, sides = words(entry.get("file_name")), [key(entry.get(side)) for side in ("width", "height")]
        width, height = (side if isinstance(side, int) else 0 for side in sides)
        size = (width, height) if width > 0 and height > 0 else None
        drawn = by_image.get(key(entry.get("id")), []) if by_image is not None else []
        boxes = [one.box for one in drawn if one.box]
        frame = still(
            own,
            index,
            find_image(source, folders),
            size,
            notes,
            where=f"{place}: {source}",
            annotated=by_image is not None and not ("document" in entry and entry.get("annotated", True) is False),
            time_s=real(entry.get("time_s")),
            reach=(max((b[0] + b[2] for b in boxes), default=0.0), max((b[1] + b[3] for b in boxes), default=0.0)),
        )
        if frame:
            for where, region in _boxes(drawn, frame, drawn_size(frame, size, notes)):
                marks.shows(region, where)
            if len(boxes) < len(drawn):
                marks.spoil(index)
            frames.append(frame)
    if not frames:
        notes.leave_out("document", "none of its images has a size", own)
        return None
    lang: Lang = "zh" if clip.first("lang") == "zh" else "en"
    document = Document(own, lang, "", group=clip.first("group"), frames=marks.annotated_frames(frames))
    return Example(document, marks.gold(), ONLY_REGIONS)


def _boxes(found: list[_Drawn], frame: Frame, size: Size) -> Iterator[tuple[str, Region]]:
    for drawn in found:
        if not drawn.box:
            continue
        x, y, w, h = drawn.box
        box = Box(x / size[0], y / size[1], (x + w) / size[0], (y + h) / size[1])
        yield drawn.place, Region(frame.index, box, drawn.kind, confidence=drawn.score)


IMPORTER = read_coco
