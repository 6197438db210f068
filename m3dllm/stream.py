"""Values (documents, answers, counts) in a file, one per line, that are read one at a time.

A `Stream` is a sequence that holds only the offsets of its lines, a few bytes each, and decodes a value on each access.
A `Spool` is a stream that is still being written, into a temporary file.
"""

from __future__ import annotations

import hashlib
import shutil
import weakref
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from tempfile import SpooledTemporaryFile, gettempdir
from typing import Any, BinaryIO, Generic, TypeVar, overload

from m3dllm.files import cannot_write, open_file
from m3dllm.types import Example
from m3dllm.wire import ExampleHead, WireError, example_head, numbered_lines, placed_lines

T = TypeVar("T")
U = TypeVar("U")
K = TypeVar("K")
IN_MEMORY = 2**20
"""A spool of fewer bytes is kept in memory, without a file."""
TOGETHER = 2**16
"""The bytes of lines that are read at once, unless one line is longer."""


class Stream(Sequence[T]):
    """The values of a JSON Lines file, in its order. Reading raises UserError with file, line and place."""

    def __init__(self, path: Path, read: Callable[[bytes], T], *, torn: bool = False) -> None:
        """`read` makes a value of a line, or raises WireError. `torn`: a last line without its end is ignored."""
        self._path, self._read, self._torn = path, read, torn
        self._places: tuple[array[int], array[int]] | None = None
        """Where each line begins, and how many bytes it has."""
        self._file: Any = None
        self._source: Any = None
        """The stream whose file this one reads, and which closes it."""

    def __iter__(self) -> Iterator[T]:
        if self._places is not None:
            for i, line in enumerate(self.lines()):
                yield self._value(line, i)
            return
        for number, line in numbered_lines(self._path):
            try:
                yield self._read(line)
            except WireError as error:
                raise error.at(self._path, number) from error

    def __len__(self) -> int:
        return len(self._placed()[0])

    @overload
    def __getitem__(self, i: int) -> T: ...
    @overload
    def __getitem__(self, i: slice) -> Stream[T]: ...
    def __getitem__(self, i: int | slice) -> T | Stream[T]:
        if isinstance(i, slice):
            return self.pick(range(*i.indices(len(self))))
        i = range(len(self))[i]
        return self._value(self.line(i), i)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)!r})"

    def read_as(self, read: Callable[[bytes], U]) -> Stream[U]:
        """The same lines, decoded by `read`."""
        return self._part(read, self._placed())

    def pick(self, positions: Iterable[int]) -> Stream[T]:
        """The values at these positions, in this order."""
        positions = positions if isinstance(positions, range | array) else array("q", positions)
        begins, sizes = self._placed()
        return self._part(
            self._read, (array("q", (begins[i] for i in positions)), array("q", (sizes[i] for i in positions)))
        )

    def lines(self) -> Iterator[bytes]:
        """The lines of the values, without their ends; lines that follow one another are read together."""
        begins, sizes = self._placed()
        first, n = 0, len(begins)
        while first < n:
            begin, last = begins[first], first
            end = begin + sizes[first]
            while last + 1 < n and end <= begins[last + 1] and begins[last + 1] + sizes[last + 1] <= begin + TOGETHER:
                last += 1
                end = begins[last] + sizes[last]
            file = self._opened()
            file.seek(begin)
            data = file.read(end - begin)
            for i in range(first, last + 1):
                yield data[begins[i] - begin : begins[i] - begin + sizes[i]]
            first = last + 1

    def line(self, i: int) -> bytes:
        """The line of a value, without its end."""
        begins, sizes = self._placed()
        file = self._opened()
        file.seek(begins[i])
        found: bytes = file.read(sizes[i])
        return found

    def number(self, i: int) -> int:
        """The number of the line of a value in its file, from 1."""
        file = self._opened()
        file.seek(0)
        before: bytes = file.read(self._placed()[0][i])
        return before.count(b"\n") + 1

    def _part(self, read: Callable[[bytes], U], places: tuple[array[int], array[int]]) -> Stream[U]:
        found = Stream(self._path, read)
        found._places, found._file, found._source = places, self._opened(), self
        return found

    def _value(self, line: bytes, i: int) -> T:
        try:
            return self._read(line)
        except WireError as error:
            raise error.at(self._path, self.number(i)) from error

    def _placed(self) -> tuple[array[int], array[int]]:
        if self._places is None:
            begins, sizes = array("q"), array("q")
            for _, begin, line in placed_lines(self._path):
                begins.append(begin)
                sizes.append(len(line))
            if self._torn and begins and begins[-1] + sizes[-1] == self._path.stat().st_size:
                begins.pop()
                sizes.pop()
            self._places = begins, sizes
        return self._places

    def _opened(self) -> Any:
        if self._file is None:
            self._file = open_file(self._path)
            weakref.finalize(self, self._file.close)
        return self._file


