"""The frames of clips and the boxes drawn in them: image, LabelMe and YOLO files in folders and zip archives.

A file belongs to the document that a folder or archive around it is named after; with a single document and no file
named so, the files directly in the folder or archive are its. Archives are never unpacked, so that no name in one
becomes a path. A frame's number is the last number in its file's name.
"""

from __future__ import annotations

import lzma
import re
import struct
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from types import TracebackType

from m3dllm.corpora.choice import Choice, chosen
from m3dllm.corpora.documents import note_repeated
from m3dllm.corpora.framefiles import ClipFile, Still, frame_number, number_in, pair_files
from m3dllm.corpora.images import TIFF, image_as_png, image_problem, image_size, image_turn, suffix_of
from m3dllm.corpora.imported import DUPLICATE, NOT_SELECTED, ImageSource, Imported, LeftOut
from m3dllm.corpora.labelme_shapes import LabelMe, parse_labelme
from m3dllm.corpora.turned import BoxOrientation, Turned, reading
from m3dllm.corpora.walk import is_hidden, readable, walk_files
from m3dllm.corpora.yolo import is_names_file, parse_names, parse_yolo
from m3dllm.errors import UserError
from m3dllm.files import decode_text, file_name, read_bytes
from m3dllm.pictures import cut_to_frame, overhang, turn_box
from m3dllm.types import Box, Frame, Region

__all__ = ["BoxOrientation", "Clip", "ClipFile", "ClipFiles", "cut_to_frame", "frame_number", "read_clip"]

UNUSABLE = "none of its boxes could be used: it is treated as not annotated"
"""Why a frame with boxes is not annotated."""
PARTLY = "some of its boxes could not be used: it stays annotated, and its gold lacks them"
"""The note on a frame of which only some boxes are gold. To drop it would lose the correct boxes; kept, it counts
a system's box for a missing one as wrong, in as many frames as the count says."""
ROUNDING = 1e-5
"""Edges this close to the frame's, in fractions, are set on it: the error of rounded decimals."""
LARGEST_FILE = 64 * 2**20
LARGEST_ARCHIVE = 4 * 2**30
HELD = 16 * 2**20
"""Bytes of images that are kept in memory; beyond that, images are read again when they are written."""

_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError)
_ZIP_REFUSALS = (NotImplementedError, RuntimeError)  # an unknown compression; a password


# --- folders and archives ---------------------------------------------------------------------------------------------


