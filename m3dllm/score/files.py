"""Score two files, without a run: gold in corpus lines or prediction lines, pred in prediction lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.score.corpus import Gold, given_words, score_golds
from m3dllm.score.scores import Scores
from m3dllm.score.settings import Settings
from m3dllm.types import TASKS, Annotation, Example, Prediction
from m3dllm.wire import WireError, decode, decode_example, decode_prediction, numbered_lines, read_json, read_labels

T = TypeVar("T")
UNKNOWN_LANGUAGE = "und"
"""The language of gold in prediction lines, which do not name one."""


def score_files(
    gold: Path | str, pred: Path | str, *, labels: Path | str | None = None, settings: Settings | None = None
) -> Scores:
    """The scores of the predictions in the file `pred` against the file `gold`.

    Gold in prediction lines names neither texts nor frames: its documents count in every task, every frame counts as
    annotated, boxes may be illegal (they match nothing and are counted), and lines with something given are passed
    over. So exchanging two files of predictions exchanges precision and recall. Without `labels` every type is allowed
    and every relation is directed; with them an unknown type is an error.

    Raises UserError, with file, line and place, for the first thing that is wrong.
    """
    label_set = read_labels(Path(labels)) if labels is not None else None
    golds = _golds(Path(gold), label_set)
    predictions = _predictions(Path(pred), golds, label_set, Path(gold))
    return score_golds(list(golds.values()), predictions, labels=label_set, settings=settings or Settings())


def _golds(file: Path, labels: LabelSet | None) -> dict[str, Gold]:
    """The gold of each document, by id."""
    form = _form(file)
    if form is None:
        raise UserError.at(file, "is empty; expected gold, one document a line")
    golds: dict[str, Gold] = {}
    seen: dict[str, int] = {}
    if form == "corpus":
        for number, example in _checked(file, decode_example, labels):
            _once(file, number, "id", example.document.id, seen)
            golds[example.document.id] = Gold.of(example)
        return golds
    for number, line in _checked(file, decode_prediction, labels):
        if line.given is None:
            _once(file, number, "document", line.document, seen)
            golds[line.document] = Gold(
                line.document, UNKNOWN_LANGUAGE, "", line.annotation, None, "full", frozenset(TASKS)
            )
    if not golds:
        raise UserError.at(file, "has only lines with something given; expected gold, with given null")
    return golds


def _predictions(file: Path, golds: dict[str, Gold], labels: LabelSet | None, gold: Path) -> Iterator[Prediction]:
    if _form(file) == "corpus":
        raise UserError.at(file, "holds corpus lines; expected prediction lines: are --gold and --pred exchanged?")
    seen: dict[str, int] = {}
    for number, prediction in _checked(file, decode_prediction, labels):
        if prediction.document not in golds:
            what = f"'{prediction.document}' is no document of {gold}: predict the documents of the gold, or remove it"
            raise UserError.at(file, what, line=number, place="$.document")
        _once(file, number, "document", prediction.document, seen, given_words(prediction.given))
        yield prediction


def _checked(file: Path, decode_line: Callable[[bytes], T], labels: LabelSet | None) -> Iterator[tuple[int, T]]:
    """(line number, line) of the file, its types known. Raises UserError with file, line and place."""
    for number, line in numbered_lines(file):
        try:
            found: Any = decode_line(line)
            name = "gold" if isinstance(found, Example) else "annotation"
            annotation: Annotation = getattr(found, name)
            for place, problem in labels.unknown(annotation) if labels is not None else ():
                raise WireError(problem, f"$.{name}.{place}")
        except WireError as error:
            raise error.at(file, number) from error
        yield number, found


def _once(file: Path, number: int, key: str, document: str, seen: dict[str, int], words: str = "") -> None:
    """Note where a document stands. Raises UserError where it stands already."""
    name = f"{document} {words}"
    if name in seen:
        what = f"'{document}' stands already in line {seen[name]}{words and ' '}{words}: one line a document"
        raise UserError.at(file, what, line=number, place=f"$.{key}")
    seen[name] = number


def _form(file: Path) -> Literal["corpus", "predictions"] | None:
    """What the lines of the file are, by the first one; None where there is none."""
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
