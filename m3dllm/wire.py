"""Types to JSON and back: the only module that knows key names.

The JSON keys are the names of the types' fields (a box is a list of four numbers, a corpus line is a document with its
`gold`), so that the types are decoded directly, with all of their checks. A line that cannot be read raises WireError,
whose `place` is a path such as `$.gold.chains[0].mentions[1].start`.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from m3dllm.errors import UserError
from m3dllm.files import open_file, other_encoding, read_text, sha256, written_atomic
from m3dllm.keys import TWICE, repeated_keys, unknown_keys
from m3dllm.labels import LabelSet
from m3dllm.types import (
    Annotation,
    Chain,
    Document,
    Example,
    Failure,
    GivenKind,
    Prediction,
    RawOutput,
    Region,
    Relation,
    Task,
)

log = logging.getLogger("m3dllm")
_HALF = re.compile("[\ud800-\udfff]")
T = TypeVar("T")
FORMAT = 1
NESTING = 100
"""The maximum nesting of values that are read without a type, since code that walks them is recursive."""
BOM = b"\xef\xbb\xbf"
HEAD = 2**16
"""The first bytes of a file, by which its kind is recognized."""
_HOLDS = frozenset((dict, list))
_DEEP = "is nested too deeply to be what is expected here"


class WireError(ValueError):
    """A problem of a value, and its place in it."""

    def __init__(self, message: str, place: str = "$") -> None:
        super().__init__(message)
        self.message, self.place = message, place

    def at(self, file: Path | str, line: int | None = None) -> UserError:
        return UserError.at(file, self.message, line=line, place="" if self.place == "$" else self.place)


@dataclass(frozen=True, slots=True)
class _Gold:
    """The gold of a line: missing or null parts, and tasks in `unannotated`, are not annotated."""

    chains: tuple[Chain, ...] | None = None
    relations: tuple[Relation, ...] | None = None
    regions: tuple[Region, ...] | None = None
    unannotated: tuple[Task, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleLine(Document):
    """A line of `<split>.jsonl`."""

    gold: _Gold

    def __post_init__(self) -> None:
        """No checks: the Document made of it checks itself."""


class ExampleHead(msgspec.Struct):
    """The identifying fields of a document: nothing else of its line is decoded."""

    id: str
    lang: str
    group: str = ""


class AnswerHead(msgspec.Struct):
    """The identifying fields of an answer or prediction, and whether it is a failure."""

    document: str
    given: GivenKind | None = None
    error: Failure | str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _RawLine(RawOutput):
    format: int = FORMAT


@dataclass(frozen=True, slots=True, kw_only=True)
class _LabelsFile(LabelSet):
    format: int = FORMAT


PARTS: dict[Task, str] = {"entity": "chains", "relation": "relations", "grounding": "regions"}
"""The part of the gold with a task's annotation; "chain" shares that of "entity"."""
FILLED = ("given", "proposed")
"""The fields of a document that no file has."""
_NOT_FILLED = b"".join(b',"%b":null' % name.encode() for name in FILLED) + b"}"
"""The end of an encoded document in which they are empty."""
_DOCUMENT_FIELDS = attrgetter(*(f.name for f in fields(Document)))
_RAW_FIELDS = attrgetter(*(f.name for f in fields(RawOutput)))


# --- lines ------------------------------------------------------------------------------------------------------------


def decode(data: bytes | str, kind: type[T]) -> T:
    """The JSON value `data` as a `kind`. Raises WireError."""
    try:
        value = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_finite(data, error) or _wire_error(error, kind) from error
    if isinstance(value, dict | list) and is_deep(value):
        raise WireError(_DEEP)
    return value


def read_json(text: bytes | str, *, strict: bool = True) -> Any:
    """Any JSON value, as the json module reads it: NaN and duplicate keys are accepted.

    `strict=False` accepts control characters in strings. Raises ValueError, also for values nested too deeply.
    """
    try:
        value = json.loads(text, strict=strict)
    except RecursionError as error:
        raise ValueError(_DEEP) from error
    if is_deep(value):
        raise ValueError(_DEEP)
    return value


