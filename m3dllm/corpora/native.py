"""The native corpus: a folder with `labels.json`, one `<split>.jsonl` a split, `frames/`, and perhaps guidelines.

`load_corpus` stops at the first problem; `check` finds them all.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from m3dllm.corpora.ids import FirstLines
from m3dllm.corpora.imported import ImageSource, Imported, Tally, id_problem
from m3dllm.errors import UserError
from m3dllm.files import LINKED, check_free, hard_link, inside, links_out, new_folder, read_bytes, sha256, sha256_file
from m3dllm.guidelines import FILES, guideline_files
from m3dllm.labels import LabelSet
from m3dllm.progress import progress
from m3dllm.stream import Stream
from m3dllm.types import Annotation, Document, Example, Frame, Video
from m3dllm.videos import Put, put_video
from m3dllm.wire import WireError, decode_example, encode_labels, placed_lines, read_labels

log = logging.getLogger("m3dllm")


@dataclass(frozen=True, slots=True)
class Corpus:
    """A corpus that was read through once; its documents are read again when they are asked for, one at a time.

    Frames' paths are absolute; `hashes` are of `labels.json` and of each split's file.
    """

    name: str
    root: Path
    labels: LabelSet
    splits: Mapping[str, Sequence[Example]]
    hashes: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Corpus({self.name!r}: {', '.join(f'{name} {len(part)}' for name, part in self.splits.items())})"

    def __getitem__(self, split: str) -> Sequence[Example]:
        """The examples of a split. Raises UserError for one that the corpus does not have."""
        if split not in self.splits:
            raise UserError(f"corpus {self.root} has no split '{split}'; it has {', '.join(self.splits) or 'none'}")
        return self.splits[split]


def load_corpus(path: str | Path, *, linked_frames: bool = False) -> Corpus:
    """The native corpus in the folder `path`. `linked_frames`: frames may be links to files out of it.

    Raises UserError, with file, line and place, for the first thing that is wrong.
    """
    root = Path(path)
    labels, files = corpus_files(root)
    splits: dict[str, Sequence[Example]] = {}
    ids = FirstLines()
    for split, file in files.items():
        ids.begin(file)
        number = 0
        for number, begin, line in placed_lines(file):
            try:
                example = decode_example(line)
                for place, unknown in labels.unknown(example.gold):
                    raise WireError(unknown, f"$.gold.{place}")
                name = example.document.id
                if problem := id_problem(name):
                    raise WireError(problem, "$.id")
                if first := ids.add(name, number, begin):
                    raise WireError(f"the id {name!r} is already in {first}: ids must be unique", "$.id")
                if example.document.frames:
                    with_root(example.document, root, linked_frames=linked_frames)
                if example.document.video is not None:
                    _check_video(root, example.document.video, linked=linked_frames)
            except WireError as error:
                raise error.at(file, number) from error
        if not number:
            raise UserError.at(file, "has no documents: expected one per line")
        splits[split] = Stream(file, partial(_with_frames, root.absolute()))
    hashes = {file.name: sha256_file(file) for file in (root / "labels.json", *files.values())}
    return Corpus(root.resolve().name, root, labels, splits, hashes)


def _check_video(root: Path, video: Video, *, linked: bool) -> None:
    """Raises WireError for a path, or a link that is not allowed, which leads out of the corpus."""
    try:
        path = inside(root, video.path)
    except ValueError as error:
        raise WireError(str(error), "$.video.path") from error
    if not linked and links_out(root, path):
        raise WireError(f"{video.path!r} {LINKED}", "$.video.path")


def _with_frames(root: Path, line: bytes) -> Example:
    """The example of a line that was looked at before, its frames' paths absolute."""
    example = decode_example(line)
    if not example.document.frames:
        return example
    return replace(example, document=with_root(example.document, root, linked_frames=True))


def corpus_files(root: Path) -> tuple[LabelSet, dict[str, Path]]:
    """The label set of a corpus folder and the file of each split. Raises UserError where it is no corpus."""
    files = split_files(root)
    if not (root / "labels.json").is_file():
        raise UserError.at(root, "has no labels.json; make a corpus from other formats with 'm3dllm import'")
    if not files:
        raise UserError.at(root, "has no <split>.jsonl file, such as train.jsonl: the corpus is empty")
    return read_labels(root / "labels.json"), files


def split_files(root: Path) -> dict[str, Path]:
    """The file of each split of a corpus folder: train, dev, test, then the others by name.

    Raises UserError where there is no folder.
    """
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise UserError.at(root, f"{what}; a corpus is a folder with labels.json and <split>.jsonl files")
    found: dict[str, Path] = {}
    for file in sorted(root.iterdir(), key=_split_order):
        if file.suffix.lower() == ".jsonl" and not file.name.startswith(".") and file.is_file():
            if file.stem in found:
                raise UserError.at(file, f"is the split of {found[file.stem].name} again: keep one of them")
            found[file.stem] = file
    return found


def unread_files(root: Path) -> list[Path]:
    """What stands right in a corpus folder and nobody reads; documents for people and hidden files are passed over."""
    read = {"labels.json", "missing.json", "evidence.json", *FILES.values()}
    read |= {file.name for file in split_files(root).values()}
    others = (file for file in sorted(root.iterdir()) if file.name not in read and not file.name.startswith("."))
    return [file for file in others if _is_split(file) or (file.is_file() and not _is_for_people(file))]


def _is_split(file: Path) -> bool:
    """Whether it has the name of a split, as a folder may have by mistake."""
    return file.suffix.lower() == ".jsonl"


