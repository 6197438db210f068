"""Answers read from a file: those of a run, predictions, or the gold of a corpus.

The gold of a corpus is written in the answer form and normalized like any other answer, so replaying it shows that
nothing is lost on the way. A document without an answer in the file fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from m3dllm.answers import write_answer
from m3dllm.config import Options
from m3dllm.errors import UserError
from m3dllm.files import sha256_file
from m3dllm.labels import LabelSet
from m3dllm.stream import Stream
from m3dllm.system import System, SystemSpec
from m3dllm.types import TASKS, Annotation, Document, Example, Failure, GivenKind, Prediction, RawOutput
from m3dllm.wire import (
    ExampleLine,
    WireError,
    decode,
    decode_example,
    decode_prediction,
    decode_raw,
    encode_annotation,
    log_ignored_keys,
    numbered_lines,
)

UNUSABLE = ("error", "no_answer", "not_json")
"""The Issues of a prediction that is empty because the answer could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Options):
    """The options of `replay`."""

    answers: str
    """The source of the answers: a run, a raw.jsonl, a predictions.jsonl, or a split of a corpus (its gold)."""

    def sources(self) -> dict[str, str]:
        """The hash of the file with the answers. Raises UserError if there is none."""
        return {"answers": sha256_file(_file(Path(self.answers)))}


SPEC = SystemSpec(
    name="replay",
    factory="m3dllm.systems.replay:Replay",
    config=Config,
    summary="answers from a file: a run's, or the gold of a corpus",
    tasks=TASKS,
    modalities=("text", "video"),
    languages=("en", "zh"),
    takes_given=True,
)


class Replay(System):
    """Replays the answers of a file. Raises UserError if it cannot be read."""

    def __init__(
        self, config: Config, *, labels: LabelSet, examples: Sequence[Example] = (), checkpoint: Path | None = None
    ) -> None:
        super().__init__(config, labels=labels, examples=examples, checkpoint=checkpoint)
        self._path = _file(Path(config.answers))
        self._answers, self._places = _read(self._path)

    def predict(self, documents: Sequence[Document]) -> Iterator[RawOutput]:
        """The answer of each document in its pass; gold is the answer in every pass."""
        for document in documents:
            kind = document.given.kind if document.given else None
            place = self._places.get((document.id, kind), self._places.get((document.id, "gold")))
            found = None if place is None else self._answers[place][1]
            if isinstance(found, Example):
                yield RawOutput(document.id, kind, write_answer(found.document, _visible(found.gold, document)))
            elif found:
                yield found
            else:
                asked = f"document {document.id!r}" + (f" with {kind} given" if kind else "")
                yield RawOutput(document.id, kind, error=f"{self._path} has no answer for {asked}")


def _file(path: Path) -> Path:
    """The file with the answers. Raises UserError if there is none."""
    if not path.is_dir():
        return path
    for name in ("raw.jsonl", "predictions.jsonl"):
        if (path / name).is_file():
            return path / name
    hint = ": give one of its splits, such as test.jsonl" if (path / "labels.json").is_file() else ""
    raise UserError.at(path, f"contains no answers; expected a run with raw.jsonl or predictions.jsonl{hint}")


Key = tuple[str, GivenKind | str | None]


def _read(path: Path) -> tuple[Stream[tuple[Key, RawOutput | Example]], dict[Key, int]]:
    """(every answer of the file, their positions by document and pass); the pass of gold is "gold"."""
    first = next(numbered_lines(path), None)
    if first is None:
        raise UserError.at(path, "is empty: expected one answer per line")
    reader = _reader(path, *first)
    places: dict[Key, int] = {}
    torn: UserError | None = None
    for i, (number, line) in enumerate(numbered_lines(path)):
        if torn is not None:  # not the last line
            raise torn
        try:
            key, _ = reader(line)
            if reader in KINDS:
                log_ignored_keys(line, KINDS[reader], path, number)
        except WireError as error:
            torn = error.at(path, number)
            if reader is not _raw or path.read_bytes().endswith(b"\n"):
                raise torn from error
            continue  # a killed run leaves an incomplete line
        if key in places and reader is not _raw:  # in a run, the last answer counts
            raise UserError.at(path, f"document {key[0]!r} appears twice", line=number)
        places[key] = i
    return Stream(path, reader), places


def _reader(path: Path, number: int, line: bytes) -> Callable[[bytes], tuple[Key, RawOutput | Example]]:
    """The reader of the file's lines, chosen by the first line."""
    try:
        row = decode(line, dict[str, Any])
    except WireError as error:
        raise error.at(path, number) from error
    for field, reader in (("payload", _raw), ("annotation", _prediction), ("gold", _gold)):
        if field in row:
            return reader
    expected = "a line of raw.jsonl, of predictions.jsonl or of a corpus (payload, annotation or gold)"
    raise UserError.at(path, f"holds {', '.join(map(repr, row)) or 'nothing'}; expected {expected}", line=number)


def _raw(line: bytes) -> tuple[Key, RawOutput]:
    raw = decode_raw(line)
    if raw.failure:
        raw = replace(raw, error=Failure(raw.failure.message))  # retrying with the same file does not help
    return (raw.document, raw.given), raw


def _prediction(line: bytes) -> tuple[Key, RawOutput]:
    prediction = decode_prediction(line)
    key = prediction.document, prediction.given
    if prediction.annotation == Annotation():
        for issue in prediction.issues:
            if issue.code in UNUSABLE:
                why = issue.detail if issue.code == "error" else f"{issue.code}: {issue.detail}"
                return key, RawOutput(*key, error=Failure(why), frames=prediction.frames)
    return key, RawOutput(*key, payload=_by_offsets(prediction), frames=prediction.frames)


def _gold(line: bytes) -> tuple[Key, Example]:
    example = decode_example(line)
    return (example.document.id, "gold"), example


KINDS: dict[Any, type[Any]] = {_prediction: Prediction, _gold: ExampleLine}
"""The types of lines by their readers; an answer may have any keys."""


def _by_offsets(prediction: Prediction) -> dict[str, Any]:
    """A prediction in the answer form, with mentions as offsets, since the text is not available."""
    return decode(encode_annotation(prediction.annotation), dict[str, Any])


def _visible(gold: Annotation, document: Document) -> Annotation:
    """The gold for the modalities that the document still has."""
    frames = {frame.index for frame in document.frames}
    regions = [region for region in gold.regions if region.frame in frames]
    return Annotation.pruned(gold.chains if document.text else (), gold.relations, regions)
