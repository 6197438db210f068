"""The results of scoring: counts by document, their sums by language, and ratios; with their JSON forms.

The JSON forms are those of `scores.json` (`Scores.to_wire`) and `per_document.jsonl` (`Scores.rows`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from math import fsum, isfinite
from pathlib import Path
from typing import Any, Literal

from m3dllm.errors import UserError
from m3dllm.files import read_bytes
from m3dllm.score.calibration import Calibration
from m3dllm.score.metric import means, place
from m3dllm.score.settings import Settings
from m3dllm.stream import Spool, Stream
from m3dllm.types import PRF, TASKS, Subset, Task, harmonic_mean
from m3dllm.wire import FORMAT, WireError, convert, decode, encode

Pairs = Literal["end_to_end", "gold_pairs"]
PAIRS: tuple[Pairs, ...] = ("end_to_end", "gold_pairs")
COUNTS = ("p_num", "p_den", "r_num", "r_den")
MOST_APART = 1_000
"""The number of counts that are collected before they are added up."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Precision, recall and F1 without counts; all None over nothing."""

    precision: float | None = None
    recall: float | None = None
    f1: float | None = None

    @classmethod
    def mean(cls, parts: Iterable[PRF]) -> Ratio:
        """The means of the parts' P, R and F1. A part over nothing counts 0, unless all are: then the mean is None."""
        ratios = [(part.precision, part.recall, part.f1) for part in parts]
        if all(f1 is None for _, _, f1 in ratios):
            return cls()
        return cls(*(fsum(x or 0.0 for x in column) / len(ratios) for column in zip(*ratios, strict=True)))


@dataclass(frozen=True, slots=True)
class TaskScores:
    """The scores of a set of documents by task and variant. The average is over the F1 of the tasks with a score."""

    tasks: Mapping[str, PRF | Ratio]

    @property
    def average_of(self) -> tuple[str, ...]:
        return tuple(task for task in TASKS if task in self.tasks and self.tasks[task].f1 is not None)

    @property
    def average_f1(self) -> float | None:
        found = [self.tasks[task].f1 or 0.0 for task in self.average_of]
        return fsum(found) / len(found) if found else None


@dataclass(frozen=True, slots=True)
class DocumentScore:
    """The counts of one document under one protocol. A task that is not counted on this document is absent."""

    document: str
    lang: str
    group: str
    subset: Subset
    pairs: Pairs
    tasks: Mapping[str, PRF]


@dataclass(frozen=True, slots=True)
class LanguageScores:
    """The scores of one language. `gold_pairs` is None if no gold was given to the system.

    `unanswered`: the documents without a prediction (scored as empty ones); `regions_unannotated`: the number of
    predicted regions in frames that are not annotated (they are not counted). `frames_shown`: how many of the
    `frames_annotated` the system was given, over the documents on which grounding counts; None if no answer tells.
    """

    documents: int
    end_to_end: TaskScores
    gold_pairs: TaskScores | None = None
    unanswered: int = 0
    regions_unannotated: int = 0
    frames_annotated: int = 0
    frames_shown: int | None = None
    failed: int = 0
    """Documents on which the system failed, in any pass: they are not scored."""
    calibration: Mapping[Pairs, Mapping[Task, Calibration]] = field(default_factory=dict)
    """The calibration by protocol and task; absent if no prediction has a confidence."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of a set of predictions. `unanswered` are the ids of gold documents without a prediction."""

    settings: Settings
    languages: Mapping[str, LanguageScores]
    per_document: Sequence[DocumentScore] = ()
    unanswered: Sequence[str] = ()

    def documents(self, lang: str, *, pairs: Pairs = "end_to_end") -> Sequence[DocumentScore]:
        """The documents of one language under one protocol."""
        if not isinstance(self.per_document, Stream):
            return tuple(row for row in self.per_document if row.lang == lang and row.pairs == pairs)
        kinds = self.per_document.read_as(partial(decode, kind=_RowKind))
        return self.per_document.pick(i for i, of in enumerate(kinds) if of.lang == lang and of.pairs == pairs)

    def subset(self, lang: str, subset: Subset, *, pairs: Pairs = "end_to_end") -> TaskScores:
        """The scores over the documents of one language that are in one modality subset."""
        return total(row.tasks for row in self.documents(lang, pairs=pairs) if row.subset == subset)

    def to_wire(self) -> dict[str, Any]:
        """The object of `scores.json`.

        Counts of unanswered documents and of skipped regions appear if not 0, those of frames if answers tell which
        frames they were given.
        """
        settings: dict[str, Any] = {"modality": self.settings.modality, "variants": list(self.settings.variants)}
        if self.settings.scored != TASKS:
            settings["tasks"] = list(self.settings.scored)
        if self.settings.threshold is not None:
            settings["threshold"] = self.settings.threshold
        languages = {lang: _language_to_wire(scores) for lang, scores in self.languages.items()}
        return {"format": FORMAT, "settings": settings, "languages": languages}

    def rows(self) -> list[dict[str, Any]]:
        """The objects of `per_document.jsonl`, one per document and protocol."""
        return [_row_to_wire(row) for row in self.per_document]

    def row_lines(self) -> Iterator[bytes]:
        """The lines of `per_document.jsonl`."""
        rows = self.per_document
        return rows.lines() if isinstance(rows, Stream) else map(_encode_row, rows)

    @classmethod
    def from_wire(cls, value: Any, rows: Iterable[Any] = ()) -> Scores:
        """The inverse of `to_wire` and `rows` (the ids of unanswered documents are not kept). Raises WireError."""
        found = convert(value, _ScoresObject)
        if found.format != FORMAT:
            raise WireError(f"is format {found.format}; this version reads format {FORMAT}: score again", "$.format")
        return cls(
            settings=found.settings,
            languages={lang: _language_from_wire(scores) for lang, scores in found.languages.items()},
            per_document=tuple(_row_of(convert(row, _RowObject)) for row in rows),
        )