def _is_for_people(file: Path) -> bool:
    return file.suffix.lower() in (".md", ".txt", "") and not file.name.lower().startswith("guidelines")


def with_root(document: Document, root: Path, *, linked_frames: bool = False) -> Document:
    """`document` with its frames' paths made absolute.

    Raises WireError for a path, or a link that is not allowed, which leads out of the corpus.
    """
    if not document.frames:
        return document
    root = root.absolute()
    frames: list[Frame] = []
    known: dict[Path, Path] = {}
    for i, frame in enumerate(document.frames):
        try:
            path = inside(root, frame.path)
        except ValueError as error:
            raise WireError(str(error), f"$.frames[{i}].path") from error
        if not linked_frames and links_out(root, path, known):
            raise WireError(f"{frame.path!r} {LINKED}", f"$.frames[{i}].path")
        frames.append(replace(frame, path=str(path)))
    return replace(document, frames=tuple(frames))


def to_imported(corpus: Corpus, splits: Mapping[str, Iterable[Example]] | None = None) -> Imported:
    """Examples of a loaded corpus (default: all its splits) ready for `write_corpus`, with their images."""
    root = corpus.root.absolute()
    imported = Imported(corpus.labels)
    imported.images |= {file.name: file for file in guideline_files(root).values()}
    for split, examples in (corpus.splits if splits is None else splits).items():
        part = imported.split(split)
        for example in examples:
            if example.document.frames:
                absolute = [Path(frame.path) for frame in example.document.frames]
                relative = [path.relative_to(root).as_posix() for path in absolute]
                imported.images |= dict(zip(relative, absolute, strict=True))
                pairs = zip(example.document.frames, relative, strict=True)
                frames = tuple(replace(frame, path=path) for frame, path in pairs)
                example = replace(example, document=replace(example.document, frames=frames))
            if (video := example.document.video) is not None and (root / video.path).is_file():
                imported.videos[video.path] = root / video.path
            part.append(example)
    return imported


def check_new(folder: Path) -> None:
    """Raises UserError where `folder` has something in it and is no corpus: nothing can be written there.

    A corpus may be the one to write, by a process that was killed at its very end: `write_corpus` looks.
    """
    if not (folder / "labels.json").is_file():
        check_free(folder)


def write_corpus(folder: Path, imported: Imported, *, link: bool = False, videos: Put = "link") -> None:
    """Write what an importer brought as the native corpus `folder`, whole or not at all.

    `link` makes hard links of image files where the disk allows it, instead of copies; videos are put there as `videos`
    says, and those that are not are named in the log. Raises UserError where the folder exists with something in it,
    cannot be written, or an image cannot be read.
    """
    if _is_written(folder, imported):  # by a process that was killed at its very end
        return
    with new_folder(folder) as new:
        (new / "labels.json").write_text(encode_labels(imported.labels), encoding="utf-8")
        for split in imported.splits:
            with (new / f"{split}.jsonl").open("wb") as file:
                imported.split(split).copy_to(file)
        with progress(f"writing {folder}: images", len(imported.images)) as step:
            for relative, image in imported.images.items():
                target = inside(new, relative)
                target.parent.mkdir(parents=True, exist_ok=True)
                if not isinstance(image, Path):
                    target.write_bytes(_image_bytes(image, relative))
                elif not (link and hard_link(image, target)):
                    _copy(image, target)
                step()
        for relative, video in imported.videos.items():
            if why := put_video(video, inside(new, relative), videos):
                log.warning("no video in the corpus: %s: %s", video, why)


def _is_written(folder: Path, imported: Imported) -> bool:
    """Whether `folder` is this corpus already, to the last byte."""
    if not (folder / "labels.json").is_file():
        return False
    texts = {f"{split}.jsonl": split for split in imported.splits}
    if not all((folder / name).is_file() for name in (*texts, *imported.images)):
        return False
    videos = {folder / name for name in imported.videos}
    there = sum(path.is_file() and path not in videos for path in folder.rglob("*"))
    if there != len(texts) + 1 + len(imported.images):
        return False
    if read_bytes(folder / "labels.json") != encode_labels(imported.labels).encode():
        return False
    if any(sha256_file(folder / name) != imported.split(split).sha256() for name, split in texts.items()):
        return False
    return all(_is_same(folder / name, image) for name, image in imported.images.items())


def _is_same(file: Path, image: ImageSource) -> bool:
    wanted = sha256_file(image) if isinstance(image, Path) else sha256(_image_bytes(image, file.name))
    return sha256_file(file) == wanted


def _image_bytes(image: bytes | Callable[[], bytes], name: str) -> bytes:
    """The image. Raises UserError where it cannot be read any more."""
    try:
        return image if isinstance(image, bytes) else image()
    except ValueError as error:
        raise UserError(f"the image of the frame {name} cannot be read: {error}") from error


def _copy(source: Path, target: Path) -> None:
    try:
        file = source.open("rb")
    except OSError as error:
        raise UserError.at(source, f"the image of a frame cannot be read: {error.strerror}") from error
    with file, target.open("wb") as copy:
        shutil.copyfileobj(file, copy)


def labels_of(annotations: Iterable[Annotation]) -> LabelSet:
    """A label set of every type found, all relations directed and free to join any types."""
    tally = Tally()
    for annotation in annotations:
        tally.add_types(annotation)
    return tally.labels()


def _split_order(file: Path) -> tuple[int, str]:
    """train, dev, test, then the others by name."""
    order = ("train", "dev", "test")
    return (order.index(file.stem) if file.stem in order else len(order), file.stem)
