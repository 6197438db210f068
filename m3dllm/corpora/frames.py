"""The frames of clips and the boxes drawn in them: image, LabelMe and YOLO files in folders and zip archives.

A file belongs to the document whose name a folder or an archive around it bears; where there is one document and no
file that is its by name, the files right in the folder, or in the archive, are. Archives are read where they stand
and never unpacked, so that no name in one becomes a path. A frame's number is the last number in its file's name.
"""

from __future__ import annotations

import lzma
import re
import struct
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from types import TracebackType

from m3dllm.corpora.choice import Choice, chosen
from m3dllm.corpora.images import SUFFIXES, image_problem, image_size
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.labelme import LabelMe, parse_labelme
from m3dllm.corpora.yolo import NAMES_FILES, parse_names, parse_yolo
from m3dllm.errors import UserError
from m3dllm.files import decode_text, file_name, read_bytes
from m3dllm.types import Box, Frame, Region

OVERHANG = 0.02
"""How far, as a part of the frame's side, a box may stick out of it and still be cut to it."""
ROUNDING = 1e-5
"""How far an edge may miss the frame's and still be meant to lie on it: what rounded decimals lose."""
LARGEST_FILE = 64 * 2**20
LARGEST_ARCHIVE = 4 * 2**30

_KINDS = ((b"\xff\xd8", ".jpg"), (b"\x89PNG", ".png"), (b"RIFF", ".webp"), (b"BM", ".bmp"), (b"GIF8", ".gif"))
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError)
_ZIP_REFUSALS = (NotImplementedError, RuntimeError)  # a compression that is not known; a password


@dataclass(frozen=True, slots=True)
class ClipFile:
    """A file of a clip; `where` is its place for people. `path` is None in an archive. `read` raises ValueError."""

    name: str
    where: str
    read: Callable[[], bytes]
    path: Path | None = None

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()

    @property
    def number(self) -> int | None:
        """The number of the frame that the file is of, or None."""
        return frame_number(self.name)


def frame_number(name: str) -> int | None:
    """The last number in a file's name, without the suffix, where it has one of at most nine digits."""
    numbers = re.findall(r"[0-9]+", PurePosixPath(name).stem)
    return int(numbers[-1]) if numbers and len(numbers[-1]) <= 9 else None


# --- folders and archives ---------------------------------------------------------------------------------------------


