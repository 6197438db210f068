"""Reading a JSON value piece by piece, so that one wrong piece hides none of the others."""

from __future__ import annotations

import json
from dataclasses import dataclass, is_dataclass
from typing import Any, TypeVar

from m3dllm.errors import UserError, one_line
from m3dllm.keys import item_of, shape, unknown_keys
from m3dllm.stream import Spool
from m3dllm.wire import WireError, convert

T = TypeVar("T")
BROKEN: Any = object()
"""What a piece of another type than it should be is read as."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: where it stands, and what was found, expected, and to be done."""

    file: str
    line: int | None
    place: str
    message: str

    def __str__(self) -> str:
        place = "" if self.place == "$" else self.place
        return one_line(str(UserError.at(self.file, self.message, line=self.line, place=place)))


def findings() -> Spool[Finding]:
    """Findings on their way into a report, which are not held."""
    # The json module takes names of files that are no UTF-8.
    return Spool(
        lambda one: json.dumps((one.file, one.line, one.place, one.message)).encode(),
        lambda line: Finding(*json.loads(line.decode())),
    )


@dataclass(slots=True)
class Pieces:
    """Reads the values of one line (or of a whole file: line None), noting what is wrong in `problems`.

    A `loose` dataclass is made even where pieces of it are BROKEN: the caller judges its pieces.
    """

    file: str
    line: int | None
    problems: Spool[Finding]
    warnings: Spool[Finding]
    loose: tuple[type[Any], ...] = ()
    unnamed: frozenset[str] = frozenset()
    """Fields that are known, and that nobody should write."""

    def problem(self, place: str, message: str) -> None:
        self.problems.append(Finding(self.file, self.line, place, message))

    def warn(self, place: str, message: str) -> None:
        self.warnings.append(Finding(self.file, self.line, place, message))

    def read(self, value: Any, kind: type[T]) -> T:
        """`value` as a `kind`, or BROKEN. A loose dataclass's lists keep the positions of what is BROKEN in them."""
        for place, message in unknown_keys(value, kind, unnamed=self.unnamed):
            self.warn(place, message)
        try:
            return convert(value, kind)
        except WireError:
            found: T = self._read(value, kind, "$")
            return found

    def _read(self, value: Any, kind: Any, place: str) -> Any:
        if (item := item_of(kind)) is not None and isinstance(value, list):
            return tuple(self._read(part, item, f"{place}[{i}]") for i, part in enumerate(value))
        if is_dataclass(kind) and isinstance(value, dict):
            return self._read_object(value, kind, place)
        try:
            return convert(value, kind)
        except WireError as error:
            self.problem(place + error.place.removeprefix("$"), f"{error.message}: found {_brief(value)}")
            return BROKEN

    def _read_object(self, value: dict[str, Any], kind: Any, place: str) -> Any:
        parts: dict[str, Any] = {}
        for name, (hint, required) in shape(kind).items():
            if name in value:
                parts[name] = self._read(value[name], hint, f"{place}.{name}")
            elif required:
                self.problem(place, f"lacks the field '{name}'")
                parts[name] = BROKEN
        if kind not in self.loose and not all(map(is_whole, parts.values())):
            return BROKEN
        try:
            return kind(**parts)
        except ValueError as error:
            self.problem(place, str(error))
            return BROKEN


def whole(items: Any) -> list[tuple[int, Any]]:
    """(position, item) of the items of a list that are not BROKEN; none where there is no list."""
    return [] if items is BROKEN or items is None else [(i, item) for i, item in enumerate(items) if item is not BROKEN]


def is_whole(piece: Any) -> bool:
    """Whether the piece is not BROKEN, nor an item of it."""
    return piece is not BROKEN and not (isinstance(piece, tuple) and any(item is BROKEN for item in piece))


def _brief(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
