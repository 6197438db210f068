"""Score two files, without a run: gold in corpus lines or prediction lines, pred in prediction lines."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.score.corpus import Gold, Golds, MisplacedError, given_words, score_golds
from m3dllm.score.scores import Scores
from m3dllm.score.settings import Settings
from m3dllm.stream import Stream
from m3dllm.types import TASKS, Annotation, Example, Prediction
from m3dllm.wire import (
    ExampleLine,
    WireError,
    decode,
    decode_example,
    decode_prediction,
    example_head,
    log_ignored_keys,
    numbered_lines,
    prediction_key,
    read_json,
    read_labels,
)

log = logging.getLogger(__name__)
T = TypeVar("T")
UNKNOWN_LANGUAGE = "und"
"""The language of gold in prediction lines, which have none."""


def score_files(
    gold: Path | str, pred: Path | str, *, labels: Path | str | None = None, settings: Settings | None = None
) -> Scores:
    """The scores of the predictions in the file `pred` against the file `gold`.

    Gold in prediction lines has neither texts nor frames: its documents count in every task, every frame counts as
    annotated, boxes may be illegal (they match nothing and are counted), and lines with gold given are ignored. So
    exchanging two files of predictions exchanges precision and recall. Without `labels` every type is allowed and every
    relation is directed; with them an unknown type is an error.

    Raises UserError, with file, line and place, for the first problem.
    """
    label_set = read_labels(Path(labels)) if labels is not None else None
    gold, pred = Path(gold), Path(pred)
    golds, gold_lines = _golds(gold, label_set)
    predictions = _predictions(pred, label_set)
    try:
        return score_golds(golds, predictions, labels=label_set, settings=settings or Settings())
    except MisplacedError as error:
        if error.of == "predictions":
            raise _placed(error, pred, predictions, "$.document", gold) from error
        raise _placed(error, gold, gold_lines, "$.id" if isinstance(golds, Golds) else "$.document", gold) from error


def _placed(error: MisplacedError, file: Path, lines: Stream[Any], place: str, gold: Path) -> UserError:
    """The error with its file, line and place."""
    document, given = error.key
    if error.first is None:
        what = f"'{document}' is not a document of {gold}: predict the documents of the gold, or remove it"
    else:
        words = f" {given_words(given)}" if error.of == "predictions" else ""
        what = f"'{document}' is already in line {lines.number(error.first)}{words}: expected one line per document"
    return UserError.at(file, what, line=lines.number(error.position), place=place)


def _golds(file: Path, labels: LabelSet | None) -> tuple[Golds | Stream[Gold], Stream[Any]]:
    """(the gold of each document, read on access; the stream of its lines)."""
    form = _form(file)
    if form is None:
        raise UserError.at(file, "is empty; expected gold, one document per line")
    if form == "corpus":
        _look_through(file, example_head, ExampleLine)
        examples = Stream(file, partial(_example, labels))
        return Golds(examples), examples
    keys = enumerate(_heads(file, prediction_key, Prediction))
    kept = array("q", (i for i, (_, given) in keys if given is None))
    if not kept:
        raise UserError.at(file, "has only lines with something given; expected gold, with given null")
    golds = Stream(file, partial(_gold, labels)).pick(kept)
    return golds, golds


def _predictions(file: Path, labels: LabelSet | None) -> Stream[Prediction]:
    if _form(file) == "corpus":
        raise UserError.at(file, "holds corpus lines; expected prediction lines: are --gold and --pred swapped?")
    _look_through(file, prediction_key, Prediction)
    return Stream(file, partial(_answer, labels))


def _look_through(file: Path, read: Callable[[bytes], Any], kind: type[Any]) -> None:
    """Raises UserError, with file, line and place, for the first line that is no `kind`."""
    for _ in _heads(file, read, kind):
        pass


def _heads(file: Path, read: Callable[[bytes], T], kind: type[Any]) -> Iterator[T]:
    """What `read` makes of each line, a `kind`. Raises UserError with file, line and place."""
    for number, line in numbered_lines(file):
        try:
            found = read(line)
            log_ignored_keys(line, kind, file, number)
        except WireError as error:
            raise error.at(file, number) from error
        yield found


def _example(labels: LabelSet | None, line: bytes) -> Example:
    example = decode_example(line)
    _check_types(example.gold, "gold", labels)
    return example


def _gold(labels: LabelSet | None, line: bytes) -> Gold:
    found = _prediction(labels, line)
    return Gold(found.document, UNKNOWN_LANGUAGE, "", found.annotation, None, "full", frozenset(TASKS))


def _prediction(labels: LabelSet | None, line: bytes) -> Prediction:
    found = decode_prediction(line)
    _check_types(found.annotation, "annotation", labels)
    return found


def _answer(labels: LabelSet | None, line: bytes) -> Prediction:
    """`_prediction`; boxes that match nothing are named: they may be in pixels."""
    found = _prediction(labels, line)
    for i, region in enumerate(found.annotation.regions):
        if not region.box.is_legal:
            why = "which matches nothing: expected fractions of the image, x0 < x1 and y0 < y1"
            log.warning("prediction of '%s': regions[%d] has the box %s, %s", found.document, i, [*region.box], why)
    return found


def _check_types(annotation: Annotation, name: str, labels: LabelSet | None) -> None:
    """Raises WireError for a type that the labels do not have."""
    for place, problem in labels.unknown(annotation) if labels is not None else ():
        raise WireError(problem, f"$.{name}.{place}")


def _form(file: Path) -> Literal["corpus", "predictions"] | None:
    """The kind of the lines of the file, by the first one; None if it has none."""
    for number, line in numbered_lines(file):
        try:
            keys = _keys(line)
        except WireError as error:
            raise error.at(file, number) from error
        if "annotation" in keys or "document" in keys:
            return "predictions"
        if "gold" in keys or "id" in keys:
            return "corpus"
        what = "is neither a corpus line (id, lang, text, gold) nor a prediction line (document, annotation)"
        raise UserError.at(file, what, line=number)
    return None


def _keys(line: bytes) -> frozenset[str]:
    """The keys of a JSON object, in which a box may hold NaN. Raises WireError."""
    try:
        value = read_json(line)
    except ValueError:
        value = decode(line, dict[str, Any])
    return frozenset(value) if isinstance(value, dict) else frozenset()
