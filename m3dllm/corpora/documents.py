"""JSON files of documents, in the shapes in which they are written: a list, JSON Lines, columns, gzipped.

What is read in another shape than a list is noted, as is a key that stands twice in an object.
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

from m3dllm.corpora.imported import Imported, check_json_list, one_line
from m3dllm.errors import UserError
from m3dllm.files import decode_text, open_file
from m3dllm.wire import BOM, WireError, decode, encode

LARGEST_UNPACKED = 4 * 2**30
CHUNK = 2**18
"""Bytes that are read at once."""
_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')


def load_documents(path: Path, notes: Imported, *, keys: Iterable[str]) -> Iterator[Any]:
    """The documents in the JSON file `path`; of a list one at a time. `keys` are those that every document has, by
    which columns are known.

    Raises UserError where it cannot be read, or holds no list of documents in any of these shapes.
    """
    n = 0
    for written in _elements(path):
        try:
            value = decode(written, Any)
        except WireError:
            break
        for place in repeated_keys(written.encode(), value):
            place = f"$[{n}]{place[1:]}"
            notes.leave_out("key", "it stands twice in one object: the last one counts", f"{path.name}: {place}")
        yield value
        n += 1
    else:
        if n:
            return
    values = _whole(path, notes, frozenset(keys))
    if n:  # what is wrong with it was wrong for one reader only
        raise UserError.at(path, f"is no JSON list: its element $[{n}] cannot be read")
    yield from values


def _whole(path: Path, notes: Imported, keys: frozenset[str]) -> list[Any]:
    """The documents of a file that is no list of documents, or a damaged one. Raises UserError as `load_documents`."""
    with _unpacked(path) as file:
        data = file.read().removeprefix(BOM)
    text = decode_text(data, path)
    value: Any
    try:
        value = decode(text, Any)
    except WireError as error:
        value = _several(text, path, notes)
        if value is None:
            raise error.at(path) from error
    else:
        for place in repeated_keys(data, value):
            notes.leave_out("key", "it stands twice in one object: the last one counts", f"{path.name}: {place}")
    if isinstance(value, dict):
        value = _of_object(value, keys, path, notes)
    return check_json_list(value, path)


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
    written = encode(value) if value is not None else _once(data)
    colons = data.count(b":"), written.count(b":")
    if colons[0] == colons[1] and b"\\u003" not in data:  # the strings are the same: no colon is written as an escape
        return []
    if _colons(data) == _colons(written):
        return []
    try:
        return list(_repeats(json.loads(data, object_pairs_hook=_Pairs), "$"))
    except (ValueError, RecursionError):  # read by a parser that takes more; then nothing is known of its keys
        return []


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


def _several(text: str, path: Path, notes: Imported) -> list[Any] | None:
    """The objects of JSON Lines, or of JSON objects one after another; None where it is neither."""
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs)
    values: list[Any] = []
    at = len(text) - len(text.lstrip())
    while at < len(text):
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            if len(values) < 2:
                return None
            line = text.count("\n", 0, at) + 1
            raise UserError.at(path, f"is JSON Lines, and this is no JSON ({error})", line=line) from error
        if not isinstance(value, dict):
            return None
        for place in _repeats(value, f"$[{len(values)}]"):
            notes.leave_out("key", "it stands twice in one object: the last one counts", f"{path.name}: {place}")
        values.append(value)
        at = end + len(text[end:]) - len(text[end:].lstrip())
    if values:
        notes.remark("file", "it is JSON Lines, or objects one after another: each is read as a document", path.name)
    return values or None


def _of_object(value: dict[str, Any], keys: frozenset[str], path: Path, notes: Imported) -> Any:
    """The documents of an object: itself, or the rows of its columns; anything else as it is."""
    if not keys <= value.keys():
        return value
    columns = list(value.values())
    if all(isinstance(column, dict) for column in columns) and len({tuple(column) for column in columns}) == 1:
        columns = [list(column.values()) for column in columns]
    lengths = {len(column) if isinstance(column, list) else -1 for column in columns}
    notes_of = "columns, one for each key: each row is read as a document"
    if len(lengths) == 1 and -1 not in lengths and not isinstance(value[min(keys)], str):
        notes.remark("file", f"it holds {notes_of}", path.name)
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    notes.remark("file", "it holds one document and no list", path.name)
    return [value]


def note_unknown(value: Any, known: Iterable[str], place: str, notes: Imported) -> None:
    """Count the keys of an object that an importer has no use for."""
    if isinstance(value, dict):
        for key in value.keys() - set(known):
            if value[key] not in (None, "", [], {}):
                notes.leave_detail("key", f"{place}.{one_line(key)}")
