"""JSON files of annotation tools in all common shapes: one value or many, gzipped, with a byte-order mark.

Documents are in a list, one per line, one after another over several lines, or in columns. Unusual shapes are noted, as
are keys that appear twice in an object.
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

import msgspec

from m3dllm.corpora.imported import Imported
from m3dllm.errors import UserError
from m3dllm.files import decode_text, open_file
from m3dllm.keys import repeated_keys
from m3dllm.labels import LabelSet
from m3dllm.wire import BOM, WireError, decode, encode, read_json, whole_characters

JSON = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz")
"""The suffixes of files of documents."""
LARGEST_UNPACKED = 4 * 2**30
CHUNK = 2**18
"""The number of bytes read at once."""
HALVES = "it has a lone surrogate, which no file can hold: replaced by �"
"""Why a text is changed."""
TWICE = "it appears twice in one object: the last value is used"
"""Why a key is skipped."""
_TABLES = (".csv", ".tsv", ".xlsx")
_SPACE = re.compile(r"[ \t\r\n\ufeff]*")
_HEAD = re.compile(r'\{\s*"[^"\\]*"\s*:')
"""The beginning of an object with its first key, which no string can contain."""
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Row:
    """A document of a file: its object, the line where it begins (None: the file is one value), and `$[3]`.

    The object is a dict, or a `kind` if it has only the keys of that kind, each once.
    """

    value: Any
    line: int | None
    place: str

    def where(self, file: str) -> str:
        """The document's place for notes: `d.jsonl:3`, `d.json: $[3]`."""
        return f"{file}:{self.line}" if self.line else f"{file}: {self.place}"

    def at(self, file: str) -> str:
        """The same, to be followed by a key: `d.jsonl:3: $`, `d.json: $[3]`."""
        return f"{file}:{self.line}: {self.place}" if self.line else f"{file}: {self.place}"

    def error(self, error: WireError, file: Path) -> UserError:
        """The error in this document, with its place in the file."""
        return WireError(error.message, f"{self.place}{error.place[1:]}").at(file, self.line)


def read_documents(
    path: Path, notes: Imported, *, keys: Iterable[str], lines: bool = False, kind: type[msgspec.Struct] | None = None
) -> Iterator[Row]:
    """The documents in the JSON file `path`, one by one.

    - `keys`: every document has one of them; by these, documents and columns of documents are recognized.
    - `lines`: the format is JSON Lines, so that these are not noted as unusual.
    - `kind`: the type that documents in a list are decoded to if they have no other keys; takes a third of the time.

    Raises UserError where the file cannot be read, or holds no documents in any of these shapes.
    """
    n = 0
    decoder = msgspec.json.Decoder(kind) if kind else None
    for written, typed in _elements(path, decoder):
        if typed is not None:
            yield Row(typed, None, f"$[{n}]")
            n += 1
            continue
        try:
            value = decode_noted(written, path.name, notes, place=f"$[{n}]")
        except WireError:
            break
        yield Row(_object(value, path, None, f"$[{n}]"), None, f"$[{n}]")
        n += 1
    else:
        if n:
            return
    if n:  # only the faster reader failed on it
        _whole(path, notes, frozenset(keys), lines=lines)
        raise UserError.at(path, f"is not a JSON list: its element $[{n}] cannot be read")
    if _holds_several(path):
        yield from _several(path, notes, lines=lines)
    else:
        yield from _whole(path, notes, frozenset(keys), lines=lines)


def _as_kind(written: str, decoder: msgspec.json.Decoder[Any]) -> Any:
    """The object of that kind; None if it is not, or has a key twice: more colons than keys."""
    try:
        value = decoder.decode(written)
        once = encode(value).count(b":") == written.count(":")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return value if once else None


