"""The M3D dataset as released: JSON documents, and frames with boxes.

`data/{lang}/{split}_{lang}.json` is a list of documents; `img/{video_id}/` holds the frames of a clip and, with the
same stem, a text file of boxes (`TYPE cx cy w h` a line, fractions of the frame). Offsets count words between single
spaces in English and characters in Chinese. Boxes are not tied to a chain.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec

from m3dllm.corpora.documents import Row, read_documents
from m3dllm.corpora.framefiles import frame_number
from m3dllm.corpora.frames import PARTLY, UNUSABLE, is_unusable
from m3dllm.corpora.images import SUFFIXES, UNREAD, image_as_png, image_size, image_turn, is_tiff
from m3dllm.corpora.imported import DUPLICATE, Imported, split_name, unused_id
from m3dllm.corpora.jsonfiles import keys, note_unread
from m3dllm.corpora.places import split_word
from m3dllm.corpora.turned import reading
from m3dllm.errors import UserError, one_line
from m3dllm.files import file_name, inside, read_bytes, read_text
from m3dllm.guidelines import guideline_files
from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.pictures import turn_box
from m3dllm.types import (
    Annotation,
    Box,
    Chain,
    Document,
    Example,
    Frame,
    Lang,
    Mention,
    Region,
    Relation,
    Segment,
    Task,
)
from m3dllm.wire import WireError, convert, read_labels

# The box files have about six decimals: an edge may miss the frame's by that much, and is then meant to lie on it.
ROUNDING = 1e-5
_FILE = re.compile(r"(?P<split>.+)_(?P<lang>en|zh)", re.IGNORECASE)
_SUFFIX = re.compile(r"\.jsonl?(\.gz)?$", re.IGNORECASE)
_SHAPE = keys(
    "doc time_sent_pair image video_id video_title lang",
    entityLink={"*": keys("len type", link=[keys("type start end text sent_time")])},
    relation=[keys("link1 link2 type")],
)
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")
_PAIR = re.compile(r"([A-Z]+)-([A-Z]+)_")


@cache
def m3d_labels() -> LabelSet:
    """The types of M3D: four of mentions, three of regions, 34 of relations, glossed in English and Chinese."""
    return read_labels(Path(__file__).with_name("m3d_labels.json"))


M3D_GUIDELINES = Path(__file__).with_name("m3d_guidelines")
"""The folder with what M3D's annotators mark, in our words (the paper's section IV)."""


def m3d_guidelines() -> dict[str, bytes]:
    """These guidelines, as the files that a corpus has of them."""
    return {file.name: read_bytes(file) for file in guideline_files(M3D_GUIDELINES).values()}


def read_m3d(
    path: Path, *, images: Path | None = None, box_orientation: Literal["upright", "stored"] = "upright"
) -> Imported:
    """The documents at `path`: the released folder, its `data` folder, a folder of JSON files, or one JSON file.

    - `images`: the folder with one folder of frames per clip; default: the `img` next to or above the data.
    - `box_orientation`: whether boxes in images rotated by EXIF were drawn on the upright image or on the stored
      pixels.

    Documents of both languages share a split; `group` is the source video. Types that M3D does not have are added to
    its label set. Raises UserError where there is no document or a file has another shape.
    """
    imported = Imported(m3d_labels())
    reader = _Reader(imported, box_orientation)
    for file in _data_files(path):
        named = _FILE.fullmatch(_stem(file))
        written = named["split"] if named else _stem(file)
        split = split_word(written) or split_name(written)
        shown = file.relative_to(path).as_posix() if path.is_dir() else file.name
        folder = images or _image_folder(file)
        for i, row in enumerate(read_documents(file, imported, keys=("doc",))):
            source = _source(row, file)
            note_unread(row.value, _SHAPE, row.at(shown), imported)
            lang = source.lang or (named["lang"].lower() if named else None)
            if lang not in ("en", "zh"):
                raise row.error(WireError(f"is {lang!r}; expected 'en' or 'zh'", "$.lang"), file)
            reader.add(source, split=split, lang="zh" if lang == "zh" else "en", i=i, place=row.at(shown), img=folder)
    imported.labels = _with_types(imported.labels, reader.new_types)
    imported.images |= m3d_guidelines()
    return imported.require_documents(path)


# --- the files' shape -------------------------------------------------------------------------------------------------


class _Mention(msgspec.Struct):
    type: str
    start: int
    end: int
    text: str | None = None


class _Chain(msgspec.Struct):
    mentions: list[_Mention] = msgspec.field(name="link")


class _Relation(msgspec.Struct):
    link1: str
    link2: str
    type: str


class _Source(msgspec.Struct):
    text: str = msgspec.field(name="doc")
    chains: dict[str, _Chain] | None = msgspec.field(name="entityLink", default=None)
    relations: list[_Relation] | None = msgspec.field(name="relation", default=None)
    sentences: dict[str, str] | None = msgspec.field(name="time_sent_pair", default=None)
    frames: list[Any] | None = msgspec.field(name="image", default=None)
    clip: str | None = msgspec.field(name="video_id", default=None)
    title: str | None = msgspec.field(name="video_title", default=None)
    lang: str | None = None


def _source(row: Row, file: Path) -> _Source:
    """The document of a row. Raises UserError with the place of the first value of another shape."""
    try:
        source = convert(row.value, _Source)
    except WireError as error:
        raise row.error(_misshapen(row.value) or error, file) from error
    if source.chains is None and source.relations:
        raise row.error(WireError("lacks the field 'entityLink'"), file)
    return source


def _misshapen(value: dict[str, Any]) -> WireError | None:
    """The error of the first chain of another shape, whose place names the chain."""
    chains = value.get("entityLink")
    for name, chain in chains.items() if isinstance(chains, dict) else ():
        try:
            convert(chain, _Chain)
        except WireError as error:
            return WireError(error.message, f"$.entityLink.{one_line(name)}{error.place.removeprefix('$')}")
    return None


# --- where the files are ----------------------------------------------------------------------------------------------


def _stem(file: Path) -> str:
    return _SUFFIX.sub("", file.name)


def _data_files(path: Path) -> list[Path]:
    """The JSON files of documents at `path`, in the order train, dev, test, others, English first."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError.at(path, "does not exist; expected the M3D folder, or one of its JSON files")
    here = {file for pattern in ("", "data/", "*/", "data/*/") for file in path.glob(f"{pattern}*")}
    found = (file for file in here if _SUFFIX.search(file.name) and file.is_file())
    named = [(file, match) for file in found if (match := _FILE.fullmatch(_stem(file)))]
    if not named:
        raise UserError.at(path, "has no data/{lang}/{split}_{lang}.json, such as data/en/dev_en.json")
    order = ("train", "dev", "test")

    def rank(item: tuple[Path, re.Match[str]]) -> tuple[int, str, str, str]:
        split = split_word(item[1]["split"]) or item[1]["split"]
        return (order.index(split) if split in order else len(order), split, item[1]["lang"].lower(), str(item[0]))

    return [file for file, _ in sorted(named, key=rank)]


