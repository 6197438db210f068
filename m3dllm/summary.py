"""The statistics of a run besides its scores, collected in one pass over documents, answers and predictions.

`score` writes them as `summary.json`, with the hashes of the files that they depend on; if these have changed, or the
file is missing, as in runs of older versions, they are collected again.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median

from m3dllm.corpora.imported import Counts, Tally
from m3dllm.corpora.missing import Manifest
from m3dllm.errors import UserError
from m3dllm.files import read_bytes, sha256_file, write_atomic
from m3dllm.runs import Run, RunRecord
from m3dllm.score import ErrorCounts, Scores, Settings
from m3dllm.score.breakdown import BreakingDown
from m3dllm.score.by_type import ByType
from m3dllm.score.corpus import Answers, Gold, Golds, Scoring
from m3dllm.score.heuristics import HeuristicBaseline, Reached, Rules
from m3dllm.score.scores import PAIRS, Pairs
from m3dllm.stream import Spool
from m3dllm.tokens import tokenize
from m3dllm.types import TASKS, Example, Prediction, RawOutput, Subset, Task
from m3dllm.wire import FORMAT, WireError, convert, decode, encode, encode_example

NAME = "summary.json"
FILES = ("documents.jsonl", "raw.jsonl", "predictions.jsonl", "scores.json", "per_document.jsonl")
MOST = 1e15
"""Larger than any possible time, memory or count of a run."""
TOKENS = ("tokens_in", "tokens_vision", "tokens_reused", "tokens_out", "tokens_thinking")


@dataclass(slots=True)
class Mean:
    """The sum and count of some numbers."""

    total: float = 0.0
    n: int = 0

    def add(self, value: float) -> None:
        self.total += value
        self.n += 1

    @property
    def mean(self) -> float | None:
        return self.total / self.n if self.n else None


@dataclass(slots=True)
class LanguageSummary:
    """The statistics of a run in one language."""

    sha256: str = ""
    """The hash of the documents with their gold, in the order of their ids."""
    counts: Counts = field(default_factory=Counts)
    lacking: dict[str, int] = field(default_factory=dict)
    """task -> the number of documents in which it is not annotated."""
    sizes: dict[str, list[int | None]] = field(default_factory=dict)
    """measure -> its value for each document, in their order in the run; None if it has no text."""
    codes: list[tuple[list[str], int]] = field(default_factory=list)
    """The sets of Issue codes of predictions, each with its number of predictions."""
    issues: dict[str, int] = field(default_factory=dict)
    """Issue code -> how often it occurs."""
    mentions: int = 0
    """The number of predicted mentions, over all passes."""
    frames_annotated: int = 0
    """The annotated frames of the documents that were answered with nothing given and whose frames were given."""
    frames_shown: int = 0
    seconds: float | None = None
    """The median time per answer."""
    tokens: Mean = field(default_factory=Mean)
    """Tokens read and written per answer."""
    turns: dict[str, Mean] = field(default_factory=dict)
    """Tokens of all turns of an answer, by kind of token."""
    errors: dict[Pairs, dict[Task, ErrorCounts]] = field(default_factory=dict)
    """The classes of wrong predictions, by protocol and task."""
    types: dict[Pairs, dict[Task, ByType]] = field(default_factory=dict)
    """The counts of each type, by protocol and task."""
    heuristics: dict[Pairs, tuple[HeuristicBaseline, ...]] = field(default_factory=dict)
    """The heuristic baselines over the predicted mentions and chains, and over those of the gold."""


@dataclass(slots=True)
class Summary:
    """The statistics by language; `answers` is the number of answers."""

    answers: int = 0
    languages: dict[str, LanguageSummary] = field(default_factory=dict)

    @property
    def has_gold(self) -> bool:
        """Whether any task of any document is annotated."""
        return any(of.lacking.get(task, 0) < of.counts.documents for of in self.languages.values() for task in TASKS)


MEASURES: dict[str, Callable[[Example], int]] = {
    "length": lambda example: len(tokenize(example.document)),
    "mentions": lambda example: sum([len(chain.mentions) for chain in example.gold.chains]),
    "chains": lambda example: len(example.gold.chains),
}
"""The measures of a document's size."""


@dataclass(slots=True)
class _Language:
    """The running statistics of a language."""

    summary: LanguageSummary = field(default_factory=LanguageSummary)
    tally: Tally = field(default_factory=Tally)
    codes: Counter[tuple[str, ...]] = field(default_factory=Counter)
    issues: Counter[str] = field(default_factory=Counter)
    seconds: array[float] = field(default_factory=lambda: array("d"))
    lines: Spool[bytes] = field(default_factory=lambda: Spool(bytes, bytes))

    def add(
        self, example: Example, predictions: Iterable[Prediction], raws: Iterable[RawOutput], *, shown: bool
    ) -> None:
        of, document = self.summary, example.document
        self.tally.add(example)
        for measure, size in MEASURES.items():
            of.sizes.setdefault(measure, []).append(size(example) if document.text else None)
        self.lines.append(encode_example(example))
        for prediction in predictions:
            codes = [issue.code for issue in prediction.issues]
            self.codes[tuple(sorted({*codes}))] += 1
            self.issues.update(codes)
            of.mentions += sum([len(chain.mentions) for chain in prediction.annotation.chains])
        for raw in raws:
            self._add_answer(raw)
            if raw.given is None and shown:
                wanted = {frame.index for frame in document.frames if frame.annotated}
                of.frames_annotated += len(wanted)
                of.frames_shown += len(wanted if raw.frames is None else wanted.intersection(raw.frames))

    def _add_answer(self, raw: RawOutput) -> None:
        if raw.seconds is not None:
            self.seconds.append(raw.seconds)
        if raw.tokens_in:
            self.summary.tokens.add(float(raw.tokens_in + (raw.tokens_out or 0)))
        for name in TOKENS if raw.turns else ():
            found = [n for turn in raw.turns if (n := getattr(turn, name)) is not None]
            if found:
                self.summary.turns.setdefault(name, Mean()).add(sum(found))

    def done(self) -> LanguageSummary:
        of, digest = self.summary, hashlib.sha256()
        ids = (line[: line.index(b'","lang":') + 1] for line in self.lines)  # each with the place of its line behind
        for key in sorted(name + i.to_bytes(8, "big") for i, name in enumerate(ids)):
            digest.update(self.lines.line(int.from_bytes(key[-8:], "big")) + b"\n")
        of.sha256 = digest.hexdigest()
        ((_, held),) = self.tally.languages.items()
        of.counts, of.lacking = Counts(**held.counts), held.lacking
        of.codes = [([*codes], n) for codes, n in sorted(self.codes.items())]
        of.issues = dict(sorted(self.issues.items()))
        of.seconds = median(self.seconds) if self.seconds else None
        return of


