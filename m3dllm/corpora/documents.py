"""JSON files of annotation tools, in the shapes in which they are written: one value or many, gzipped, with a mark.

Documents stand in a list, one a line, one after another over lines, or in columns. What is read in another shape than
usual is noted, as is a key that stands twice in an object.
"""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3dllm.corpora.imported import Imported, one_line
from m3dllm.errors import UserError
from m3dllm.files import decode_text, open_file
from m3dllm.wire import BOM, WireError, decode, encode, is_deep, read_json

JSON = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz")
"""The suffixes of files of documents."""
LARGEST_UNPACKED = 4 * 2**30
CHUNK = 2**18
"""Bytes that are read at once."""
TWICE = "it stands twice in one object: the last one counts"
"""Why a key is skipped."""
_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')


@dataclass(frozen=True, slots=True)
class Row:
    """A document of a file: its object, the line where it begins (None: the file is one value), and `$[3]`."""

    value: dict[str, Any]
    line: int | None
    place: str

    def where(self, file: str) -> str:
        """The document's place for notes: `d.jsonl:3`, `d.json: $[3]`."""
        return f"{file}:{self.line}" if self.line else f"{file}: {self.place}"

    def at(self, file: str) -> str:
        """The same, to go on with a key: `d.jsonl:3: $`, `d.json: $[3]`."""
        return f"{file}:{self.line}: {self.place}" if self.line else f"{file}: {self.place}"

    def error(self, error: WireError, file: Path) -> UserError:
        """The error in this document, with its place in the file."""
        return WireError(error.message, f"{self.place}{error.place[1:]}").at(file, self.line)


def read_documents(path: Path, notes: Imported, *, keys: Iterable[str], lines: bool = False) -> Iterator[Row]:
    """The documents in the JSON file `path`, one by one.

    - `keys`: one of them stands in every document, by which a document, and columns of them, are known.
    - `lines`: the format is one of JSON Lines, so that these need no note.

    Raises UserError where the file cannot be read, or holds no documents in any of these shapes.
    """
    n = 0
    for written in _elements(path):
        try:
            value = decode_value(written)
        except WireError:
            break
        note_repeated(written.encode(), value, path.name, notes, place=f"$[{n}]")
        yield Row(_object(value, path, None, f"$[{n}]"), None, f"$[{n}]")
        n += 1
    else:
        if n:
            return
    rows = _whole(path, notes, frozenset(keys), lines=lines)
    if n:  # what is wrong with it was wrong for one reader only
        raise UserError.at(path, f"is no JSON list: its element $[{n}] cannot be read")
    yield from rows


def _whole(path: Path, notes: Imported, keys: frozenset[str], *, lines: bool) -> Iterator[Row]:
    """The documents of a file that is no list of documents, or a damaged one. Raises UserError as `read_documents`."""
    data = _read(path)
    try:
        value = _decode(data, path, notes)
    except WireError as error:
        return _several(decode_text(data, path), path, notes, error, lines=lines)
    if isinstance(value, dict):
        value = _of_object(value, keys, path, notes, lines=lines)
    if not isinstance(value, list):
        raise UserError.at(path, f"is not a JSON list but {_kind(value)}; expected a list of documents")
    if not value:
        raise UserError.at(path, "is an empty list; expected documents")
    return (Row(_object(one, path, None, f"$[{i}]"), None, f"$[{i}]") for i, one in enumerate(value))


def read_value(path: Path, notes: Imported) -> Any:
    """The one JSON value in the file `path`. Raises UserError where there is none, or there are several."""
    data = _read(path)
    try:
        return _decode(data, path, notes)
    except WireError as error:
        rows = _several(decode_text(data, path), path, Imported(notes.labels), error, lines=True)
        if sum(1 for _, _ in zip(range(2), rows, strict=False)) == 2:
            raise UserError.at(path, "is JSON Lines, or objects one after another; expected one JSON value") from error
        raise error.at(path) from error


def decode_value(data: bytes | str) -> Any:
    """Any JSON value; NaN and Infinity, as Python writes them, are let through. Raises WireError."""
    try:
        return decode(data, Any)
    except WireError:
        try:
            return read_json(data)
        except (ValueError, UnicodeDecodeError):
            pass
        raise


def _elements(path: Path) -> Iterator[str]:
    """The elements of a file that is one list in UTF-8, as they are written.

    There are none where it is anything else; where it is damaged, the last one is "".
    """
    decoder, text, at = json.JSONDecoder(), "", 0
    characters = codecs.getincrementaldecoder("utf-8-sig")()
    with _unpacked(path) as file:

        def more() -> bool:
            """Read on. What was given is let go."""
            nonlocal text, at
            data = file.read(max(CHUNK, len(text) - at))  # twice as much for a long element: no quadratic time
            text, at = text[at:] + characters.decode(data, final=not data), 0
            return bool(data)

        def next_sign() -> str:
            """The next character that is no white space, at which `at` then stands; "" at the end."""
            nonlocal at
            while True:
                at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
                if at < len(text) or not more():
                    return text[at : at + 1]

        try:
            if next_sign() != "[":
                return
            at += 1
            sign = next_sign()
            while sign != "]":
                end = 0
                while not end:
                    try:
                        _, end = decoder.raw_decode(text, at)
                    except ValueError:
                        if not more():
                            raise
                yield text[at:end]
                at = end
                sign = next_sign()
                at += sign == ","
                if sign not in (",", "]") or (sign == "," and next_sign() == "]"):
                    raise ValueError(sign)
            at += 1
            if next_sign():
                raise ValueError("there is more than a list")
        except (ValueError, RecursionError):
            yield ""