def _image_folder(file: Path) -> Path | None:
    """`img` beside the file or up to two folders above it: beside `data`, or inside it."""
    parents = file.absolute().parents
    return next((folder / "img" for folder in parents[:3] if (folder / "img").is_dir()), None)


# --- one document -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Reader:
    """Brings documents into `imported`, naming whatever cannot come in."""

    imported: Imported
    box_orientation: Literal["upright", "stored"] = "upright"
    ids: set[str] = field(default_factory=set)
    new_types: dict[tuple[str, str], None] = field(default_factory=dict)

    def add(self, source: _Source, *, split: str, lang: Lang, i: int, place: str, img: Path | None) -> None:
        clip, title = source.clip or "", source.title or ""
        name = self._id(clip, split=split, lang=lang, i=i, place=place)
        group = title or re.sub(r"_\d+$", "", clip)
        starts, ends = token_offsets(source.text, lang)
        frames, regions = self._frames(source, name, place=place, img=img)
        chains = self._chains(source, starts, ends, place=place)
        document = Document(
            name,
            lang,
            source.text,
            title=title,
            group=f"{lang}:{group}" if group else "",
            tokens=tuple((start, end) for start, end in zip(starts, ends, strict=True) if start < end),
            segments=self._segments(source, place=place),
            frames=frames,
        )
        gold = Annotation(tuple(chains.values()), self._relations(source, chains, place=place), regions)
        self.imported.add(split, Example(document, gold, _unannotated(source)))

    def _id(self, clip: str, *, split: str, lang: Lang, i: int, place: str) -> str:
        by_place = f"{lang}-{split}-{i}"
        instead = (f"{clip}-{lang}", f"{clip}-{lang}-{split}", by_place) if clip else ()
        name = unused_id(clip or by_place, self.ids, instead=instead)
        if name != clip and clip:
            why = "appears twice" if clip in self.ids else "is not a valid id"
            self.imported.change("document", f"its video_id {why}: renamed", f"{place}.video_id: {clip!r} is {name!r}")
        self.ids.add(name)
        return name

    def _segments(self, source: _Source, *, place: str) -> tuple[Segment, ...]:
        segments, position = [], 0
        for key, sentence in (source.sentences or {}).items():
            where = f"{place}.time_sent_pair.{key}"
            times = _SECONDS.fullmatch(key)
            start_s, end_s = map(float, times.groups()) if times else (1.0, 0.0)
            start = source.text.find(sentence, position)
            if start < 0:
                start = source.text.find(sentence)
            if not start_s <= end_s < math.inf:
                self.imported.leave_out("segment", "its time is not 'start-end' in seconds", where)
            elif start < 0 or not sentence:
                self.imported.leave_out("segment", "its sentence is not in the text", where)
            else:
                position = start + len(sentence)
                segments.append(Segment(start, position, start_s, end_s))
        return tuple(segments)

    def _chains(self, source: _Source, starts: Sequence[int], ends: Sequence[int], *, place: str) -> dict[str, Chain]:
        chains: dict[str, Chain] = {}
        seen: set[tuple[int, int]] = set()
        for name, chain in (source.chains or {}).items():
            mentions = []
            for j, mention in enumerate(chain.mentions):
                where = f"{place}.entityLink.{name}.link[{j}]"
                if not 0 <= mention.start < mention.end <= len(starts):
                    offsets = f"{mention.start} to {mention.end} of {len(starts)}"
                    self.imported.leave_out("mention", "its offsets are outside the text", f"{where}: {offsets}")
                    continue
                span = starts[mention.start], ends[mention.end - 1]
                found = source.text[slice(*span)]
                if mention.text is not None and mention.text != found:
                    why = "its text differs from the text at its offsets"
                    self.imported.leave_out("mention", why, f"{where}: {mention.text!r}, the text has {found!r}")
                elif not found or not mention.type:
                    self.imported.leave_out("mention", "it has no type" if found else "it has no text", where)
                elif span in seen:
                    self.imported.leave_out("mention", "its span is already a mention", f"{where}: {found!r}")
                else:
                    seen.add(span)
                    self._note_type("mention", mention.type, where)
                    mentions.append(Mention(*span, mention.type))
            if mentions:
                chains[name] = Chain(name, tuple(mentions))
            else:
                self.imported.leave_out("chain", "none of its mentions is left", f"{place}.entityLink.{name}")
        return chains

    def _relations(self, source: _Source, chains: dict[str, Chain], *, place: str) -> tuple[Relation, ...]:
        relations: dict[Relation, None] = {}
        for j, relation in enumerate(source.relations or ()):
            where = f"{place}.relation[{j}]"
            ends = relation.link1, relation.link2
            if missing := [end for end in ends if end not in chains]:
                self.imported.leave_out(
                    "relation", "it refers to a chain that does not exist", f"{where}: {missing[0]}"
                )
            elif relation.link1 == relation.link2:
                self.imported.leave_out("relation", "it joins a chain to itself", f"{where}: {relation.link1}")
            elif not relation.type:
                self.imported.leave_out("relation", "it has no type", where)
            else:
                found = direct(relation.type, chains[relation.link1], chains[relation.link2])
                if found in relations:
                    self.imported.leave_out("relation", DUPLICATE, f"{where}: {relation.type}")
                self._note_type("relation", relation.type, where)
                relations[found] = None
        return tuple(relations)

    def _frames(
        self, source: _Source, name: str, *, place: str, img: Path | None
    ) -> tuple[tuple[Frame, ...], tuple[Region, ...]]:
        """The frames of the document's clip in the order of their numbers, and the boxes in them."""
        listed = self._listed(source, place=place)
        if not source.clip or img is None:
            why = "the clip's id is missing" if img else "there is no img folder: the frames are a separate download"
            for number in listed:
                self.imported.leave_out("annotated frame", why, f"{place}.image: {number}")
            return (), ()
        try:
            folder = inside(img, source.clip)
        except ValueError as error:
            self.imported.leave_out("clip", str(error), f"{place}.video_id")
            return (), ()
        if not folder.is_dir():
            self.imported.leave_out("clip", "it has no folder of frames", f"{place}.video_id: {folder}")
            return (), ()
        images, boxes = self._clip_files(folder)
        frames, regions = [], []
        for number, image in sorted(images.items()):
            box_file = boxes.pop(image.stem, None)
            try:
                width_px, height_px = image_size(image)
            except ValueError as error:
                self.imported.leave_out("frame", str(error), f"{image}")
                if box_file:
                    self.imported.leave_out("box file", "its frame was skipped", f"{box_file}")
                continue
            path = f"frames/{file_name(name)}/{number}{'.png' if is_tiff(image.name) else image.suffix.lower()}"
            self.imported.images[path] = image_as_png(image) if is_tiff(image.name) else image
            if is_tiff(image.name):
                self.imported.change("frame", "it is a TIFF, which browsers do not show: converted to PNG", f"{image}")
            before = len(self.imported.left_out)
            boxes_here = self._boxes(box_file, number, image) if box_file else []
            annotated = box_file is not None or number in listed
            if annotated and any(map(is_unusable, self.imported.left_out[before:])):
                annotated = bool(boxes_here)
                self.imported.change("frame", PARTLY if boxes_here else UNUSABLE, f"{image}")
            frames.append(Frame(number, path, width_px, height_px, annotated))
            regions += boxes_here
        for file in boxes.values():
            self.imported.leave_out("box file", "there is no image with its name", f"{file}")
        for number in sorted(listed - images.keys()):
            self.imported.leave_out(
                "annotated frame", "there is no image for it", f"{place}.image: {number} in {folder}"
            )
        return tuple(frames), tuple(regions)

    def _listed(self, source: _Source, *, place: str) -> set[int]:
        listed = set()
        for number in source.frames or ():
            digits = str(number)
            if re.fullmatch(r"[0-9]{1,9}", digits):
                listed.add(int(digits))
            else:
                self.imported.leave_out("annotated frame", "it is not a frame number", f"{place}.image: {number!r}")
        return listed

    def _clip_files(self, folder: Path) -> tuple[dict[int, Path], dict[str, Path]]:
        """(frame number -> image, stem -> box file) of a clip's folder."""
        images: dict[int, Path] = {}
        boxes: dict[str, Path] = {}
        for file in sorted(folder.iterdir()):
            number = frame_number(file.name)
            if file.name.startswith(".") or not file.is_file():
                continue
            if file.suffix.lower() == ".txt":
                boxes[file.stem] = file
            elif file.suffix.lower() in UNREAD:
                kind = file.suffix[1:].upper()
                why = f"{kind} images are not supported: save it as JPEG or PNG"
                self.imported.leave_out("frame", why, f"{file}")
            elif file.suffix.lower() not in SUFFIXES:
                self.imported.leave_out("file", "it is neither an image nor a .txt file of boxes", f"{file}")
            elif number is None:
                self.imported.leave_out("frame", "its name has no frame number", f"{file}")
            elif number in images:
                self.imported.leave_out("frame", "another image has the same number", f"{file}")
            else:
                images[number] = file
        return images, boxes

    def _boxes(self, file: Path, number: int, image: Path) -> list[Region]:
        regions: dict[Region, None] = {}
        turn = image_turn(image)
        if turn != 1:
            stored = self.box_orientation == "stored"
            self.imported.change("box file", reading(stored), f"{file}: orientation {turn}")
            turn = turn if stored else 1
        for line, text in enumerate(read_text(file).splitlines(), start=1):
            where = f"{file}:{line}"
            if not text.strip():
                continue
            kind, *numbers = text.split()
            try:
                centre_x, centre_y, width, height = map(float, numbers)
            except ValueError:
                self.imported.leave_out("region", "it is not 'TYPE cx cy w h'", f"{where}: {text.strip()!r}")
                continue
            box = _onto_the_frame(turn_box(Box.from_cxcywh(centre_x, centre_y, width, height), turn))
            region = Region(number, box, kind)
            if not box.is_legal:
                why = "its box is not inside the frame, as fractions"
                self.imported.leave_out("region", why, f"{where}: {text.strip()!r}")
            elif region in regions:
                self.imported.leave_out("region", DUPLICATE, f"{where}: {text.strip()!r}")
            else:
                self._note_type("region", kind, where)
                regions[region] = None
        return list(regions)

    def _note_type(self, kind: str, name: str, where: str) -> None:
        if name not in self.imported.labels.names(f"{kind}s") and (kind, name) not in self.new_types:
            self.new_types[kind, name] = None
            self.imported.change(f"{kind} type", "M3D does not have it: added to the labels", f"{where}: {name!r}")