@dataclass(slots=True)
class Walked:
    """The results of one pass over a run; `problems` tell why they cannot be trusted."""

    summary: Summary
    scores: Scores
    problems: list[UserError]


def walk(run: Run, record: RunRecord, settings: Settings) -> Walked:
    """The scores and statistics of a run. Raises UserError as `score` does."""
    subsets = subsets_of(run, record)
    examples, raws = run.examples(), run.raws()
    answers = Answers(Golds(examples, subsets), run.predictions(), settings.threshold)
    rules = Rules(record.labels)
    for example in examples:
        rules.add(example, Gold.of(example, subsets.get(example.document.id)))
    scoring = Scoring(answers, labels=record.labels, settings=settings)
    broken_down = BreakingDown(answers, labels=record.labels, settings=settings)
    over: dict[Pairs, Reached] = {pairs: Reached(rules, plain(settings)) for pairs in PAIRS}
    languages = {lang: _Language() for lang in answers.passes}
    problems: list[UserError] = []
    shared = 0
    for example in examples:
        gold = Gold.of(example, subsets.get(example.document.id))
        document = answers.of(gold)
        scoring.add(document)
        broken_down.add(document)
        over["end_to_end"].add(example, gold, document.get(None))
        if document.passes - {None}:
            over["gold_pairs"].add(example, gold, gold.annotation)
        own = [raw for given in document.passes if (raw := raws.get((gold.document, given))) is not None]
        shared += sum(raw.given in document.predictions for raw in own)
        shown = subsets.get(gold.document) != "no_video"
        languages[gold.lang].add(example, document.predictions.values(), own, shown=shown)
        problems += (UserError.at(run.path / "raw.jsonl", odd) for raw in own if (odd := odd_cost(raw)))
        if record.missing is not None and gold.document not in subsets:
            what = "does not say what was shown of each document: make the run again"
            problems.append(UserError.at(run.path / "run.json", what))
    if raws and not len(raws) == len(answers) == shared:
        what = f"is not of raw.jsonl: 'm3dllm normalize {run.path}', then score"
        problems.insert(0, UserError.at(run.path / "predictions.jsonl", what))
    summary = Summary(len(raws), {lang: of.done() for lang, of in languages.items()})
    breakdown = broken_down.done()
    for lang, of in summary.languages.items():
        of.errors, of.types = breakdown.errors.get(lang, {}), breakdown.types.get(lang, {})
        of.heuristics = {pairs: tuple(reached.of(lang)) for pairs, reached in over.items() if lang in reached.languages}
    return Walked(summary, scoring.done(), problems)


def plain(settings: Settings) -> Settings:
    """The settings for heuristic baselines: without variants."""
    return Settings(settings.modality, tasks=settings.tasks)


def subsets_of(run: Run, record: RunRecord) -> dict[str, Subset]:
    """The modalities given of each document, from the run's manifest; empty if all were."""
    try:
        return {} if record.missing is None else convert(record.missing, Manifest).documents
    except WireError as error:
        raise error.at(run.path / "run.json") from error


def odd_cost(raw: RawOutput) -> str | None:
    """Why a time or count of tokens is impossible, or None."""
    for of in (raw, *raw.turns):
        tokens = ("tokens_in", "tokens_out", "tokens_vision", "tokens_thinking")
        for name in (*tokens, "seconds", "first_token_s", "grammar_s", "thinking_s"):
            value = getattr(of, name, None)
            if value is not None and not 0 <= value <= MOST:
                return f"{name} of document '{raw.document}' is a number that cannot be: make the run again"
    return None


# --- the file ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _File:
    made_of: dict[str, str]
    summary: Summary
    format: int = FORMAT


def keep(run: Run, record: RunRecord, walked: Walked) -> None:
    """Write the scores of a run and, if it can be trusted, the summary."""
    file = run.path / NAME
    file.unlink(missing_ok=True)
    run.write_scores(walked.scores.to_wire(), walked.scores.row_lines())
    if not walked.problems:
        write_atomic(file, encode(_File(_made_of(run, record), walked.summary)))


def kept(run: Run, record: RunRecord) -> Summary | None:
    """The summary of a run, if it belongs to the current files; else None."""
    try:
        found = decode(read_bytes(run.path / NAME), _File)
    except (UserError, WireError):
        return None
    return found.summary if found.format == FORMAT and found.made_of == _made_of(run, record) else None


def _made_of(run: Run, record: RunRecord) -> dict[str, str]:
    """The hashes of what a summary depends on."""
    made_of = {name: sha256_file(file) for name in FILES if (file := run.path / name).is_file()}
    return made_of | {"run.json": hashlib.sha256(encode([record.labels, record.missing])).hexdigest()}