def scan_documents(path: Path, *, keys: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The documents, for a first pass over all of them; nothing is noted. Raises as `read_documents`."""
    return (row.value for row in read_documents(path, Imported(LabelSet()), keys=keys))


def is_another_object(path: Path, keys: Iterable[str]) -> bool:
    """Whether a file is one JSON object without any of the keys of a document, as the settings of a tool are."""
    with _unpacked(path) as file:
        text = _Text(file)
        try:
            if text.sign() != "{":
                return False
            value = decode_value(text.value())
            return not text.sign() and value.keys().isdisjoint(keys)
        except (ValueError, RecursionError, WireError):
            return False


def _whole(path: Path, notes: Imported, keys: frozenset[str], *, lines: bool) -> Iterator[Row]:
    """The documents of a file that is one value, or a damaged list. Raises UserError as `read_documents`."""
    try:
        value = _decode(_read(path), path, notes)
    except WireError as error:
        if path.suffix.lower() in _TABLES:
            raise UserError.at(path, "is a table, not JSON: export as JSON from the tool that wrote it") from error
        raise error.at(path) from error
    if isinstance(value, dict):
        value = _of_object(value, keys, path, notes, lines=lines)
    if not isinstance(value, list):
        raise UserError.at(path, f"is not a JSON list but {_kind(value)}; expected a list of documents")
    if not value:
        raise UserError.at(path, "is an empty list; expected documents")
    return (Row(_object(one, path, None, f"$[{i}]"), None, f"$[{i}]") for i, one in enumerate(value))


def read_value(path: Path, notes: Imported) -> Any:
    """The one JSON value in the file `path`. Raises UserError where there is none, or there are several."""
    try:
        return _decode(_read(path), path, notes)
    except WireError as error:
        if _holds_several(path):
            raise UserError.at(path, "is JSON Lines, or objects one after another; expected one JSON value") from error
        raise error.at(path) from error


def decode_value(data: bytes | str) -> Any:
    """Any JSON value; NaN and Infinity, as Python writes them, are accepted. Raises WireError."""
    return _decode_whole(data)[0]


def decode_noted(data: str, file: str, notes: Imported, *, place: str = "$") -> Any:
    """The JSON value `data`, from `place` of a file; repeated keys and replaced characters are noted.

    Raises WireError as `decode_value`.
    """
    value, halves = _decode_whole(data)
    if halves:
        notes.change("text", HALVES, f"{file}: {place}")
    note_repeated(data.encode("utf-8", "replace"), value, file, notes, place=place)
    return value


def _decode_whole(data: bytes | str) -> tuple[Any, bool]:
    """(any JSON value, whether it held lone surrogates). Raises WireError."""
    try:
        return decode(data, Any), False
    except WireError:
        try:
            return whole_characters(read_json(data))
        except (ValueError, UnicodeDecodeError):
            pass
        raise


class _Text:
    """The text of a JSON file in UTF-8, read as needed.

    A byte-order mark is white space: joined files have several.
    """

    def __init__(self, file: Any) -> None:
        self._file, self._decoder = file, codecs.getincrementaldecoder("utf-8")()
        self._text, self._at, self._line, self._counted = "", 0, 1, 0

    def sign(self) -> str:
        """Skip white space; the character after it, or "" at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches nothing, too
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def skip(self) -> None:
        """Skip one character."""
        self._at += 1

    def line(self) -> int:
        """The number of the current line."""
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def value(self) -> str:
        """The JSON value that comes next, as it is written. Raises ValueError, or RecursionError, where it is none."""
        while True:
            try:
                _, end = _DECODER.raw_decode(self._text, self._at)
                break
            except ValueError:
                if not self._more():
                    raise
        written = self._text[self._at : end]
        self._at = end
        return written

    def guess(self, head: str) -> str:
        """The text up to the next object that begins with `head`, probably one element of a list; "" if none."""
        end = self._text.find(head, self._at + len(head)) if head and self._text.startswith(head, self._at) else -1
        written = self._text[self._at : end].rstrip() if end > 0 else ""
        return written[:-1].rstrip() if written.endswith(",") else ""

    def take(self, written: str) -> None:
        """Skip the guessed text."""
        self._at += len(written)

    def _more(self) -> bool:
        """Read more, and drop the text already used."""
        self.line()
        rest = self._text[self._at :]
        data = self._file.read(max(CHUNK, len(rest)))  # twice as much for a long value: no quadratic time
        self._text, self._at, self._counted = rest + self._decoder.decode(data, final=not data), 0, 0
        return bool(data)


def _elements(path: Path, decoder: msgspec.json.Decoder[Any] | None = None) -> Iterator[tuple[str, Any]]:
    """(an element as it is written, the object that `decoder` makes of it or None) of a file that is one list in UTF-8.

    Yields nothing for any other file; in a damaged list, the last element is "".
    """
    head = ""
    with _unpacked(path) as file:
        text = _Text(file)
        try:
            if text.sign() != "[":
                return
            text.skip()
            sign = text.sign()
            while sign != "]":
                written = text.guess(head) if head else ""
                typed = _as_kind(written, decoder) if decoder and written else None
                if typed is not None:
                    text.take(written)
                else:
                    written = text.value()
                    typed = _as_kind(written, decoder) if decoder else None
                    head = match[0] if typed is not None and (match := _HEAD.match(written)) else ""
                yield written, typed
                sign = text.sign()
                if sign == ",":
                    text.skip()
                if sign not in (",", "]") or (sign == "," and text.sign() == "]"):
                    raise ValueError(sign)
            text.skip()
            if text.sign():
                raise ValueError("there is more than a list")
        except (ValueError, RecursionError):
            yield "", None


def _holds_several(path: Path) -> bool:
    """Whether more text follows the first JSON value of a file."""
    with _unpacked(path) as file:
        text = _Text(file)
        try:
            text.sign()
            text.value()
            return bool(text.sign())
        except (ValueError, RecursionError):
            return False


def note_repeated(data: bytes, value: Any, file: str, notes: Imported, *, place: str = "$") -> None:
    """Count the keys that appear twice in an object of the JSON `data`, from `place` of a file."""
    for found in repeated_keys(data, value):
        notes.leave_out("key", TWICE, f"{file}: {place}{found[1:]}")


@dataclass(slots=True)
class _Limited:
    """The content of a gzipped file, up to a limit against zip bombs."""

    file: Any
    path: Path
    left: int = LARGEST_UNPACKED

    def read(self, size: int) -> bytes:
        data: bytes = self.file.read(size)
        self.left -= len(data)
        if self.left <= 0:
            raise UserError.at(self.path, f"holds {LARGEST_UNPACKED // 2**30} GiB or more: unpack and split it")
        return data


@contextmanager
def _unpacked(path: Path) -> Iterator[Any]:
    """The file, open to read, gzipped or not. Raises UserError if it is damaged or unpacks to more than the limit."""
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
            raise UserError.at(path, f"is gzipped and damaged ({error}): create it again") from error


def _read(path: Path) -> bytes:
    """The whole file, unpacked, without a byte-order mark."""
    with _unpacked(path) as file:
        data = b"".join(iter(lambda: file.read(CHUNK), b""))
    return data.removeprefix(BOM)


def _decode(data: bytes, path: Path, notes: Imported) -> Any:
    """The one value in `data`. Raises WireError where it is none, UserError where it is no UTF-8."""
    return decode_noted(decode_text(data, path), path.name, notes)


def _several(path: Path, notes: Imported, *, lines: bool) -> Iterator[Row]:
    """The objects of JSON Lines, of objects one after another, or of lists of them."""
    with _unpacked(path) as file:
        text = _Text(file)
        while text.sign():
            line = text.line()
            try:
                value = decode_noted(text.value(), f"{path.name}:{line}", notes)
            except WireError as error:
                raise error.at(path, line) from error
            except UnicodeDecodeError:
                decode_text(_read(path), path)  # its error names the place
                raise
            except (ValueError, RecursionError) as error:
                raise UserError.at(path, f"is JSON Lines, and this is not valid JSON ({error})", line=line) from error
            many = isinstance(value, list)
            for i, one in enumerate(value if many else [value]):
                place = f"$[{i}]" if many else "$"
                yield Row(_object(one, path, line, place), line, place)
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
        notes.remark("file", "it holds a single document instead of a list", path.name)
    return [value]


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
