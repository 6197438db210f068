"""Score two files, without a run: gold in corpus lines or prediction lines, pred in prediction lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.score.corpus import Gold, Golds, given_words, score_golds
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
    golds, ids = _golds(Path(gold), label_set)
    predictions = _predictions(Path(pred), ids, label_set, Path(gold))
    return score_golds(golds, predictions, labels=label_set, settings=settings or Settings())


def _golds(file: Path, labels: LabelSet | None) -> tuple[Golds | Sequence[Gold], set[str]]:
    """(the gold of each document, read on access; the ids of all)."""
    form = _form(file)
    if form is None:
        raise UserError.at(file, "is empty; expected gold, one document per line")
    seen: dict[tuple[str, str], int] = {}
    if form == "corpus":
        for number, head in _heads(file, example_head, ExampleLine):
            _once(file, number, "id", head.id, seen)
        return Golds(Stream(file, partial(_example, labels))), {name for name, _ in seen}
    kept = []
    for i, (number, (document, given)) in enumerate(_heads(file, prediction_key, Prediction)):
        if given is None:
            _once(file, number, "document", document, seen)
            kept.append(i)
    if not kept:
        raise UserError.at(file, "has only lines with something given; expected gold, with given null")
    return Stream(file, partial(_gold, labels)).pick(kept), {name for name, _ in seen}


def _predictions(file: Path, ids: Set[str], labels: LabelSet | None, gold: Path) -> Stream[Prediction]:
    if _form(file) == "corpus":
        raise UserError.at(file, "holds corpus lines; expected prediction lines: are --gold and --pred swapped?")
    seen: dict[tuple[str, str], int] = {}
    for number, (document, given) in _heads(file, prediction_key, Prediction):
        if document not in ids:
            what = f"'{document}' is not a document of {gold}: predict the documents of the gold, or remove it"
            raise UserError.at(file, what, line=number, place="$.document")
        _once(file, number, "document", document, seen, given_words(given))
    return Stream(file, partial(_prediction, labels))


def _heads(file: Path, read: Callable[[bytes], T], kind: type[Any]) -> Iterator[tuple[int, T]]:
    """(line number, what `read` makes of the line, a `kind`). Raises UserError with file, line and place."""
    for number, line in numbered_lines(file):
        try:
            found = read(line)
            log_ignored_keys(line, kind, file, number)
        except WireError as error:
            raise error.at(file, number) from error
        yield number, found


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


def _check_types(annotation: Annotation, name: str, labels: LabelSet | None) -> None:
    """Raises WireError for a type that the labels do not have."""
    for place, problem in labels.unknown(annotation) if labels is not None else ():
        raise WireError(problem, f"$.{name}.{place}")


def _once(file: Path, number: int, key: str, document: str, seen: dict[tuple[str, str], int], words: str = "") -> None:
    """Note the line of a document. Raises UserError if it was there before."""
    if (document, words) in seen:
        place = f"line {seen[document, words]}{words and ' '}{words}"
        raise UserError.at(
            file, f"'{document}' is already in {place}: expected one line per document", line=number, place=f"$.{key}"
        )
    seen[document, words] = number


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
