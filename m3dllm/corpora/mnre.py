"""MNRE: one pair of mentions with its relation per line; each tweet becomes a document.

A line is a Python dict or JSON: `token`, `h` and `t` with `name` and `pos` (half open, in tokens), `img_id`, and
`relation`, whose path says the types of its ends: `/per/loc/place_of_birth`.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from m3dllm.corpora.conll import UNANNOTATED
from m3dllm.corpora.documents import HALVES, JSON, Row, decode_noted, read_documents
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.jsonfiles import keys, note_unread
from m3dllm.corpora.marks import Marks, language_of
from m3dllm.corpora.sources import Incoming, files_of_documents
from m3dllm.corpora.stills import find_image, still
from m3dllm.errors import UserError
from m3dllm.files import text_lines
from m3dllm.stream import Spool
from m3dllm.tokens import joined
from m3dllm.types import Document, Example
from m3dllm.wire import WireError, convert, decode, encode, whole_characters

UNKNOWN = "MISC"
"""The type of a mention that no relation says the type of."""

_SHAPE = keys("token img_id relation", h=keys("name pos"), t=keys("name pos"))


class _End(msgspec.Struct):
    name: str
    pos: tuple[int, int]


class _Pair(msgspec.Struct):
    token: list[str]
    head: _End = msgspec.field(name="h")
    tail: _End = msgspec.field(name="t")
    image: str = msgspec.field(name="img_id")
    relation: str

    def tweet(self) -> bytes:
        """What the pairs of one tweet have in common, hashed."""
        return hashlib.sha256(encode((self.image, self.token))).digest()

    def parts(self) -> tuple[str, str, str]:
        """(type of the head, type of the tail, relation), each "" where it is not said."""
        words = self.relation.strip("/").split("/")
        return (words[0], words[1], words[2]) if len(words) == 3 else ("", "", "")


class _Placed(msgspec.Struct):
    """A pair and its place."""

    where: str
    pair: _Pair


def read_mnre(path: Path, *, images: Path | None = None, split: str | None = None) -> Imported:
    """The tweets of the file, or of the files in the folder, at `path`. Chains are not annotated: mentions stand alone.

    - `images`: the folder of the images to which `img_id` refers.
    - `split`: the split to write; default: from the file names: train, val, test.

    A pair whose relation is None says that there is none. Raises UserError where a line is no such pair.
    """
    incoming = Incoming()
    what = "MNRE files of pairs, or a folder of them"
    for file in files_of_documents(path, (".txt", *JSON), what, incoming.notes, ("token",)):
        rows: Spool[_Placed] = Spool(encode, lambda line: decode(line, _Placed))
        tweets: dict[bytes, list[int]] = {}
        try:
            for row in _rows(file, incoming.notes):
                pair = _pair(row, file)
                note_unread(row.value, _SHAPE, row.at(file.name), incoming.notes)
                tweets.setdefault(pair.tweet(), []).append(len(rows))
                rows.append(_Placed(row.where(file.name), pair))
        except _NoPairsError as error:
            if file == path:
                raise
            incoming.notes.leave_out("file", "its lines are not pairs", str(error))
            continue
        part = split or incoming.split_of(file, path)
        for places in tweets.values():
            incoming.add(part, _tweet([rows[i] for i in places], incoming, file, images))
    return incoming.done(path)


class _NoPairsError(UserError):
    """A file of something else."""


def _rows(file: Path, notes: Imported) -> Iterator[Row]:
    """The pairs of a file: a Python dict a line, as MNRE was released, or JSON in any shape."""
    if file.name.lower().endswith(JSON):
        yield from read_documents(file, notes, keys=("token",), lines=True)
        return
    began = False
    for number, line in enumerate(text_lines(file), start=1):
        if line := line.strip():
            if not began and not line.startswith("{"):
                raise _NoPairsError.at(
                    file, "is not a pair; expected a Python dict or a JSON object on each line", line=1
                )
            began = True
            yield Row(_dict(line, file, number, notes), number, "$")
    if not began:
        raise _NoPairsError.at(file, "is empty; expected a Python dict or a JSON object on each line")


def _dict(line: str, file: Path, number: int, notes: Imported) -> Any:
    try:
        if "'" not in line[:12]:
            return decode_noted(line, f"{file.name}:{number}", notes)
        value = ast.literal_eval(line)
        if "\\ud" in line.lower():
            value, halves = whole_characters(value)
            if halves:
                notes.change("text", HALVES, f"{file.name}:{number}")
        return value
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise UserError.at(file, f"is neither a Python dict nor JSON ({error})", line=number) from error


def _pair(row: Row, file: Path) -> _Pair:
    try:
        return convert(row.value, _Pair)
    except WireError as error:
        raise row.error(error, file) from error


def _tweet(rows: list[_Placed], incoming: Incoming, file: Path, images: Path | None) -> Example:
    pairs, where = [row.pair for row in rows], rows[0].where
    first = pairs[0]
    text, spans = joined(first.token)
    kinds: dict[tuple[int, int], Counter[str]] = {}
    texts: dict[tuple[int, int], str] = {}
    for pair in pairs:
        for side, kind in ((pair.head, pair.parts()[0]), (pair.tail, pair.parts()[1])):
            texts.setdefault(side.pos, side.name)
            kinds.setdefault(side.pos, Counter()).update([kind] if kind else [])
    marks = Marks(text, incoming.notes, where)
    for (start, end), types in sorted(kinds.items()):
        if not 0 <= start < end <= len(spans):
            incoming.notes.leave_out("mention", "its tokens are not in the text", f"{where}: {start} to {end}")
            continue
        if not types:
            incoming.notes.change(
                "mention", f"no relation gives its type: {UNKNOWN}", f"{where}: {texts[start, end]!r}"
            )
        elif len(types) > 1:
            detail = f"{where}: {texts[start, end]!r} is {', '.join(sorted(types))}"
            incoming.notes.change("mention", "relations give it several types: the most frequent is used", detail)
        kind = types.most_common(1)[0][0] if types else UNKNOWN
        found, said = (
            "".join(part.split()).casefold() for part in ("".join(first.token[start:end]), texts[start, end])
        )
        if said not in found and found not in said:
            detail = f"{where}: {texts[start, end]!r}, the text has {' '.join(first.token[start:end])!r}"
            incoming.notes.leave_out("mention", "its text differs from the text at its tokens", detail)
            continue
        marks.mention((start, end), spans[start][0], spans[end - 1][1], kind)
    for pair in pairs:
        if relation := pair.parts()[2]:
            marks.relate(pair.head.pos, pair.tail.pos, f"{pair.parts()[0]}/{pair.parts()[1]}/{relation}")
        elif pair.relation not in ("None", "none", "NA", ""):
            incoming.notes.leave_out(
                "relation", "it is not a path of two types and a name", f"{where}: {pair.relation}"
            )
    name = incoming.id_for(Path(first.image).stem, f"{file.stem}-{len(incoming.ids)}", where)
    image = find_image(first.image, [images]) if images else None
    frame = (
        still(name, 0, image, None, incoming.notes, where=f"{where}: {first.image}", annotated=False)
        if images
        else None
    )
    tokens = tuple(span for span in spans if span[0] < span[1])
    document = Document(name, language_of(text, None), text, tokens=tokens, frames=(frame,) if frame else ())
    return Example(document, marks.gold(), UNANNOTATED - {"relation"})


IMPORTER = read_mnre
