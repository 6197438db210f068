"""CVAT XML: boxes in images, and tracks in videos.

Each video task, also of a project, is one document whose annotated frames are those of the task (start, stop, step of
its filter). As in CVAT, the box of a track is interpolated between its keyframes, and stays after the last one up to
the end of the task. Each image of an image task is a document. Polygons, points, skeletons, masks and tags are counted
as skipped.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from m3dllm.corpora.frames import frame_number
from m3dllm.corpora.images import SUFFIXES
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.jsonfiles import keys, note_unread
from m3dllm.corpora.marks import Marks
from m3dllm.corpora.markup import Element, as_value, number, read_xml, text_of
from m3dllm.corpora.places import split_word
from m3dllm.corpora.sources import Incoming, files_at
from m3dllm.corpora.stills import Size, find_image, still
from m3dllm.corpora.voc import ONLY_REGIONS
from m3dllm.errors import UserError
from m3dllm.types import Box, Document, Example, Frame, Region

_LONGEST_TASK = 200_000
"""The most frames of a task: more than two hours of video."""
_NUMBERS = 2**53
"""The first whole number beyond those that a float holds exactly."""
_SHAPE = "@label @source @z_order @frame @keyframe @outside @xtl @ytl @xbr @ybr @rotation"
_BOX = keys(_SHAPE)
_OTHER = keys(_SHAPE + " @points @rle @left @top @width @height @cx @cy @rx @ry points")
_SHAPES = {
    "box": [_BOX],
    **{name: [_OTHER] for name in ("polygon", "polyline", "points", "mask", "ellipse", "cuboid", "skeleton", "tag")},
}
_KNOWN = keys(
    "version meta",
    image=[keys("@id @name @width @height @subset @task_id") | _SHAPES],
    track=[keys("@id @label @source @task_id @subset track") | _SHAPES],
)


def read_cvat(path: Path, *, images: Path | None = None, clips: bool = False, split: str | None = None) -> Imported:
    """The images or videos of the file, or of the files in the folder, at `path`.

    - `images`: the folder of the images, or of a video's frames by number; default: next to the file, or `images`.
    - `clips`: treat the images of a folder as the frames of one document, numbered by their file names.
    - `split`: the split to write; default: from the subset, or the file names.

    Raises UserError where a file is no CVAT XML, or there is no image.
    """
    incoming = Incoming()
    for file in files_at(path, (".xml",), "CVAT XML files", incoming.notes):
        try:
            root = read_xml(file, "annotations")
        except UserError as error:
            if file == path:
                raise
            incoming.notes.leave_out("file", "it is not a CVAT file", str(error))
            continue
        note_unread(as_value(root), _KNOWN, file.name, incoming.notes)
        folders = [images] if images else [file.parent / "images", file.parent]
        made = _Task(root, file, folders, incoming)
        part = incoming.split_of(file, path)
        for subset, example in (*made.videos(), *made.stills(clips=clips)):
            incoming.add(split or split_word(subset) or part, example)
    return incoming.done(path)


class _Task:
    def __init__(self, root: Element, file: Path, folders: list[Path], incoming: Incoming) -> None:
        self._root, self._file, self._folders, self._incoming = root, file, folders, incoming
        self._notes = incoming.notes
        self._task = next(
            (found for name in ("task", "job", "project") if (found := root.find(f"meta/{name}")) is not None), None
        )

    # --- images ---

    def stills(self, *, clips: bool) -> Iterator[tuple[str, Example]]:
        """(its subset, document) for each image, or for each folder of them."""
        groups: dict[tuple[str, int], list[tuple[int, Element]]] = {}
        for n, image in enumerate(self._root.findall("image")):
            pure = PurePosixPath(image.get("name", "").replace("\\", "/"))
            name, index = str(pure.with_suffix("")) if pure.name else f"image-{image.get('id', '')}", 0
            if clips:
                name = str(pure.parent) if pure.parent.name else self._file.stem
                found = frame_number(pure.name)
                if found is None:
                    self._notes.leave_out("frame", "its name has no frame number", f"{self._file.name}: {pure}")
                    continue
                index = found
            groups.setdefault((name, 0 if clips else n), []).append((index, image))
        for (name, _), members in groups.items():
            own = self._incoming.id_for(name, f"{self._file.stem}-{len(self._incoming.ids)}", self._file.name)
            marks, frames = Marks("", self._notes, own), {}
            for index, image in members:
                where = f"{self._file.name}: {image.get('name', '')}"
                if index in frames:
                    self._notes.leave_out("frame", "another image of the document has the same number", where)
                    continue
                size = _size(image.get("width"), image.get("height"))
                found_image = find_image(image.get("name", ""), self._of_subset(image.get("subset", "")))
                frame = still(own, index, found_image, size, self._notes, where=where)
                if frame:
                    frames[index] = frame
                    for shape in image:
                        self._shape(shape, shape.get("label", ""), frame, size, marks, where)
            yield from self._document(own, marks, list(frames.values()), members[0][1].get("subset", ""))

    def _of_subset(self, subset: str) -> list[Path]:
        """The folders of images, those of a project's subset first."""
        own = [folder / subset for folder in self._folders if subset and not {"/", "\\"} & set(subset)]
        return [*own, *self._folders]

    # --- videos ---

    def videos(self) -> Iterator[tuple[str, Example]]:
        """(its subset, the document) of a video task, or of each of a project; none where there is none."""
        tracks = self._root.findall("track")
        tasks = {text_of(task, "id"): task for task in self._root.iterfind("meta/project/tasks/task")}
        if not tasks:
            if tracks or text_of(self._task, "mode") == "interpolation":
                yield from self._video(self._task, tracks, text_of(self._root, "meta/source"), self._folders)
            return
        for name in dict.fromkeys((*tasks, *(track.get("task_id", "") for track in tracks))):
            task, own = tasks.get(name), [track for track in tracks if track.get("task_id", "") == name]
            if own or text_of(task, "mode") == "interpolation":
                yield from self._video(task, own, "", self._of_subset(text_of(task, "name"))[: -len(self._folders)])

    def _video(
        self, task: Element | None, tracks: list[Element], source: str, folders: list[Path]
    ) -> Iterator[tuple[str, Example]]:
        size = _size(text_of(task, "original_size/width"), text_of(task, "original_size/height"))
        name = PurePosixPath(source or text_of(task, "source")).stem
        own = self._incoming.id_for(name or text_of(task, "name"), self._file.stem, self._file.name)
        marks = Marks("", self._notes, own)
        numbered = {n: f for folder in folders for f in _images(folder) if (n := frame_number(f.name)) is not None}
        shapes = [(track, shape) for track in tracks for shape in track]
        own_frames = self._frames(task)
        wanted = {*own_frames, *(n for _, shape in shapes if (n := _whole(shape.get("frame"))) is not None)}
        frames: dict[int, Frame] = {}
        for index in sorted(wanted):
            where = f"{self._file.name}: frame {index}"
            if frame := still(own, index, numbered.get(index), size, self._notes, where=where):
                frames[index] = frame
        for track in tracks:
            for shape in (*track, *self._filled(track, frames, own_frames)):
                where = f"{self._file.name}: track {track.get('id', '')}, frame {shape.get('frame', '')}"
                found = frames.get(_whole(shape.get("frame")) or 0) if shape.get("frame") else None
                if shape.tag == "track":
                    part = f"{self._file.name}: track {track.get('id', '')}: {shape.get('label', '')}"
                    self._notes.leave_out("track", "it is part of a skeleton", part)
                elif _is_outside(shape):
                    continue  # the object is not in the picture
                elif found is None:
                    self._notes.leave_out("region", "its frame has no number or no size", where)
                else:
                    self._shape(shape, track.get("label", ""), found, size, marks, where)
        subset = text_of(task, "subset") or next((track.get("subset", "") for track in tracks), "")
        yield from self._document(own, marks, list(frames.values()), subset)

    def _filled(self, track: Element, frames: Iterable[int], task: range) -> Iterator[Element]:
        """The shapes of a visible track in the frames for which it has none: interpolated linearly between keyframes,
        and that of the last keyframe in the frames of the `task` after it.

        CVAT writes a shape for every frame, other tools for keyframes only.
        """
        placed = {n: shape for shape in track if shape.tag != "track" and (n := _whole(shape.get("frame"))) is not None}
        numbers = sorted(placed)
        for index in frames:
            after = bisect_right(numbers, index)
            if index in placed or after == 0 or _is_outside(placed[numbers[after - 1]]):
                continue
            first = placed[here := numbers[after - 1]]
            values = dict(first.items()) | {"frame": str(index)}
            where = f"{self._file.name}: track {track.get('id', '')}, frame {index}, from {here}"
            if after < len(numbers):
                last = placed[there := numbers[after]]
                values |= _interpolated(first, last, (index - here) / (there - here))
                where += f" to {there}"
            elif index not in task:
                continue
            why = "the file has no box for it in this frame: placed where CVAT shows it"
            self._notes.change("region", why, where)
            yield Element(first.tag, values)

    def _frames(self, task: Element | None) -> range:
        """The numbers of the frames that the task has: all of them are annotated."""
        start, stop = _whole(text_of(task, "start_frame")), _whole(text_of(task, "stop_frame"))
        step = re.fullmatch(r"step=([1-9][0-9]{0,5})", text_of(task, "frame_filter"))
        if start is None or stop is None or not start <= stop:
            return range(0)
        if stop - start >= _LONGEST_TASK:
            why = f"there are more than {_LONGEST_TASK:,} in the task: only those with shapes are imported"
            self._notes.leave_out("frames", why, f"{self._file.name}: {start} to {stop}")
            return range(0)
        return range(start, stop + 1, int(step[1]) if step else 1)

    # --- both ---

    def _shape(self, shape: Element, kind: str, frame: Frame, size: Size | None, marks: Marks, where: str) -> None:
        if shape.tag != "box":
            self._notes.leave_out(shape.tag, "it is not a box", where)
            if shape.tag != "tag":
                marks.spoil(frame.index)
            return
        corners = [number(shape.get(key)) for key in ("xtl", "ytl", "xbr", "ybr")]
        why = (
            "it has no corners of four numbers"
            if any(corner is None for corner in corners)
            else "it is rotated: not an upright box"
            if number(shape.get("rotation"))
            else ""
            if kind
            else "it has no type"
        )
        if why:
            self._notes.leave_out("region", why, where)
            marks.spoil(frame.index)
        else:
            xa, ya, xb, yb = (corner or 0.0 for corner in corners)
            box = Box.from_corners(xa, ya, xb, yb, size=size or (frame.width_px, frame.height_px))
            marks.shows(Region(frame.index, box, kind), where)

    def _document(self, name: str, marks: Marks, frames: list[Frame], subset: str) -> Iterator[tuple[str, Example]]:
        if frames:
            frames = sorted(frames, key=lambda frame: frame.index)
            document = Document(name, "en", "", frames=marks.annotated_frames(frames))
            yield subset, Example(document, marks.gold(), ONLY_REGIONS)
        else:
            self._notes.leave_out("document", "none of its images has a size", name)


def _interpolated(first: Element, last: Element, share: float) -> dict[str, str]:
    """The attributes that differ from `first` in a frame between two keyframes, at that share of the way."""
    values: dict[str, str] = {}
    for key in ("xtl", "ytl", "xbr", "ybr") if not _is_outside(last) else ():
        ends = number(first.get(key)), number(last.get(key))
        if ends[0] is not None and ends[1] is not None:
            values[key] = repr(ends[0] + share * (ends[1] - ends[0]))
    if number(last.get("rotation")):
        values["rotation"] = last.get("rotation", "")
    return values


def _is_outside(shape: Element) -> bool:
    """Whether the object is out of the picture from this frame on."""
    return shape.get("outside", "").lower() in ("1", "true")


def _size(width: str | None, height: str | None) -> Size | None:
    found = _whole(width), _whole(height)
    return (found[0], found[1]) if found[0] and found[1] and min(found[0], found[1]) > 0 else None


def _whole(text: str | None) -> int | None:
    value = number(text)
    return int(value) if value is not None and value == int(value) and 0 <= value < _NUMBERS else None


def _images(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES) if folder.is_dir() else []


IMPORTER = read_cvat
