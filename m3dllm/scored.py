"""Finished runs read from disk, for reports and document pages; and runs that were skipped."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from m3dllm.confidence import at_least, lack_confidences
from m3dllm.errors import UserError
from m3dllm.files import sha256
from m3dllm.positions import Positions
from m3dllm.runs import RawOutputs, Run, RunRecord, f1_html
from m3dllm.score import Scores, TaskScores, read_scores
from m3dllm.score.corpus import Answers, Golds
from m3dllm.score.heuristics import HeuristicBaseline, heuristic_baselines
from m3dllm.score.per_document import DocumentCounts, ids_of
from m3dllm.score.scores import PAIRS, Pairs, Sums
from m3dllm.stream import Joined, heads
from m3dllm.summary import MOST, LanguageSummary, Summary, Walked, kept, plain, subsets_of, walk
from m3dllm.types import PRF, Example, Prediction, Subset
from m3dllm.wire import decode_prediction, encode_example, encode_raw

if TYPE_CHECKING:
    from m3dllm.score.per_document import Ids


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """A scored run on disk, with a name that is unique in the report.

    Documents, answers and predictions are read on access, one at a time.
    """

    name: str
    path: Path
    record: RunRecord
    examples: Sequence[Example]
    predictions: Sequence[Prediction]
    scores: Scores
    subsets: Mapping[str, Subset]
    """The modalities given of each document; empty if all were."""
    summary: Summary
    _files: Run
    _counts: dict[tuple[str, Pairs], DocumentCounts] = field(init=False, repr=False, default_factory=dict)
    _ids: dict[str, Ids] = field(init=False, repr=False, default_factory=dict)

    def __repr__(self) -> str:
        n, of = sum(of.counts.documents for of in self.summary.languages.values()), self.record.corpus
        return f"ScoredRun({self.name!r}: {self.record.system} on {n} of {of.name}, {of.split})"

    def _repr_html_(self) -> str:
        return f1_html(self.scores.to_wire())

    @cached_property
    def raws(self) -> RawOutputs:
        """The raw answers; empty if raw.jsonl is missing, which scores do not need."""
        return self._files.raws()

    @property
    def answers(self) -> Answers:
        """The predictions by document."""
        return Answers(Golds(self.examples, self.subsets), self.predictions)

    def documents(self, lang: str) -> Iterator[str]:
        """The ids of the documents of one language."""
        return (head.id for head in heads(self.examples) if head.lang == lang)

    def ids(self, lang: str) -> Ids:
        """The same, in an array."""
        if lang not in self._ids:
            self._ids[lang] = ids_of(self.documents(lang))
        return self._ids[lang]

    def counts(self, lang: str, pairs: Pairs) -> DocumentCounts:
        """The counts of each document of one language under one protocol."""
        key = lang, pairs
        if key not in self._counts:
            self._counts[key] = DocumentCounts.of(self.scores.documents(lang, pairs=pairs))
        return self._counts[key]

    def of(self, lang: str) -> LanguageSummary:
        """The summary of one language."""
        return self.summary.languages[lang]

    def part(self, lang: str, pairs: Pairs) -> TaskScores | None:
        """The scores of one language under one protocol; None where the run has none."""
        of = self.scores.languages[lang]
        return of.gold_pairs if pairs == "gold_pairs" else of.end_to_end

    def heuristics(self, lang: str, pairs: Pairs) -> tuple[HeuristicBaseline, ...]:
        """The heuristic baselines beside its scores: over the predicted mentions and chains, or over the gold's."""
        known = self.of(lang).heuristics
        if pairs not in known and pairs == "gold_pairs":  # only another run of its table was given the gold
            settings = plain(self.scores.settings)
            found = heuristic_baselines(self.examples, self.record.labels, settings=settings, subsets=self.subsets)
            known[pairs] = tuple(row for row in found if row.lang == lang)
        return known.get(pairs, ())


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that is not in the report, and why."""

    name: str
    why: str


def read_run(path: Path, name: str | None = None, *, threshold: float | None = None) -> ScoredRun:
    """The scored run at `path`, finished or not. Raises UserError if it is broken or of another format.

    `threshold`: only predictions with at least this confidence; None: as it was scored.
    """
    run = Run(path)
    record = run.record()
    examples = run.examples()
    for file in ("scores.json", "per_document.jsonl"):
        if not (path / file).is_file():
            raise UserError.at(path, f"has no {file}: make it with 'm3dllm score {path}'")
    if not record.system.strip():
        raise UserError.at(path / "run.json", "does not name its system: make the run again")
    _check_cost(path, record)
    scores = read_scores(path / "scores.json", path / "per_document.jsonl")
    limit = scores.settings.threshold if threshold is None else threshold
    if threshold is not None and lack_confidences(prediction.annotation for prediction in run.predictions()):
        raise UserError.at(path, f"no prediction has a confidence: --threshold {threshold:g} would change nothing")
    predictions = run.predictions() if limit is None else run.predictions().read_as(partial(_at_least, limit))
    summary = kept(run, record)
    if summary is None:
        walked = walk(run, record, scores.settings)
        for problem in walked.problems:
            raise problem
        summary = walked.summary
        _check_scores(path, examples, walked, scores)
    name = name or path.resolve().name
    return ScoredRun(name, path, record, examples, predictions, scores, subsets_of(run, record), summary, run)


def _at_least(limit: float, line: bytes) -> Prediction:
    prediction = decode_prediction(line)
    return replace(prediction, annotation=at_least(prediction.annotation, limit))


def _check_scores(path: Path, examples: Sequence[Example], walked: Walked, scores: Scores) -> None:
    """Raises UserError if documents, predictions, counts by document and scores do not belong together."""
    summary = walked.summary
    again = f"score again with 'm3dllm score {path}'"
    rows: dict[tuple[str, Pairs], Sums] = defaultdict(Sums)
    documents = heads(examples)
    known: Positions[str] = Positions(lambda i: documents[i].id)
    for head in documents:
        known.add(head.id)
    found, strange = bytearray(len(known)), ""
    for row in scores.per_document:
        rows[row.lang, row.pairs].add(row.tasks)
        if (position := known.get(row.document)) is not None:
            found[position] = True
        else:
            strange = min(strange or row.document, row.document)
    missing = min((head.id for head, there in zip(documents, found, strict=True) if not there), default="")
    if first := min(filter(None, (strange, missing)), default=""):
        file = "documents.jsonl" if first == strange else "per_document.jsonl"
        raise UserError.at(path / file, f"lacks document '{first}': {again}")
    if odd := sorted(scores.languages.keys() ^ summary.languages.keys()):
        raise UserError.at(path / "scores.json", f"does not agree with documents.jsonl about '{odd[0]}': {again}")
    for lang, of in scores.languages.items():
        for pairs in PAIRS:
            part = of.gold_pairs if pairs == "gold_pairs" else of.end_to_end
            counted = rows[lang, pairs].scores().tasks
            types = summary.languages[lang].types.get(pairs, {}).get("entity", {})
            entity = counted.get("entity")
            if isinstance(entity, PRF) and entity.r_den != sum(of_type.r_den for of_type in types.values()):
                message = f"does not agree with documents.jsonl about the gold mentions ({lang}, {pairs}): {again}"
                raise UserError.at(path / "per_document.jsonl", message)
            now = walked.scores.languages[lang]
            scored = now.gold_pairs if pairs == "gold_pairs" else now.end_to_end
            held = {"per_document.jsonl": counted, "predictions.jsonl": scored.tasks if scored else {}}
            for name, score in part.tasks.items() if part else ():
                for file in (file for file, tasks in held.items() if name in tasks and tasks[name] != score):
                    message = f"does not agree with {file} in {name} ({lang}, {pairs}): {again}"
                    raise UserError.at(path / "scores.json", message)


def read_runs(paths: Iterable[Path], *, threshold: float | None = None) -> tuple[list[ScoredRun], list[LeftOut]]:
    """(the finished runs by name, the others with the reason). A path given twice counts once.

    `threshold` is as in `read_run`. Raises UserError if no run is left.
    """
    runs, skipped = [], []
    for name, path in sorted(_names({path.resolve(): path for path in paths}).items()):
        try:
            run = read_run(path, name, threshold=threshold)
            if run.record.status != "done":
                raise UserError.at(path, f"is {run.record.status}: run its command again to finish it")
            runs.append(run)
        except UserError as error:
            skipped.append(LeftOut(name, str(error).removeprefix(f"{path}: ").removeprefix(f"{path}/")))
        except Exception as error:  # files of a run can hold anything, and one bad run must not stop the others
            skipped.append(LeftOut(name, broken(error)))
    if not runs:
        why = "; ".join(f"{run.name}: {run.why}" for run in skipped)
        raise UserError(f"no run to report{': ' if why else ': name at least one run directory'}{why}")
    return runs, skipped


def count_documents(runs: Sequence[ScoredRun]) -> int:
    """The number of different ids of documents in these runs."""
    different = {tuple((lang, of.sha256) for lang, of in run.summary.languages.items()): run for run in runs}
    if len(different) == 1:
        return sum(of.counts.documents for of in runs[0].summary.languages.values())
    documents = Joined([heads(run.examples) for run in different.values()])
    first = array("q")
    """The position of each different id."""
    ids: Positions[str] = Positions(lambda i: documents[first[i]].id)
    for i, head in enumerate(documents):
        if ids.add(head.id) is None:
            first.append(i)
    return len(ids)


def with_common(runs: Sequence[ScoredRun], work: Path) -> list[ScoredRun]:
    """The runs, restricted to and scored on the documents that all share, with the same gold.

    The restricted runs are written into the folder `work`. Raises UserError if no document is left.
    """
    held = [{e.document.id: sha256(encode_example(e)) for e in run.examples} for run in runs]
    shared = {name for name, digest in held[0].items() if all(of.get(name) == digest for of in held)}
    if not shared:
        raise UserError(f"--common: {', '.join(run.name for run in runs)} share no document")
    return [
        run if len(of) == len(shared) else _restricted(run, shared, work / str(i))
        for i, (run, of) in enumerate(zip(runs, held, strict=True))
    ]


def _restricted(run: ScoredRun, ids: Collection[str], folder: Path) -> ScoredRun:
    """The run, restricted to these documents."""
    folder.mkdir()
    left = Run(folder)
    left.write_examples(e for e in run.examples if e.document.id in ids)
    left.write_predictions(p for p in Run(run.path).predictions() if p.document in ids)
    with left.raw_log() as log:
        for (document, _), raw in run.raws.items():
            if document in ids:
                log.append(encode_raw(raw))
    walked = walk(left, run.record, run.scores.settings)
    limit = run.scores.settings.threshold
    predictions = left.predictions() if limit is None else left.predictions().read_as(partial(_at_least, limit))
    return replace(
        run,
        examples=left.examples(),
        predictions=predictions,
        scores=walked.scores,
        summary=walked.summary,
        _files=left,
    )


def broken(error: Exception) -> str:
    """Why a run is skipped whose files have unforeseen content."""
    message = " ".join(f"{type(error).__name__} {error}".split())
    return f"has content that no run writes ({message[:160]}): make it again"


def _check_cost(path: Path, record: RunRecord) -> None:
    """Raises UserError for an impossible time, memory or count of tokens."""
    for name, numbers in (("seconds", record.seconds), ("memory_mb", record.memory_mb)):
        for step, number in numbers.items():
            if not 0 <= number <= MOST:
                raise UserError.at(path / "run.json", f"{name}.{step} is {number:g}, which cannot be: make it again")
    for name, value in record.tally.items():
        if isinstance(value, int | float) and not abs(value) <= MOST:
            raise UserError.at(path / "run.json", f"tally.{name} is a number that cannot be: make it again")


def _names(paths: Mapping[Path, Path]) -> dict[str, Path]:
    """Each path by its shortest unique end."""
    names: dict[str, Path] = {}
    for whole, path in paths.items():
        for n in range(1, len(whole.parts) + 1):
            end = whole.parts[-n:]
            if sum(other.parts[-n:] == end for other in paths) == 1:
                break
        names["/".join(end)] = path
    return names