def whole_characters(value: Any) -> tuple[Any, bool]:
    """(the value with a � for each lone surrogate, whether there was one), since UTF-8 cannot hold them.

    UTF-16 text cut inside an emoji ends with one. The length does not change.
    """
    text = json.dumps(value, ensure_ascii=False)
    return (json.loads(_HALF.sub("�", text)), True) if _HALF.search(text) else (value, False)


def is_deep(value: Any) -> bool:
    """Whether a JSON value is nested deeper than NESTING."""
    level = [value] if type(value) in _HOLDS else []
    for _ in range(NESTING):
        if not level:
            return False
        level = [part for one in level for part in (one.values() if type(one) is dict else one) if type(part) in _HOLDS]
    return bool(level)


def convert(value: Any, kind: type[T], *, strict: bool = True) -> T:
    """A value made of dicts, lists, strings and numbers as a `kind`. Raises WireError.

    `strict=False` also reads numbers and booleans from strings, as on a command line.
    """
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise _wire_error(error, kind) from error


def encode(value: Any) -> bytes:
    """A value of `types` (or of dicts and lists) as one line of JSON, without the line end."""
    return msgspec.json.encode(value)


def encode_annotation(annotation: Annotation) -> bytes:
    """An annotation as in a line of `predictions.jsonl`."""
    return _without_nulls(encode(annotation))


def _without_nulls(line: bytes) -> bytes:
    """An encoded line without null confidences and ids; safe, since quotation marks in strings are escaped."""
    return line.replace(b',"confidence":null', b"").replace(b',"link":null', b"").replace(b',"id":null', b"")