class ClipFiles:
    """The files under a folder, in the zip archives there, or in one zip archive, by the document they belong to.

    Hidden files and what macOS adds to archives are passed over. A context manager: it keeps one archive open.
    """

    def __init__(self, root: Path, documents: Iterable[str], notes: Imported, *, besides: Iterable[Path] = ()) -> None:
        """`besides` are files that may stand there and are none of a clip.

        Raises UserError where `root` is neither a folder nor a zip archive.
        """
        self._notes = notes
        self._besides = {path.resolve() for path in besides}
        self._open: tuple[Path, zipfile.ZipFile] | None = None
        self._owned: dict[str, list[ClipFile]] = defaultdict(list)
        self._others: Counter[str] = Counter()
        self.class_names: tuple[str, ...] = ()
        names = list(documents)
        owners = _owners(names)
        orphans: list[tuple[tuple[str, ...], ClipFile]] = []
        try:
            for folders, file in self._files(root):
                if owner := _owner(folders, owners):
                    self._owned[owner].append(file)
                elif file.name in NAMES_FILES:
                    self.class_names = self.class_names or _class_names(file, notes)
                else:
                    orphans.append((folders, file))
        except BaseException:
            self.close()
            raise
        to_one = names[0] if len(names) == 1 and not self._owned else None
        for folders, file in orphans:
            if to_one and (root.is_file() or len(folders) == 1):
                self._owned[to_one].append(file)
            else:
                self._others[file.where if len(folders) == 1 else file.where.removesuffix(file.name)] += 1

    def __enter__(self) -> ClipFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._open:
            self._open[1].close()
            self._open = None

    def of(self, document: str) -> list[ClipFile]:
        """The files of a document, by frame."""
        return sorted(self._owned.get(document, ()), key=lambda file: (file.number or 0, file.name, file.where))

    def leave_out_others(self) -> None:
        """Note the files that belong to no document: those in a folder of their own by folder."""
        for place, count in sorted(self._others.items()):
            if place.endswith("/"):
                files = "1 file" if count == 1 else f"{count:,} files"
                self._notes.leave_out("folder", "no document has its name", f"{place}: {files}")
            else:
                self._notes.leave_out("file", "no folder around it has a document's name", place)

    def _files(self, root: Path) -> Iterator[tuple[tuple[str, ...], ClipFile]]:
        """(the names of the folders and archives around it, file) for each file under `root`."""
        if root.is_file():
            yield from self._zipped(root, (root.stem,), root.name)
            return
        if not root.is_dir():
            raise UserError.at(root, "does not exist; expected a folder or a zip archive of frames or boxes")
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            if any(_is_hidden(part) for part in inside.parts) or not path.is_file():
                continue
            if path.suffix in (".ann", ".txt") and path.resolve() in self._besides:
                continue
            folders, shown = (root.name, *inside.parts[:-1]), _shown(f"{root.name}/{inside.as_posix()}")
            if path.suffix.lower() == ".zip":
                yield from self._zipped(path, (*folders, path.stem), shown)
            else:
                yield folders, ClipFile(_shown(path.name), shown, partial(_read_path, path), path)

    def _zipped(self, path: Path, folders: tuple[str, ...], shown: str) -> Iterator[tuple[tuple[str, ...], ClipFile]]:
        total = 0
        infos = [info for info in self._archive(path).infolist() if not _is_passed_over(info.filename)]
        if not infos:
            self._notes.leave_out("archive", "it has no files", shown)
        for info in infos:
            parts = PurePosixPath(info.filename).parts
            where = f"{shown}/{_shown(info.filename)}"
            if parts[0] == "/" or ".." in parts or "\\" in info.filename:
                self._notes.leave_out("file", "its name leads out of the archive", where)
            elif info.file_size > LARGEST_FILE:
                limit = f"it is larger than {LARGEST_FILE // 2**20} MiB"
                self._notes.leave_out("file", limit, f"{where}: {info.file_size:,} bytes")
            else:
                total += info.file_size
                if total > LARGEST_ARCHIVE:
                    limit = f"more than {LARGEST_ARCHIVE // 2**30} GiB"
                    raise UserError.at(path, f"holds {limit} of files: unpack it, and name the folder")
                yield (*folders, *parts[:-1]), ClipFile(_shown(parts[-1]), where, partial(self._read, path, info))

    def _archive(self, path: Path) -> zipfile.ZipFile:
        """The archive, open. Raises UserError where it is none."""
        if not self._open or self._open[0] != path:
            self.close()
            try:
                self._open = path, zipfile.ZipFile(path)
            except (*_ZIP_ERRORS, *_ZIP_REFUSALS) as error:
                raise UserError.at(path, f"is no zip archive that can be read ({error}): pack it again") from error
        return self._open[1]

    def _read(self, path: Path, info: zipfile.ZipInfo) -> bytes:
        try:
            return self._archive(path).read(info)
        except (*_ZIP_ERRORS, *_ZIP_REFUSALS) as error:
            raise ValueError(f"it cannot be read from its archive: {error}") from error


def _owners(documents: Sequence[str]) -> dict[str, str]:
    """name -> document: each whole name, and each last part of one that no other document has."""
    shared = Counter(document.rpartition("/")[2] for document in documents)
    short = {document.rpartition("/")[2]: document for document in documents}
    return {last: document for last, document in short.items() if shared[last] == 1} | {d: d for d in documents}


def _owner(folders: Sequence[str], owners: Mapping[str, str]) -> str | None:
    """The document that a folder or archive bears the name of, the innermost first."""
    spans = ((start, end) for end in range(len(folders), 0, -1) for start in range(end))
    return next((owners[name] for start, end in spans if (name := "/".join(folders[start:end])) in owners), None)