class ClipFiles:
    """The files under a folder, in the zip archives there, or in one zip archive, by the document they belong to.

    Hidden files and those that macOS adds to archives are ignored. A context manager: it keeps one archive open.
    """

    def __init__(
        self,
        root: Path,
        documents: Iterable[str],
        notes: Imported,
        *,
        besides: Iterable[Path] = (),
        noted: Collection[Path] = (),
    ) -> None:
        """`besides`: files there that belong to no clip; `noted`: files that the caller notes if they belong to no
        document.

        Raises UserError where `root` is neither a folder nor a zip archive.
        """
        self._notes = notes
        self._besides = {path.resolve() for path in besides}
        self._open: tuple[Path, zipfile.ZipFile] | None = None
        self._owned: dict[str, list[ClipFile]] = defaultdict(list)
        self._others: Counter[str] = Counter()
        self._names: list[ClipFile] = []
        names = list(documents)
        owners = _owners(names)
        orphans: list[tuple[tuple[str, ...], ClipFile]] = []
        try:
            for folders, file in self._files(root):
                if owner := _owner(folders, owners):
                    self._owned[owner].append(file)
                elif is_names_file(file.name):
                    self._names.append(file)
                elif found := _owner_by_name(folders, file, owners):
                    self._owned[found[0]].append(replace(file, rest=found[1]))
                else:
                    orphans.append((folders, file))
        except BaseException:
            self.close()
            raise
        self.class_names = next(filter(None, (_class_names(file, notes) for file in self._names)), ())
        to_one = names[0] if len(names) == 1 and not self._owned else None
        for folders, file in orphans:
            if to_one and (root.is_file() or len(folders) == 1):
                self._owned[to_one].append(file)
            elif file.path not in noted:
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

    def used(self) -> set[Path]:
        """The files in folders that belong to a document, or name classes."""
        owned = (file for files in self._owned.values() for file in files)
        return {file.path for file in (*owned, *self._names) if file.path}

    def leave_out_others(self) -> None:
        """Note the files that belong to no document, those in a subfolder by folder."""
        for place, count in sorted(self._others.items()):
            if place.endswith("/"):
                files = "1 file" if count == 1 else f"{count:,} files"
                self._notes.leave_out("folder", "no document has its name", f"{place}: {files}")
            else:
                self._notes.leave_out("file", "none of its parent folders has a document's name", place)

    def _files(self, root: Path) -> Iterator[tuple[tuple[str, ...], ClipFile]]:
        """(the names of the folders and archives around it, file) for each file under `root`."""
        if root.is_file():
            yield from self._zipped(root, (root.stem,), root.name)
            return
        if not root.is_dir():
            raise UserError.at(root, "does not exist; expected a folder or a zip archive of frames or boxes")
        for path in walk_files(root, self._notes):
            inside = path.relative_to(root)
            if path.suffix.lower() in (".ann", ".txt") and path.resolve() in self._besides:
                continue
            folders, shown = (root.name, *inside.parts[:-1]), readable(f"{root.name}/{inside.as_posix()}")
            if path.suffix.lower() == ".zip":
                yield from self._zipped(path, (*folders, path.stem), shown)
            else:
                yield folders, ClipFile(readable(path.name), shown, partial(_read_path, path), path)

    def _zipped(self, path: Path, folders: tuple[str, ...], shown: str) -> Iterator[tuple[tuple[str, ...], ClipFile]]:
        total = 0
        infos = [(info, _name_in_archive(info)) for info in self._archive(path).infolist()]
        infos = [(info, name) for info, name in infos if not _is_passed_over(name)]
        if not infos:
            self._notes.leave_out("archive", "it has no files", shown)
        for info, name in infos:
            parts = PurePosixPath(name).parts
            where = f"{shown}/{readable(name)}"
            if parts[0] == "/" or ".." in parts or parts[0].endswith(":"):
                self._notes.leave_out("file", "its path leads out of the archive", where)
            elif info.file_size > LARGEST_FILE:
                limit = f"it is larger than {LARGEST_FILE // 2**20} MiB"
                self._notes.leave_out("file", limit, f"{where}: {info.file_size:,} bytes")
            else:
                total += info.file_size
                if total > LARGEST_ARCHIVE:
                    limit = f"more than {LARGEST_ARCHIVE // 2**30} GiB"
                    raise UserError.at(path, f"holds {limit} of files: unpack it and give the folder")
                yield (*folders, *parts[:-1]), ClipFile(readable(parts[-1]), where, partial(self._read, path, info))

    def _archive(self, path: Path) -> zipfile.ZipFile:
        """The archive, open. Raises UserError where it is none."""
        if not self._open or self._open[0] != path:
            self.close()
            try:
                self._open = path, zipfile.ZipFile(path)
            except (*_ZIP_ERRORS, *_ZIP_REFUSALS) as error:
                raise UserError.at(path, f"is not a readable zip archive ({error}): create it again") from error
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
    """The document that one of the folders or archives is named after, the innermost first."""
    folders = [readable(folder) for folder in folders]
    spans = ((start, end) for end in range(len(folders), 0, -1) for start in range(end))
    return next((owners[name] for start, end in spans if (name := "/".join(folders[start:end])) in owners), None)


def _owner_by_name(folders: Sequence[str], file: ClipFile, owners: Mapping[str, str]) -> tuple[str, str] | None:
    """(the document that a file is named after, the rest of its name): `d.jpg`, `d_0001.jpg`."""
    stem, folders = PurePosixPath(file.name).stem, [readable(folder) for folder in folders]
    cuts = [(stem, "")] + [(stem[: m.start()], stem[m.end() :]) for m in reversed([*re.finditer("[-_. ]", stem)])]
    for name, rest in cuts:
        if not rest or number_in(rest) is not None:
            for start in range(len(folders) + 1):
                if owner := owners.get("/".join((*folders[start:], name))):
                    return owner, rest
    return None


def _name_in_archive(info: zipfile.ZipInfo) -> str:
    """The name in an archive, with slashes; one not marked as UTF-8 is read as UTF-8 or GBK if possible."""
    name = info.filename
    if not info.flag_bits & 0x800:
        with suppress(UnicodeEncodeError):
            data = name.encode("cp437")
            for encoding in ("utf-8", "gb18030"):
                with suppress(UnicodeDecodeError):
                    name = data.decode(encoding)
                    break
    return name.replace("\\", "/")


def _is_passed_over(name: str) -> bool:
    """Whether a name in an archive is of a folder, hidden, or none at all."""
    return not name.strip("/.") or name.endswith("/") or any(map(is_hidden, PurePosixPath(name).parts))


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
    images: dict[str, ImageSource] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BoxOptions:
    """How boxes are read: which types are imported, what YOLO's numbers mean, whether shapes are covered by boxes, and
    whether they were drawn on the upright image or on the stored pixels ("auto": by the size in the box file,
    else upright)."""

    region_types: Choice | None = None
    class_names: Sequence[str] = ()
    cover: bool = False
    orientation: BoxOrientation = "auto"