def pretty(value: Any) -> str:
    """JSON for people, with a line end."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def decode_example(line: bytes | str) -> Example:
    """A line of `<split>.jsonl`. Raises WireError."""
    row = decode(line, ExampleLine)
    for name in FILLED:
        if getattr(row, name) is not None:
            raise WireError("is set by the pipeline and must not be in a file", f"$.{name}")
    try:
        document = Document(*_DOCUMENT_FIELDS(row))
    except ValueError as error:
        raise WireError(str(error)) from error
    unannotated = unannotated_in(row.gold)
    if "grounding" in unannotated and any(frame.annotated for frame in document.frames):
        document = replace(document, frames=tuple(replace(frame, annotated=False) for frame in document.frames))
    try:
        gold = Annotation(row.gold.chains or (), row.gold.relations or (), row.gold.regions or ())
    except ValueError as error:
        raise WireError(str(error), "$.gold") from error
    try:
        return Example(document, gold, unannotated)
    except ValueError as error:
        raise WireError(str(error)) from error


def unannotated_in(gold: Any) -> frozenset[Task]:
    """The tasks that are not annotated in the gold of a line: it names them, or lacks their part."""
    return frozenset(gold.unannotated) | {task for task, part in PARTS.items() if getattr(gold, part) is None}


def encode_example(example: Example) -> bytes:
    """The line of `<split>.jsonl` that `decode_example` reads; empty fields are omitted if a reader fills them."""
    document = example.document
    if document.given is not None or document.proposed is not None:
        document = replace(document, given=None, proposed=None)
    line = encode(document).removesuffix(_NOT_FILLED).removesuffix(b',"video":null')
    if document.frames:  # quotation marks in JSON strings are escaped
        line = line.replace(b',"sha256":""', b"").replace(b',"time_s":null', b"")
    parts = {part: getattr(example.gold, part) for task, part in PARTS.items() if task not in example.unannotated}
    rest = {"unannotated": ["chain"]} if example.unannotated & {"entity", "chain"} == {"chain"} else {}
    return line + b',"gold":' + _without_nulls(encode(parts | rest)) + b"}"


def decode_prediction(line: bytes | str) -> Prediction:
    """A line of `predictions.jsonl`. A box may hold null, NaN or Infinity: the scorer counts it as wrong."""
    try:
        return decode(line, Prediction)
    except WireError:
        try:
            value = read_json(line)
            for region in value["annotation"]["regions"]:
                region["box"] = [math.nan if x is None else x for x in region["box"]]
            json.dumps(value, ensure_ascii=False).encode()  # fails on a lone surrogate, which the json module accepts
        except (ValueError, TypeError, KeyError):
            raise WireError(*_first_error(line, Prediction)) from None
        return convert(value, Prediction)


def encode_prediction(prediction: Prediction) -> bytes:
    """The line of `predictions.jsonl` that `decode_prediction` reads.

    `frames` is omitted if all were given, and so are unknown confidences.
    """
    row = {f.name: getattr(prediction, f.name) for f in fields(Prediction)}
    if prediction.frames is None:
        del row["frames"]
    return _without_nulls(encode(row))


def log_ignored_keys(line: bytes, kind: type[Any], file: Path, number: int) -> None:
    """Log the keys of a line that its `kind` does not have: a misspelt one would look like an incomplete answer.

    Raises WireError for a key that appears twice in one object.
    """
    try:
        value = read_json(line)
    except ValueError:
        return  # reading it as a `kind` tells
    for place in repeated_keys(line, value):
        raise WireError(TWICE, place)
    for place, message in unknown_keys(value, kind, unnamed=FILLED if kind is ExampleLine else ()):
        name = place.rpartition(".")[2]
        log.warning("%s:%d: %s: %s", file, number, place, message, extra={"kind": f"{file}: the field '{name}'"})


def example_head(line: bytes) -> ExampleHead:
    """The head of the line of an example."""
    return _head(line, ExampleHead, decode_example)


def prediction_key(line: bytes) -> tuple[str, GivenKind | None]:
    """(document, what was given) of the line of a prediction; nothing else is decoded."""
    head = _head(line, AnswerHead, decode_prediction)
    return head.document, head.given


def raw_head(line: bytes) -> AnswerHead:
    """The document and pass of a line of raw.jsonl, and whether it is an answer or a failure."""
    return _head(line, AnswerHead, decode_raw)


def _head(line: bytes, kind: type[T], whole: Callable[[bytes], Any]) -> T:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = whole(line)  # raises the error
        return convert(msgspec.to_builtins(found.document if isinstance(found, Example) else found), kind)


def decode_raw(line: bytes | str) -> RawOutput:
    """A line of `raw.jsonl`. Raises WireError."""
    row = decode(line, _RawLine)
    _check_format(row.format)
    if is_deep([row.payload]):
        raise WireError(_DEEP, "$.payload")
    return RawOutput(*_RAW_FIELDS(row))


def encode_raw(raw: RawOutput) -> bytes:
    """The line of `raw.jsonl` that `decode_raw` reads.

    Raises WireError for a payload that JSON cannot hold: a lone surrogate, an object, a cycle.
    """
    try:
        return encode({"format": FORMAT} | {f.name: getattr(raw, f.name) for f in fields(RawOutput)})
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise WireError(f"the answer cannot be written as JSON ({error})") from error


def decode_labels(data: bytes | str) -> LabelSet:
    """A `labels.json`. Raises WireError."""
    row = decode(data, _LabelsFile)
    _check_format(row.format)
    return LabelSet(row.mentions, row.relations, row.regions)


def encode_labels(labels: LabelSet) -> str:
    """The `labels.json` that `decode_labels` reads."""
    return pretty(
        {"format": FORMAT, "mentions": labels.mentions, "regions": labels.regions, "relations": labels.relations}
    )


def labels_sha256(labels: LabelSet) -> str:
    """The hash of a label set, including glosses, independent of its file's layout."""
    return sha256(encode_labels(labels).encode())


def check_labels(known: str, labels: LabelSet, where: str | Path, *, what: str = "was fitted") -> None:
    """Raises UserError if `labels` differ from those, with the hash `known`, that a model was trained on."""
    if known != labels_sha256(labels):
        raise UserError.at(where, f"{what} for another label set than that of this corpus: fit again on this corpus")