def _is_hidden(part: str) -> bool:
    return (part.startswith(".") and part != "..") or part == "__MACOSX"


def _is_passed_over(name: str) -> bool:
    """Whether a name in an archive is of a folder, hidden, or none at all."""
    return not name.strip("/.") or name.endswith("/") or any(map(_is_hidden, PurePosixPath(name).parts))


def _shown(name: str) -> str:
    """A file's name as text that can be written: bytes that are no UTF-8 become question marks."""
    return name.encode("utf-8", "replace").decode()


def _read_path(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except UserError as error:
        raise ValueError(str(error)) from error


def _text(file: ClipFile) -> str:
    """The file as UTF-8. Raises ValueError."""
    try:
        return decode_text(file.read(), Path(file.where))
    except UserError as error:
        raise ValueError(str(error)) from error


# --- one clip ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Clip:
    """A document's frames in the order of their numbers, and the boxes in them; `images` as in `Imported`."""

    frames: list[Frame] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    images: dict[str, Path | bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _Still:
    """The files of one frame."""

    image: ClipFile | None = None
    labelme: ClipFile | None = None
    yolo: ClipFile | None = None


def read_clip(
    document: str,
    files: Iterable[ClipFile],
    *,
    notes: Imported,
    region_types: Choice | None = None,
    class_names: Sequence[str] = (),
) -> Clip:
    """The clip that these files make; whatever is of no use is noted.

    A frame with a box file is annotated, even where the file is empty. Its image is its image file, or the one inside
    the LabelMe file. `class_names` are what YOLO's numbers mean (left out: the file of names among the files).
    """
    clip = Clip()
    stills, names = _stills(files, notes)
    reader = _Reader(notes, class_names or names, region_types)
    for number, still in sorted(stills.items()):
        reader.add(clip, number, still, folder=f"frames/{file_name(document)}")
    return clip


def _stills(files: Iterable[ClipFile], notes: Imported) -> tuple[dict[int, _Still], tuple[str, ...]]:
    """The files of each frame, and the names of YOLO's classes where a file of them is there."""
    slots = dict.fromkeys(SUFFIXES, "image") | {".json": "labelme", ".txt": "yolo"}
    stills: dict[int, _Still] = defaultdict(_Still)
    names: tuple[str, ...] = ()
    for file in files:
        slot = slots.get(file.suffix)
        if file.name in NAMES_FILES:
            names = names or _class_names(file, notes)
        elif slot is None:
            notes.leave_out("file", "it is neither an image nor a file of boxes", file.where)
        elif file.number is None:
            what = "frame" if slot == "image" else "box file"
            notes.leave_out(what, "its name holds no frame number", file.where)
        elif first := getattr(stills[file.number], slot):
            what = "frame" if slot == "image" else "box file"
            notes.leave_out(what, "another file has its number", f"{file.where}, after {first.where}")
        else:
            setattr(stills[file.number], slot, file)
    return stills, names


def _class_names(file: ClipFile, notes: Imported) -> tuple[str, ...]:
    try:
        return parse_names(_text(file))
    except ValueError as error:
        notes.leave_out("file", "the names of the classes cannot be read", f"{file.where}: {error}")
        return ()


@dataclass(slots=True)
class _Reader:
    notes: Imported
    class_names: Sequence[str]
    region_types: Choice | None

    def add(self, clip: Clip, number: int, still: _Still, *, folder: str) -> None:
        """Add the frame of these files, and its regions, to the clip."""
        labelme = self._labelme(still.labelme) if still.labelme else None
        found = self._image(still, labelme)
        if found is None:
            why = "the image of its frame cannot be used" if still.image else "there is no image of its frame"
            for file in (still.labelme if labelme else None, still.yolo):
                if file:
                    self.notes.leave_out("box file", why, file.where)
            return
        source, suffix, size = found
        said: list[tuple[str, Region]] = []
        annotated = False
        if labelme and still.labelme:
            annotated = True
            if labelme.size not in (None, size):
                detail = f"{still.labelme.where}: for {_pixels(labelme.size or size)}, the image has {_pixels(size)}"
                self.notes.change("box file", "its image has another size: the boxes were scaled", detail)
            said += labelme.regions(number, size=labelme.size or size, where=still.labelme.where, notes=self.notes)
        if still.yolo:
            try:
                text = _text(still.yolo)
            except ValueError as error:
                self.notes.leave_out("box file", "it cannot be read", f"{still.yolo.where}: {error}")
            else:
                annotated = True
                where = still.yolo.where
                said += parse_yolo(text, number, names=self.class_names, where=where, notes=self.notes)
        path = f"{folder}/{number}{suffix}"
        clip.images[path] = source
        clip.frames.append(Frame(number, path, *size, annotated=annotated))
        clip.regions += regions_in_frame(said, self.notes, self.region_types)

    def _labelme(self, file: ClipFile) -> LabelMe | None:
        try:
            return parse_labelme(file.read())
        except ValueError as error:
            self.notes.leave_out("box file", str(error).partition(" (")[0], f"{file.where}: {error}")
            return None

    def _image(self, still: _Still, labelme: LabelMe | None) -> tuple[Path | bytes, str, tuple[int, int]] | None:
        """(source, suffix, size) of the frame's image: its file, or else the one inside the LabelMe file."""
        if file := still.image:
            try:
                source = file.path or file.read()
                return source, file.suffix, _whole_image(source)
            except ValueError as error:
                self.notes.leave_out("frame", "its image is broken", f"{file.where}: {error}")
        if labelme and labelme.image and still.labelme:
            data = labelme.image
            suffix = next((suffix for mark, suffix in _KINDS if data.startswith(mark)), ".jpg")
            try:
                return data, suffix, _whole_image(data)
            except ValueError as error:
                self.notes.leave_out("frame", "its image is broken", f"{still.labelme.where}: $.imageData: {error}")
        return None


def regions_in_frame(
    said: Iterable[tuple[str, Region]], notes: Imported, region_types: Choice | None = None
) -> list[Region]:
    """The regions whose types are chosen and whose boxes are legal, or can be cut to the frame; others are noted.

    `said` are (place, region).
    """
    kept: dict[Region, None] = {}
    for where, region in said:
        name = chosen(region.type, region_types)
        inside = cut_to_frame(region.box)
        if name is None:
            notes.leave_out("region", f"its type {region.type!r} is not chosen", where)
        elif inside is None:
            why = "its box sticks out of the frame" if region.box.has_area else "its box has no area"
            notes.leave_out("region", why, f"{where}: {_fractions(region.box)}")
        else:
            new = replace(region, box=inside, type=name)
            if new in kept:
                notes.leave_out("region", "it stands twice", where)
            elif _overhang(region.box) > ROUNDING:
                notes.change(
                    "region", "its box stuck out of the frame: cut to it", f"{where}: {_fractions(region.box)}"
                )
            kept[new] = None
    return list(kept)


def cut_to_frame(box: Box) -> Box | None:
    """The part of the box in the frame; None where it has none, or sticks out by more than OVERHANG."""
    if not box.has_area or _overhang(box) > OVERHANG:
        return None
    inside = Box(max(box.x0, 0.0), max(box.y0, 0.0), min(box.x1, 1.0), min(box.y1, 1.0))
    return inside if inside.is_legal else None


def _overhang(box: Box) -> float:
    """How far the box sticks out of the frame, as a part of the frame's side; 0 where it does not."""
    return max(-box.x0, -box.y0, box.x1 - 1, box.y1 - 1, 0.0)


def _whole_image(source: Path | bytes) -> tuple[int, int]:
    """The size of an image that is whole. Raises ValueError where it is not."""
    size = image_size(source)
    if problem := image_problem(source, size):
        raise ValueError(problem)
    return size


def _pixels(size: tuple[float, float]) -> str:
    return f"{size[0]:g} x {size[1]:g}"


def _fractions(box: Box) -> str:
    return "[" + ", ".join(f"{edge:.4g}" for edge in box) + "]"