def read_clip(
    document: str,
    files: Iterable[ClipFile],
    *,
    notes: Imported,
    region_types: Choice | None = None,
    class_names: Sequence[str] = (),
    cover: bool = False,
    orientation: BoxOrientation = "auto",
) -> Clip:
    """The clip made of these files; what cannot be used is noted.

    A frame with a box file is annotated, even if the file is empty, but not if none of its boxes can be used. Its image
    is its image file, or the one inside the LabelMe file. `class_names`: the names of YOLO's numbers (default: the file
    of names among the files).
    """
    clip = Clip()
    stills, names = pair_files(files, notes)
    named = next(filter(None, (_class_names(file, notes) for file in names)), ())
    reader = _Reader(notes, BoxOptions(region_types, class_names or named, cover, orientation))
    for number, still in stills.items():
        reader.add(clip, number, still, folder=f"frames/{file_name(document)}")
    return clip


def _class_names(file: ClipFile, notes: Imported) -> tuple[str, ...]:
    try:
        return parse_names(_text(file))
    except ValueError as error:
        notes.leave_out("file", "the names of the classes cannot be read", f"{file.where}: {error}")
        return ()


@dataclass(frozen=True, slots=True)
class _Picture:
    """The image of a frame: where it is from, its suffix, its size and how it is stored (see `pictures`)."""

    source: ImageSource
    suffix: str
    size: tuple[int, int]
    turn: int

    @property
    def stored_size(self) -> tuple[int, int]:
        width, height = self.size
        return (height, width) if self.turn > 4 else (width, height)


@dataclass(slots=True)
class _Reader:
    notes: Imported
    options: BoxOptions

    def add(self, clip: Clip, number: int, still: Still, *, folder: str) -> None:
        """Add the frame of these files, and its regions, to the clip."""
        labelme = self._labelme(still.labelme) if still.labelme else None
        picture = self._picture(still, labelme)
        if picture is None:
            why = "the image of its frame cannot be used" if still.image else "the image of its frame is missing"
            for file in (still.labelme if labelme else None, still.yolo):
                if file:
                    self.notes.leave_out("box file", why, file.where)
            return
        before = len(self.notes.left_out)
        drawn: list[tuple[str, Region]] = []
        annotated = False
        if labelme and still.labelme:
            annotated = True
            drawn += self._drawn(labelme, still.labelme, number, picture)
        if still.yolo:
            try:
                text = _text(still.yolo)
            except ValueError as error:
                self.notes.leave_out("box file", "it cannot be read", f"{still.yolo.where}: {error}")
            else:
                annotated = True
                drawn += self._listed(text, still.yolo, number, picture)
        regions = regions_in_frame(drawn, self.notes, self.options.region_types)
        path = f"{folder}/{number}{picture.suffix}"
        if annotated and any(map(is_unusable, self.notes.left_out[before:])):
            annotated = bool(regions)
            self.notes.change("frame", PARTLY if regions else UNUSABLE, still.name.where)
        clip.images[path] = picture.source
        clip.frames.append(Frame(number, path, *picture.size, annotated=annotated))
        clip.regions += regions

    def _drawn(self, labelme: LabelMe, file: ClipFile, number: int, picture: _Picture) -> list[tuple[str, Region]]:
        """The shapes of a LabelMe file in the upright image."""
        turned = Turned.by_size(picture.turn, picture.size, labelme.size, file.where)
        if labelme.size is None:
            turned = Turned.by_reach(picture.turn, picture.size, labelme.reach, file.where)
        as_stored = self._as_stored(turned)
        size = picture.stored_size if as_stored else picture.size
        if labelme.size not in (None, size):
            detail = f"{file.where}: for {_pixels(labelme.size or size)}, the image has {_pixels(size)}"
            self.notes.change("box file", "its image has a different size: the boxes were scaled", detail)
        named = number_in(PurePosixPath(labelme.image_path.replace("\\", "/")).stem)
        if named is not None and file.number is not None and named != file.number:
            why = "it names the image of another frame: its boxes are used for the image with its own name"
            self.notes.change("box file", why, f"{file.where}: $.imagePath: {labelme.image_path!r}")
        labelme.note_extras(file.where, self.notes)
        scale, cover = labelme.size or size, self.options.cover
        found = labelme.regions(number, size=scale, where=file.where, notes=self.notes, cover=cover)
        return [_turned(one, picture.turn) for one in found] if as_stored else found

    def _listed(self, text: str, file: ClipFile, number: int, picture: _Picture) -> list[tuple[str, Region]]:
        """The lines of a YOLO file in the upright image."""
        names, cover = self.options.class_names, self.options.cover
        found = parse_yolo(text, number, names=names, where=file.where, notes=self.notes, cover=cover)
        if found and self._as_stored(Turned.by_size(picture.turn, picture.size, None, file.where)):
            return [_turned(one, picture.turn) for one in found]
        return found

    def _as_stored(self, turned: Turned) -> bool:
        """Whether boxes were drawn on the stored pixels; a guess that may be wrong is noted."""
        if turned.turn == 1:
            return False
        option = self.options.orientation
        stored = turned.stored if option == "auto" else option == "stored"
        if stored or not turned.surely:
            self.notes.change("box file", reading(stored), f"{turned.where}: orientation {turned.turn}")
        return stored

    def _labelme(self, file: ClipFile) -> LabelMe | None:
        try:
            data = file.read()
            found = parse_labelme(data)
            note_repeated(data, None, file.where, self.notes)
            return found
        except ValueError as error:
            self.notes.leave_out("box file", str(error).partition(" (")[0], f"{file.where}: {error}")
            return None

    def _picture(self, still: Still, labelme: LabelMe | None) -> _Picture | None:
        """The frame's image: its file, or else the one inside the LabelMe file."""
        if file := still.image:
            try:
                found = self._measured(file.path or file.read(), file.suffix, file.where)
                return self._held(found, _again(file, None, file.suffix))
            except ValueError as error:
                self.notes.leave_out("frame", "its image is broken", f"{file.where}: {error}")
        if labelme and labelme.image and still.labelme:
            data = labelme.image
            suffix = suffix_of(data)
            try:
                found = self._measured(data, suffix, still.labelme.where)
                return self._held(found, _again(still.labelme, _inner_image, suffix))
            except ValueError as error:
                self.notes.leave_out("frame", "its image is broken", f"{still.labelme.where}: $.imageData: {error}")
        return None

    def _held(self, picture: _Picture, again: Callable[[], bytes]) -> _Picture:
        """The picture; if many are in memory already, with a function that reads it again when it is written."""
        if not isinstance(picture.source, bytes):
            return picture
        self.notes.held += len(picture.source)
        return picture if self.notes.held <= HELD else replace(picture, source=again)

    def _measured(self, source: Path | bytes, suffix: str, where: str) -> _Picture:
        """The image, with its size; TIFF is converted to PNG. Raises ValueError if it is broken."""
        size, turn = _whole_image(source), image_turn(source)
        if suffix in TIFF:
            source, suffix = image_as_png(source), ".png"
            self.notes.change("frame", "it is a TIFF, which browsers do not show: converted to PNG", where)
        return _Picture(source, suffix, size, turn)