# --- files ------------------------------------------------------------------------------------------------------------


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line) of a JSON Lines file, without blank lines and a byte-order mark.

    Raises UserError if the file cannot be read, or is not JSON Lines, such as one JSON value over several lines.
    """
    return ((number, line) for number, _, line in placed_lines(path))


def placed_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """(line number from 1, byte at which it begins, line without its end), otherwise as `numbered_lines`."""
    try:
        with open_file(path) as file:
            head = file.read(HEAD)
            if problem := other_encoding(head) or other_shape(head):
                raise UserError.at(path, problem)
            begin = len(BOM) if head.startswith(BOM) else 0
            file.seek(begin)
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, begin, line.removesuffix(b"\n")
                begin += len(line)
    except OSError as error:
        raise UserError.at(path, f"cannot be read: {error.strerror}") from error


def other_shape(data: bytes) -> str | None:
    """Why a file is not JSON Lines of objects: its first line is a list or only begins a JSON value; else None."""
    first = data.removeprefix(BOM).lstrip()[:2]
    if first.startswith(b"["):
        return "is a JSON list; expected JSON Lines: write each document on one line, without the list"
    if first.strip() == b"{":
        return "is JSON over several lines; expected JSON Lines: write each document on one line"
    return None


def read_lines(path: Path, decode_line: Any) -> Iterator[Any]:
    """Every line of a JSON Lines file through `decode_line`. Raises UserError with file, line and place."""
    for number, line in numbered_lines(path):
        try:
            yield decode_line(line)
        except WireError as error:
            raise error.at(path, number) from error


def read_labels(path: Path) -> LabelSet:
    """The label set in the file `path`. Raises UserError with file and place."""
    try:
        return decode_labels(read_text(path))
    except WireError as error:
        raise error.at(path) from error


def write_lines(path: Path, rows: Iterable[bytes]) -> None:
    """Write a JSON Lines file of encoded rows to `path` atomically, as `write_atomic`."""
    with written_atomic(path) as file:
        file.writelines(row + b"\n" for row in rows)


def lines(rows: Iterable[bytes]) -> bytes:
    """Encoded rows as the bytes of a JSON Lines file."""
    return b"".join(row + b"\n" for row in rows)


# --- errors -----------------------------------------------------------------------------------------------------------


def _not_finite(data: bytes | str, error: Exception) -> WireError | None:
    """The error of JSON with a NaN or Infinity, which Python writes and JSON does not have; None of other errors."""
    at = re.search(r"invalid character \(byte (\d+)\)", str(error))
    if at is None:
        return None
    data = data.encode() if isinstance(data, str) else data
    word = re.compile(b"NaN|Infinity").match(data, int(at[1]))
    return WireError(f"not valid JSON: {word[0].decode()} is not a JSON number: write a finite one") if word else None


def _wire_error(error: Exception, kind: Any) -> WireError:
    return WireError(*_split(error, kind))


def _first_error(line: bytes | str, kind: type[Any]) -> tuple[str, str]:
    try:
        msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _split(error, kind)
    return "cannot be read", "$"


def _split(error: Exception, kind: Any) -> tuple[str, str]:
    """(message, path) of an msgspec error, `message - at `$.path``, in decoding a `kind`."""
    if isinstance(error, UnicodeDecodeError):
        return "contains bytes that are not UTF-8: save the file as UTF-8", "$"
    if isinstance(error, RecursionError):
        return _DEEP, "$"
    if not isinstance(error, msgspec.ValidationError):
        return f"not valid JSON: {error}", "$"
    match = re.fullmatch(r"(.*?)(?: - at `(.*)`)?", str(error), flags=re.DOTALL)
    message, place = match.groups() if match else (str(error), None)
    if message.startswith("Invalid enum value") and (known := _choices(kind, place or "$")):
        message += f"; expected {', '.join(known)}"
    return message.replace("Object missing required field", "lacks the field").replace("`", "'"), place or "$"


def _choices(kind: Any, place: str) -> list[str]:
    """The allowed words at `place` of a `kind`."""
    found = _flat(msgspec.inspect.type_info(kind))
    for name in re.findall(r"\.(\w+)|\[", place):
        found = [part for one in found for part in _parts(one, name)]
    return [str(value) for one in found if isinstance(one, msgspec.inspect.LiteralType) for value in one.values]


def _flat(one: Any) -> list[Any]:
    return list(one.types) if isinstance(one, msgspec.inspect.UnionType) else [one]


def _parts(one: Any, name: str) -> list[Any]:
    """The types of a field of that name; without a name, of the items."""
    if name:
        return [part for f in getattr(one, "fields", ()) if f.encode_name == name for part in _flat(f.type)]
    inner = getattr(one, "item_type", None) or getattr(one, "value_type", None)
    return _flat(inner) if inner is not None else []


def _check_format(found: int) -> None:
    if found != FORMAT:
        raise WireError(f"is format {found}; this version reads format {FORMAT}: update m3dllm", "$.format")