def pick(values: Sequence[T], positions: Sequence[int]) -> Sequence[T]:
    """The values at these positions; for a stream, another stream."""
    return values.pick(positions) if isinstance(values, Stream) else tuple([values[i] for i in positions])


@dataclass(frozen=True, slots=True, eq=False)
class Lazy(Sequence[T], Generic[K, T]):
    """A sequence with a value for each key, made on each access."""

    keys: Sequence[K]
    make: Callable[[K], T]

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[T]:
        return map(self.make, self.keys)

    @overload
    def __getitem__(self, i: int) -> T: ...
    @overload
    def __getitem__(self, i: slice) -> Lazy[K, T]: ...
    def __getitem__(self, i: int | slice) -> T | Lazy[K, T]:
        return Lazy(self.keys[i], self.make) if isinstance(i, slice) else self.make(self.keys[i])


class Joined(Sequence[T]):
    """Several sequences one after the other, as one."""

    def __init__(self, parts: Iterable[Sequence[T]]) -> None:
        self._parts = tuple(parts)
        self._begins = [0, *accumulate(map(len, self._parts))]

    def __len__(self) -> int:
        return self._begins[-1]

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(self._parts)

    @overload
    def __getitem__(self, i: int) -> T: ...
    @overload
    def __getitem__(self, i: slice) -> Lazy[int, T]: ...
    def __getitem__(self, i: int | slice) -> T | Lazy[int, T]:
        if isinstance(i, slice):
            return Lazy(range(len(self))[i], self.__getitem__)
        i = range(len(self))[i]
        part = bisect_right(self._begins, i) - 1
        return self._parts[part][i - self._begins[part]]


def heads(examples: Sequence[Example]) -> Sequence[ExampleHead]:
    """The head of each document, read on access; from a stream only heads are decoded."""
    if isinstance(examples, Stream):
        return examples.read_as(example_head)
    return Lazy(examples, lambda one: ExampleHead(one.document.id, one.document.lang, one.document.group))


class Spool(Stream[T]):
    """A stream being written to a temporary file."""

    def __init__(self, write: Callable[[T], bytes], read: Callable[[bytes], T], values: Iterable[T] = ()) -> None:
        """`write` makes a line of a value, `read` a value of a line."""
        super().__init__(Path("a temporary file"), read)
        self._write = write
        self._begins, self._sizes = self._places = array("q"), array("q")
        self._file = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  closed with the spool
        weakref.finalize(self, self._file.close)
        self._end = 0
        self.extend(values)

    def append(self, value: T) -> None:
        self.append_line(self._write(value))

    def append_line(self, line: bytes) -> None:
        """Add an encoded value. Raises UserError if it cannot be written."""
        try:
            if self._moved:
                self._file.seek(self._end)
                self._moved = False
            self._file.write(line + b"\n")
        except OSError as error:
            raise cannot_write(Path(gettempdir()), error) from error
        self._begins.append(self._end)
        self._sizes.append(len(line))
        self._end += len(line) + 1

    def extend(self, values: Iterable[T]) -> None:
        for value in values:
            self.append(value)

    def copy_to(self, file: BinaryIO) -> None:
        """Write all lines into an open file."""
        self._opened().seek(0)
        shutil.copyfileobj(self._file, file)

    def sha256(self) -> str:
        """The hash of the file that `copy_to` writes."""
        self._opened().seek(0)
        found = hashlib.sha256()
        while part := self._file.read(IN_MEMORY):
            found.update(part)
        return found.hexdigest()

    def _opened(self) -> Any:
        self._moved = True
        return self._file

    _moved = False
    """Whether the file was read since the last line was written."""
