"""What a report is made of: finished runs, read from their folders, and those that had to be skipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from m3dllm.confidence import at_least
from m3dllm.corpora.missing import Manifest
from m3dllm.errors import UserError
from m3dllm.runs import Run, RunRecord
from m3dllm.score import Breakdown, ErrorCounts, Scores, Settings, TaskScores, break_down, read_scores, total
from m3dllm.score.by_type import ByType
from m3dllm.score.heuristics import Counted, HeuristicBaseline, heuristic_baselines
from m3dllm.score.scores import Pairs
from m3dllm.types import Annotation, Example, Prediction, RawOutput, Subset, Task
from m3dllm.wire import WireError, convert

MOST = 1e15
"""What no time, memory or count of a run comes near."""
PAIRS: tuple[Pairs, ...] = ("end_to_end", "gold_pairs")


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """A scored run as it lies on disk, under a name that no other run of the report has."""

    name: str
    path: Path
    record: RunRecord
    examples: tuple[Example, ...]
    raws: tuple[RawOutput, ...]
    """The answers as they were given; none where raw.jsonl is gone, which a score does without."""
    predictions: tuple[Prediction, ...]
    scores: Scores
    subsets: Mapping[str, Subset]
    """What was shown of each document; empty where everything was."""

    @cached_property
    def annotations(self) -> dict[str, Annotation]:
        """What the system predicted with nothing given, by document."""
        return {p.document: p.annotation for p in self.predictions if p.given is None}

    def documents(self, lang: str) -> list[Example]:
        return [example for example in self.examples if example.document.lang == lang]

    def issues(self, lang: str) -> dict[str, int]:
        """How often each code of an issue occurs in one language, over all passes."""
        here = {example.document.id for example in self.documents(lang)}
        codes = Counter(issue.code for p in self.predictions if p.document in here for issue in p.issues)
        return dict(sorted(codes.items()))

    def answers(self, lang: str) -> list[RawOutput]:
        """The system's answers to the documents in one language, over all passes."""
        here = {example.document.id for example in self.documents(lang)}
        return [raw for raw in self.raws if raw.document in here]

    @property
    def errors(self) -> dict[str, dict[Pairs, dict[Task, ErrorCounts]]]:
        """The classes of wrong predictions, by language, protocol and task."""
        return self._broken_down.errors

    @property
    def types(self) -> dict[str, dict[Pairs, dict[Task, ByType]]]:
        """The counts of each type, by language, protocol and task."""
        return self._broken_down.types

    @cached_property
    def _broken_down(self) -> Breakdown:
        return break_down(
            self.examples,
            self.predictions,
            labels=self.record.labels,
            settings=replace(self.scores.settings, threshold=None),  # the predictions are those above it
            subsets=self.subsets,
        )

    def part(self, lang: str, pairs: Pairs) -> TaskScores | None:
        """The scores of one language under one protocol; None where the run has none."""
        of = self.scores.languages[lang]
        return of.gold_pairs if pairs == "gold_pairs" else of.end_to_end

    def heuristics(self, lang: str, pairs: Pairs, counted: Counted | None = None) -> tuple[HeuristicBaseline, ...]:
        """The heuristic baselines beside the run's scores: over its predicted mentions and chains, or over the gold's.

        `counted` keeps what is the same for all runs of these documents.
        """
        return heuristic_baselines(
            self.documents(lang),
            self.record.labels,
            settings=Settings(self.scores.settings.modality, tasks=self.scores.settings.tasks),
            subsets=self.subsets,
            over=self.annotations if pairs == "end_to_end" else None,
            counted=counted,
        )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that is not in the report, and why."""

    name: str
    why: str


def read_run(path: Path, name: str | None = None, *, threshold: float | None = None) -> ScoredRun:
    """The scored run at `path`, finished or not. Raises UserError where it is broken or of another format.

    Of its predictions those that are at least as sure as `threshold`; None: as it was scored.
    """
    run = Run(path)
    record = run.record()
    examples, predictions = tuple(run.examples()), tuple(run.predictions())
    raws = tuple(run.raws().values())
    for file in ("scores.json", "per_document.jsonl"):
        if not (path / file).is_file():
            raise UserError.at(path, f"has no {file}: make it with 'm3dllm score {path}'")
    _check_cost(path, record, raws)
    if raws and {(p.document, p.given) for p in predictions} != {(raw.document, raw.given) for raw in raws}:
        raise UserError.at(path / "predictions.jsonl", f"is not of raw.jsonl: 'm3dllm normalize {path}', then score")
    scores = read_scores(path / "scores.json", path / "per_document.jsonl")
    _check_scores(path, examples, scores)
    limit = scores.settings.threshold if threshold is None else threshold
    if limit is not None:
        predictions = tuple(replace(p, annotation=at_least(p.annotation, limit)) for p in predictions)
    subsets = _subsets(path, record)
    if record.missing is not None and not {example.document.id for example in examples} <= subsets.keys():
        raise UserError.at(path / "run.json", "does not say what was shown of each document: make the run again")
    name = name or path.resolve().name
    return ScoredRun(name, path, record, examples, raws, predictions, scores, subsets)


def _subsets(path: Path, record: RunRecord) -> dict[str, Subset]:
    """What was shown of each document, from the manifest of the run."""
    try:
        return {} if record.missing is None else convert(record.missing, Manifest).documents
    except WireError as error:
        raise error.at(path / "run.json") from error


def _check_scores(path: Path, examples: Sequence[Example], scores: Scores) -> None:
    """Raises UserError where documents, counts by document and scores do not belong together."""
    again = f"score again with 'm3dllm score {path}'"
    expected = {example.document.id for example in examples}
    if len(expected) < len(examples):
        raise UserError.at(path / "documents.jsonl", "names a document twice: make the run again")
    if odd := sorted(expected ^ {row.document for row in scores.per_document}):
        file = "per_document.jsonl" if odd[0] in expected else "documents.jsonl"
        raise UserError.at(path / file, f"lacks document '{odd[0]}': {again}")
    if odd := sorted(scores.languages.keys() ^ {example.document.lang for example in examples}):
        raise UserError.at(path / "scores.json", f"does not agree with documents.jsonl about '{odd[0]}': {again}")
    for lang, of in scores.languages.items():
        for pairs in PAIRS:
            part = of.gold_pairs if pairs == "gold_pairs" else of.end_to_end
            rows = [row.tasks for row in scores.documents(lang, pairs=pairs)]
            counted = total(rows).tasks
            for name, score in part.tasks.items() if part else ():
                if name in counted and counted[name] != score:
                    message = f"does not agree with per_document.jsonl in {name} ({lang}, {pairs}): {again}"
                    raise UserError.at(path / "scores.json", message)


def read_runs(paths: Iterable[Path], *, threshold: float | None = None) -> tuple[list[ScoredRun], list[LeftOut]]:
    """The finished runs in the order of their names, and the others with what is wrong. A path given twice counts once.

    `threshold` is as in `read_run`. Raises UserError where no run is left.
    """
    runs, left_out = [], []
    for name, path in sorted(_names({path.resolve(): path for path in paths}).items()):
        try:
            run = read_run(path, name, threshold=threshold)
            if run.record.status != "done":
                raise UserError.at(path, f"is {run.record.status}: give its command again to finish it")
            runs.append(run)
        except UserError as error:
            left_out.append(LeftOut(name, str(error).removeprefix(f"{path}: ").removeprefix(f"{path}/")))
        except Exception as error:  # a file of a run can hold anything, and one bad run is not to stop the others
            left_out.append(LeftOut(name, broken(error)))
    if not runs:
        why = "; ".join(f"{run.name}: {run.why}" for run in left_out)
        raise UserError(f"no run to report{': ' if why else ': name at least one run directory'}{why}")
    return runs, left_out


def broken(error: Exception) -> str:
    """Why a run is skipped in which something stands that nobody thought of."""
    message = " ".join(f"{type(error).__name__} {error}".split())
    return f"holds what no run writes ({message[:160]}): make it again"


def _check_cost(path: Path, record: RunRecord, raws: Iterable[RawOutput]) -> None:
    """Raises UserError for a time, memory or count of tokens that cannot be one."""
    for name, numbers in (("seconds", record.seconds), ("memory_mb", record.memory_mb)):
        for step, number in numbers.items():
            if not 0 <= number <= MOST:
                raise UserError.at(path / "run.json", f"{name}.{step} is {number:g}, which cannot be: make it again")
    for name, value in record.tally.items():
        if isinstance(value, int | float) and not abs(value) <= MOST:
            raise UserError.at(path / "run.json", f"tally.{name} is a number that cannot be: make it again")
    for raw in raws:
        for of in (raw, *raw.turns):
            tokens = ("tokens_in", "tokens_out", "tokens_vision", "tokens_thinking")
            for name in (*tokens, "seconds", "first_token_s", "grammar_s", "thinking_s"):
                value = getattr(of, name, None)
                if value is not None and not 0 <= value <= MOST:
                    what = f"{name} of document '{raw.document}' is a number that cannot be: make the run again"
                    raise UserError.at(path / "raw.jsonl", what)


def _names(paths: Mapping[Path, Path]) -> dict[str, Path]:
    """Each path under the shortest end of it that no other has."""
    names: dict[str, Path] = {}
    for whole, path in paths.items():
        for n in range(1, len(whole.parts) + 1):
            end = whole.parts[-n:]
            if sum(other.parts[-n:] == end for other in paths) == 1:
                break
        names["/".join(end)] = path
    return names