def _unannotated(source: _Source) -> frozenset[Task]:
    """The tasks whose part the file does not have: a test file that is given out without its answers."""
    if source.chains is None:
        return frozenset(("entity", "chain", "relation"))
    return frozenset(("relation",) if source.relations is None else ())


def token_offsets(text: str, lang: Lang) -> tuple[list[int], list[int]]:
    """(starts, ends) of M3D's tokens: words between single spaces in English, characters in Chinese.

    Two spaces in a row enclose an empty word, which has a number but no characters.
    """
    if not text:
        return [], []
    if lang == "zh":
        return list(range(len(text))), list(range(1, len(text) + 1))
    spaces = [-1, *(i for i, character in enumerate(text) if character == " "), len(text)]
    return [left + 1 for left, _ in pairwise(spaces)], [right for _, right in pairwise(spaces)]


def direct(name: str, link1: Chain, link2: Chain) -> Relation:
    """The relation of M3D's `link1` and `link2` with its head first.

    The head is the chain of the type that comes first in the name (`PER-LOC_birth`), which in M3D is always link2;
    where both types are the same, it is link1.
    """
    types = _PAIR.match(name)
    if types is None or types[1] == types[2] or (link1.type, link2.type) == types.groups():
        return Relation(link1.id, link2.id, name)
    return Relation(link2.id, link1.id, name)


def _onto_the_frame(box: Box) -> Box:
    """The box with the edges that miss the frame's by no more than rounding put on them."""
    x0, y0 = (0.0 if -ROUNDING <= edge < 0 else edge for edge in (box.x0, box.y0))
    x1, y1 = (1.0 if 1 < edge <= 1 + ROUNDING else edge for edge in (box.x1, box.y1))
    return Box(x0, y0, x1, y1)


def _with_types(labels: LabelSet, found: Iterable[tuple[str, str]]) -> LabelSet:
    """`labels` with the (kind, name) of `found` added."""
    kinds = {kind: sorted(name for k, name in found if k == kind) for kind in ("mention", "relation", "region")}
    mentions = (*labels.mentions, *map(Label, kinds["mention"]))
    known = {label.name for label in mentions}
    relations = []
    for name in kinds["relation"]:
        types = _PAIR.match(name)
        head, tail = types.groups() if types and known >= set(types.groups()) else (None, None)
        relations.append(RelationLabel(name, head=(head,) if head else (), tail=(tail,) if tail else ()))
    return LabelSet(mentions, (*labels.relations, *relations), (*labels.regions, *map(Label, kinds["region"])))


IMPORTER = read_m3d