def repeated_keys(data: bytes, value: Any = None) -> list[str]:
    """The places of the keys that stand twice in an object of the JSON `data`, read as `value` (None: not yet)."""
    try:
        written = encode(value) if value is not None else _once(data)
        colons = data.count(b":"), written.count(b":")
        # The strings are the same: no colon is written as an escape.
        if colons[0] == colons[1] and b"\\u003" not in data:
            return []
        if _colons(data) == _colons(written):
            return []
        return list(_repeats(json.loads(data, object_pairs_hook=_Pairs), "$"))
    except (ValueError, RecursionError):  # read by a parser that takes more; then nothing is known of its keys
        return []


def note_repeated(data: bytes, value: Any, file: str, notes: Imported, *, place: str = "$") -> None:
    """Count the keys that stand twice in an object of the JSON `data`, which stands at `place` of a file."""
    for found in repeated_keys(data, value):
        notes.leave_out("key", TWICE, f"{file}: {place}{found[1:]}")


def _colons(data: bytes) -> int:
    """The colons outside strings, one a key."""
    return data.count(b":") - sum(found.group().count(b":") for found in _STRING.finditer(data))


def _once(data: bytes) -> bytes:
    """JSON as Python reads it, each key once."""
    return json.dumps(json.loads(data.removeprefix(b"\xef\xbb\xbf"))).encode()


class _Pairs(dict[str, Any]):
    """An object that knows which of its keys stood twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        seen: set[str] = set()
        self.twice = [key for key, _ in pairs if key in seen or seen.add(key)]  # type: ignore[func-returns-value]


def _repeats(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, _Pairs):
        yield from (f"{place}.{one_line(key)}" for key in value.twice)
        for key, part in value.items():
            yield from _repeats(part, f"{place}.{one_line(key)}")
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from _repeats(part, f"{place}[{i}]")


@dataclass(slots=True)
class _Limited:
    """What a packed file holds, up to what anyone means."""

    file: Any
    path: Path
    left: int = LARGEST_UNPACKED

    def read(self, size: int = LARGEST_UNPACKED) -> bytes:
        data: bytes = self.file.read(size)
        self.left -= len(data)
        if self.left <= 0:
            raise UserError.at(self.path, f"holds {LARGEST_UNPACKED // 2**30} GiB or more: unpack it and divide it")
        return data


@contextmanager
def _unpacked(path: Path) -> Iterator[Any]:
    """The file, open to read, gzipped or not. Raises UserError where it is damaged or larger than anyone means."""
    try:
        file = open_file(path)
    except OSError as error:
        raise UserError.at(path, f"cannot be read: {error.strerror}") from error
    with file:
        if file.peek(2)[:2] != b"\x1f\x8b":
            yield file
            return
        try:
            with gzip.open(file) as unpacked:
                yield _Limited(unpacked, path)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError.at(path, f"is gzipped, and damaged ({error}): pack it again") from error


def _read(path: Path) -> bytes:
    """The whole file, unpacked, without a byte-order mark."""
    with _unpacked(path) as file:
        data: bytes = file.read()
    return data.removeprefix(BOM)


def _decode(data: bytes, path: Path, notes: Imported) -> Any:
    """The one value in `data`. Raises WireError where it is none, UserError where it is no UTF-8."""
    value = decode_value(decode_text(data, path))
    note_repeated(data, value, path.name, notes)
    return value


def _several(text: str, path: Path, notes: Imported, first: WireError, *, lines: bool) -> Iterator[Row]:
    """The objects of JSON Lines, of objects one after another, or of lists of them; `first`: why it is no one value."""
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs)
    at, line, count = 0, 1, 0
    while True:
        begin = _SPACE.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        line += text.count("\n", at, begin)
        if begin >= len(text):
            break
        try:
            value, at = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError) as error:
            if not count:
                raise first.at(path) from first
            raise UserError.at(path, f"is JSON Lines, and this is no JSON ({error})", line=line) from error
        if is_deep(value):
            raise WireError("is nested too deeply to be a document").at(path, line)
        for place in _repeats(value, "$"):
            notes.leave_out("key", TWICE, f"{path.name}:{line}: {place}")
        many = isinstance(value, list)
        for i, one in enumerate(value if many else [value]):
            place = f"$[{i}]" if many else "$"
            yield Row(_object(one, path, line, place), line, place)
            count += 1
        line += text.count("\n", begin, at)
    if not count:
        raise first.at(path) from first
    if not lines:
        notes.remark("file", "it is JSON Lines, or objects one after another: each is read as a document", path.name)


def _object(value: Any, path: Path, line: int | None, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        message = f"is {_kind(value)}; expected a document, a JSON object"
        raise UserError.at(path, message, line=line, place="" if place == "$" else place)
    return value


def _of_object(value: dict[str, Any], keys: frozenset[str], path: Path, notes: Imported, *, lines: bool) -> Any:
    """The documents of an object: itself, or the rows of its columns; anything else as it is."""
    if not keys & value.keys():
        return value
    columns = list(value.values())
    if all(isinstance(column, dict) for column in columns) and len({tuple(column) for column in columns}) == 1:
        columns = [list(column.values()) for column in columns]
    lengths = {len(column) if isinstance(column, list) else -1 for column in columns}
    if len(lengths) == 1 and -1 not in lengths:
        notes.remark("file", "it holds columns, one for each key: each row is read as a document", path.name)
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if not lines:
        notes.remark("file", "it holds one document and no list", path.name)
    return [value]


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