def answered(of: LanguageScores) -> str:
    """How many documents the system answered, such as "57 of 60"."""
    return f"{of.documents - of.failed - of.unanswered} of {of.documents}"


class Sums:
    """The sum of counts of documents, added one by one: exact in any order."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        """`names` are in the result even if nothing was counted."""
        self._columns: dict[str, list[PRF]] = {name: [] for name in names}

    def add(self, counts: Mapping[str, PRF]) -> None:
        for name, value in counts.items():
            column = self._columns.setdefault(name, [])
            column.append(value)
            if len(column) == MOST_APART:
                column[:] = _fewer(column)

    def scores(self) -> TaskScores:
        """The counts, micro-averaged, with the scores that are means of others."""
        sums = {name: PRF.sum(values) for name, values in self._columns.items()}
        averaged = {
            name: Ratio.mean(sums[part] for part in parts)
            for name, parts in means().items()
            if all(part in sums for part in parts)
        }
        scores: dict[str, PRF | Ratio] = {**sums, **averaged}
        return TaskScores({name: scores[name] for name in sorted(scores, key=_place)})


def _fewer(counts: Sequence[PRF]) -> list[PRF]:
    """A few counts with exactly the same sum as many."""
    columns = ([getattr(one, name) for one in counts] for name in COUNTS)
    return [PRF(*parts) for parts in zip_longest(*map(_exact, columns), fillvalue=0)]


def _exact(values: list[float]) -> list[float]:
    """The `fsum` of the values, its rounding error, the error of that, and so on: two or three numbers."""
    found: list[float] = []
    while rest := fsum([*values, *(-part for part in found)]):
        found.append(rest)
        if not isfinite(rest):
            break
    return found


def document_scores() -> Spool[DocumentScore]:
    """A spool of counts of documents, as in `per_document.jsonl`."""
    return Spool(_encode_row, _decode_row)


def total(documents: Iterable[Mapping[str, PRF]], names: Iterable[str] = ()) -> TaskScores:
    """The counts of documents, micro-averaged. `names` are in the result even if nothing was counted."""
    sums = Sums(names)
    for counts in documents:
        sums.add(counts)
    return sums.scores()


def read_scores(scores: Path, per_document: Path | None = None) -> Scores:
    """The scores in a `scores.json`, and the documents in a `per_document.jsonl`. Raises UserError."""
    try:
        found = Scores.from_wire(decode(read_bytes(scores), dict[str, Any]))
    except WireError as error:
        raise error.at(scores) from error
    except UserError as error:
        raise UserError.at(scores, str(error)) from error
    if per_document is None:
        return found
    return Scores(found.settings, found.languages, Stream(per_document, _decode_row))


def _place(name: str) -> tuple[int, int]:
    """In the order of the tasks, each before its parts and variants."""
    return place(name), name.count(".")


# --- JSON -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ScoreObject:
    precision: float | None
    recall: float | None
    f1: float | None
    p_num: float | None = None
    p_den: float | None = None
    r_num: float | None = None
    r_den: float | None = None


@dataclass(frozen=True, slots=True)
class _TasksObject:
    tasks: dict[str, _ScoreObject]


@dataclass(frozen=True, slots=True)
class _FramesObject:
    annotated: int
    shown: int


@dataclass(frozen=True, slots=True)
class _LanguageObject:
    documents: int
    end_to_end: _TasksObject
    gold_pairs: _TasksObject | None = None
    unanswered: int = 0
    regions_unannotated: int = 0
    gold_frames: _FramesObject | None = None
    failed: int = 0
    calibration: dict[Pairs, dict[Task, Calibration]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _ScoresObject:
    format: int
    settings: Settings
    languages: dict[str, _LanguageObject]


@dataclass(frozen=True, slots=True)
class _RowKind:
    lang: str
    pairs: Pairs


@dataclass(frozen=True, slots=True)
class _RowObject:
    document: str
    lang: str
    group: str
    subset: Subset
    pairs: Pairs
    tasks: dict[str, _ScoreObject]


def _number(value: float) -> float:
    return value if type(value) is int else int(value) if value == int(value) else value


def _score_to_wire(score: PRF | Ratio) -> dict[str, float | None]:
    precision, recall = score.precision, score.recall
    if isinstance(score, Ratio):
        return {"precision": precision, "recall": recall, "f1": score.f1}
    return {
        "precision": precision,
        "recall": recall,
        "f1": harmonic_mean(precision, recall),
        "p_num": _number(score.p_num),
        "p_den": _number(score.p_den),
        "r_num": _number(score.r_num),
        "r_den": _number(score.r_den),
    }


def _tasks_to_wire(scores: TaskScores) -> dict[str, Any]:
    return {
        "tasks": {name: _score_to_wire(score) for name, score in scores.tasks.items()},
        "average_f1": scores.average_f1,
        "average_of": list(scores.average_of),
    }


def _language_to_wire(scores: LanguageScores) -> dict[str, Any]:
    row: dict[str, Any] = {"documents": scores.documents, "end_to_end": _tasks_to_wire(scores.end_to_end)}
    if scores.gold_pairs is not None:
        row["gold_pairs"] = _tasks_to_wire(scores.gold_pairs)
    for name in ("unanswered", "failed", "regions_unannotated"):
        if getattr(scores, name):
            row[name] = getattr(scores, name)
    if scores.frames_shown is not None:
        row["gold_frames"] = {"annotated": scores.frames_annotated, "shown": scores.frames_shown}
    if scores.calibration:
        row["calibration"] = scores.calibration
    return row


def _counts_from_wire(score: _ScoreObject) -> PRF:
    return PRF(score.p_num or 0, score.p_den or 0, score.r_num or 0, score.r_den or 0)


def _tasks_from_wire(found: _TasksObject) -> TaskScores:
    return TaskScores(
        {
            name: Ratio(score.precision, score.recall, score.f1) if score.p_den is None else _counts_from_wire(score)
            for name, score in found.tasks.items()
        }
    )


def _language_from_wire(found: _LanguageObject) -> LanguageScores:
    gold_pairs = None if found.gold_pairs is None else _tasks_from_wire(found.gold_pairs)
    end_to_end = _tasks_from_wire(found.end_to_end)
    frames = found.gold_frames
    return LanguageScores(
        documents=found.documents,
        end_to_end=end_to_end,
        gold_pairs=gold_pairs,
        unanswered=found.unanswered,
        regions_unannotated=found.regions_unannotated,
        frames_annotated=frames.annotated if frames else 0,
        frames_shown=frames.shown if frames else None,
        failed=found.failed,
        calibration=found.calibration,
    )


def _row_to_wire(row: DocumentScore) -> dict[str, Any]:
    return {
        "document": row.document,
        "lang": row.lang,
        "group": row.group,
        "subset": row.subset,
        "pairs": row.pairs,
        "tasks": {name: _score_to_wire(counts) for name, counts in row.tasks.items()},
    }


def _encode_row(row: DocumentScore) -> bytes:
    return encode(_row_to_wire(row))


def _decode_row(line: bytes) -> DocumentScore:
    return _row_of(decode(line, _RowObject))


def _row_of(found: _RowObject) -> DocumentScore:
    tasks = {name: _counts_from_wire(score) for name, score in found.tasks.items()}
    return DocumentScore(found.document, found.lang, found.group, found.subset, found.pairs, tasks)