def _again(file: ClipFile, part: Callable[[bytes], bytes] | None, suffix: str) -> Callable[[], bytes]:
    """A function that reads the image again."""

    def read() -> bytes:
        data = file.read() if part is None else part(file.read())
        return image_as_png(data) if suffix in TIFF else data

    return read


def _inner_image(data: bytes) -> bytes:
    return parse_labelme(data).image or b""


def regions_in_frame(
    drawn: Iterable[tuple[str, Region]], notes: Imported, region_types: Choice | None = None
) -> list[Region]:
    """The regions whose types are chosen and whose boxes are legal, or can be cut to the frame; others are noted.

    `drawn` are (place, region).
    """
    kept: dict[Region, None] = {}
    for where, region in drawn:
        name = chosen(region.type, region_types)
        inside = cut_to_frame(region.box)
        if name is None:
            notes.leave_out("region", f"its type {region.type!r} {NOT_SELECTED}", where)
        elif inside is None:
            why = "its box extends beyond the frame" if region.box.has_area else "its box has no area"
            notes.leave_out("region", why, f"{where}: {_fractions(region.box)}")
        else:
            new = replace(region, box=inside, type=name)
            if new in kept:
                notes.leave_out("region", DUPLICATE, where)
            elif overhang(region.box) > ROUNDING:
                notes.change(
                    "region", "its box extended beyond the frame: clipped", f"{where}: {_fractions(region.box)}"
                )
            kept[new] = None
    return list(kept)


def _turned(one: tuple[str, Region], turn: int) -> tuple[str, Region]:
    where, region = one
    return where, replace(region, box=turn_box(region.box, turn))


def is_unusable(left: LeftOut) -> bool:
    """Whether a region was left out as unusable, not because its type is not selected or it is a duplicate."""
    return left.what == "region" and not left.why.endswith(NOT_SELECTED) and left.why != DUPLICATE


def _whole_image(source: Path | bytes) -> tuple[int, int]:
    """(width, height) in pixels of an image. Raises ValueError if it is broken."""
    size = image_size(source)
    if problem := image_problem(source, size):
        raise ValueError(problem)
    return size


def _pixels(size: tuple[float, float]) -> str:
    return f"{size[0]:g} x {size[1]:g}"


def _fractions(box: Box) -> str:
    return "[" + ", ".join(f"{edge:.4g}" for edge in box) + "]"
