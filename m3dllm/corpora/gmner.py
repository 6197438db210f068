"""GMNER: tweets with BIO tags, and boxes in their images (Pascal VOC XML)."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from m3dllm.corpora.conll import UNANNOTATED, Block, blocks, marked
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.marks import Marks, language_of
from m3dllm.corpora.markup import LARGEST, parse_xml
from m3dllm.corpora.sources import Incoming, files_at
from m3dllm.corpora.stills import find_image, still
from m3dllm.corpora.voc import Boxed, parse_voc
from m3dllm.errors import UserError
from m3dllm.files import read_bytes, text_lines
from m3dllm.types import Document, Example, Frame, Region

_BOXES = (".xml", ".tar.gz", ".tgz", ".tar")


def read_gmner(
    path: Path, *, boxes: Path | None = None, images: Path | None = None, split: str | None = None
) -> Imported:
    """The tweets of the files under `path` (the released folder, its `txt`, or one file).

    - `boxes`: the folder or tar archive of the XML files; default: `xml` or `xml.tar.gz` next to the tweets.
    - `images`: the folder of the images; without it, frames have the sizes given in the XML files, but no pixels.
    - `split`: the split to write; default: from the file names: train, dev, test.

    A tweet without an XML file shows none of its entities. Raises UserError where there is no tweet.
    """
    incoming = Incoming()
    boxes = boxes or _beside(path)
    if boxes is None:
        incoming.notes.remark(
            "folder of boxes", "there is none: no mention is grounded; '--boxes PATH' reads one", str(path)
        )
    found = dict(_boxes(boxes, incoming.notes))
    read: set[str] = set()
    for file in files_at(path, (".txt",), "the tweets of GMNER, or a folder of them", incoming.notes, beside=_BOXES):
        if not any("IMGID:" in line for line in text_lines(file)):
            incoming.notes.leave_out("file", "it has no IMGID", file.name)
            continue
        part = split or incoming.split_of(file, path)
        for n, block in enumerate(blocks(file, incoming.notes), start=1):
            where, image = f"{file.name}:{block.line}", block.about.get("image", "")
            read.add(image)
            example = _tweet(block, found.get(image), incoming, where, f"{file.stem}-{n}", images)
            incoming.add(part, example)
    for name in sorted(found.keys() - read):
        incoming.notes.leave_out("box file", "no tweet uses its image", f"{name}.xml")
    return incoming.done(path)


def _beside(path: Path) -> Path | None:
    folder = path if path.is_dir() else path.parent
    folders = (*(p.parent for p in sorted(folder.rglob("txt"))), folder, folder.parent)
    names = ("xml", "xml.tar.gz", "xml.tgz", "xml.tar")
    return next((found for place in folders for name in names if (found := place / name).exists()), None)


def _boxes(source: Path | None, notes: Imported) -> Iterator[tuple[str, Boxed]]:
    """(image, its boxes) of every XML file in a folder or a tar archive, which is never unpacked."""
    for name, data in _files(source) if source else ():
        try:
            yield PurePosixPath(name).stem, parse_voc(parse_xml(data, name, "annotation"), name, notes)
        except UserError as error:
            notes.leave_out("box file", "it is not a Pascal VOC file", str(error))


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    if source.is_dir():
        yield from ((file.name, read_bytes(file)) for file in sorted(source.rglob("*.xml")))
        return
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() and member.name.endswith(".xml") else None
                if file:
                    yield PurePosixPath(member.name).name, file.read(LARGEST + 1)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise UserError.at(source, f"is neither a folder nor a tar archive of XML files: {error}") from error


def _tweet(
    block: Block, boxed: Boxed | None, incoming: Incoming, where: str, instead: str, images: Path | None
) -> Example:
    notes = incoming.notes
    marks, tokens = marked(block, notes, where)
    image = block.about.get("image", "")
    name = incoming.id_for(image, instead, where)
    frame: Frame | None = None
    if images or boxed:
        file = find_image(boxed.image if boxed and boxed.image else f"{image}.jpg", [images]) if images else None
        size, reach = (boxed.size, boxed.reach) if boxed else (None, (0.0, 0.0))
        frame = still(name, 0, file, size, notes, where=f"{where}: {image}", reach=reach)
    if boxed and frame:
        for place, label, region in boxed.regions(frame, notes):
            _show(marks, region, label, place)
        if not boxed.is_whole:
            marks.spoil(0)
    elif boxed:
        for place, _, _ in boxed.boxes:
            notes.leave_out("region", "its image has no size", place)
    seen = marks.annotated_frames([frame] if frame else ())
    document = Document(name, language_of(marks.text, None), marks.text, tokens=tuple(tokens), frames=seen)
    return Example(document, marks.gold(), UNANNOTATED)


def _show(marks: Marks, region: Region, name: str, place: str) -> None:
    """Link a region to the mention that it names, and give it the type of that mention."""
    found = marks.named(name)
    if not found:
        marks.notes.leave_out("region", "no mention has its name", f"{place}: {name!r}")
        marks.spoil(region.frame)
        return
    if len(found) > 1:
        marks.notes.change("region", "several mentions have its name: assigned to the first", f"{place}: {name!r}")
    marks.shows(Region(region.frame, region.box, marks.kind(found[0])), place, found[0])


IMPORTER = read_gmner
