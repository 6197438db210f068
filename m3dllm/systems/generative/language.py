"""The output language: records of parts, their writer, and the reader that inverts it.

The parts of a record are separated by commas, `PER, Ada Byron`, or, in a form with any number of parts, by the mark
`<asoc>`, `[3] <asoc> [9]`; records are separated by the mark `<spot>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from m3dllm.errors import UserError
from m3dllm.labels import LabelSet

RECORD, PART = "<spot>", "<asoc>"
OBJECTS = 36
"""Candidates for regions that one question names at most."""
Record = tuple[str, ...]

_COMMA = re.compile(r"\s*,\s*")
_MARK = re.compile(r"<(?=spot>|asoc>)")
_NUMBER = re.compile(r"\[\s*([0-9]{1,6})\s*\]")
_OBJECT = re.compile(r"O\s*([0-9]{1,6})")


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a task's records."""

    parts: int
    """The number of parts, of which only the last may contain commas; 0: any number, separated by marks."""


def plain(text: str) -> str:
    """`text` in the language: with single blanks, and without anything that looks like a mark."""
    return _MARK.sub("< ", " ".join(text.split()))


def number(n: int) -> str:
    """The reference to item `n` of the source."""
    return f"[{n}]"


def object_name(n: int) -> str:
    """The name of candidate `n`."""
    return f"O{n}"


def read_number(part: str, limit: int) -> int | None:
    """The inverse of `number`, below `limit`; None for anything else."""
    return _below(_NUMBER.fullmatch(part), limit)


def read_object(part: str, limit: int) -> int | None:
    """The inverse of `object_name`, below `limit`; None for anything else."""
    return _below(_OBJECT.fullmatch(part), limit)


def write(records: Iterable[Record], form: Form) -> list[str]:
    """The parts of the text, each to be encoded separately; joined by blanks they are the text."""
    pieces: list[str] = []
    for record in records:
        pieces += [RECORD] if pieces else []
        for i, part in enumerate(record):
            last = i == len(record) - 1
            pieces.append(part if last or not form.parts else f"{part},")
            pieces += [] if last or form.parts else [PART]
    return pieces


def read(text: str, form: Form) -> tuple[list[Record], list[str]]:
    """(the records, malformed texts in place of records)."""
    records: list[Record] = []
    malformed: list[str] = []
    for written in text.split(RECORD) if text.strip() else ():
        if form.parts:
            parts = _COMMA.split(written.strip(), maxsplit=form.parts - 1)
        else:
            parts = [part.strip() for part in written.split(PART)]
        whole = all(parts) and PART not in "".join(parts) and len(parts) == (form.parts or len(parts))
        if whole:
            records.append(tuple(parts))
        else:
            malformed.append(" ".join(written.split()))
    return records, malformed


def check_types(labels: LabelSet) -> None:
    """Raises UserError for a type whose name the language cannot hold."""
    for kind in ("mentions", "relations", "regions"):
        for name in sorted(labels.names(kind)):
            if "," in name or name != plain(name):
                raise UserError(f"type {name!r}: a generating system writes types before a comma: rename it")


def instruction(what: str, types: Sequence[str]) -> str:
    """A task instructor, as in table 1 of UMIE."""
    return f"Please extract the following {what}: {', '.join(types)}."


def _below(match: re.Match[str] | None, limit: int) -> int | None:
    found = int(match[1]) if match else limit
    return found if found < limit else None
