"""What a report is made of: finished runs, and which of them may stand in one table.

Runs are comparable where they were scored on the same documents and gold, with the same labels, the same modalities
shown and the same documents counted. Each such set in one language is a `Field`; a system in it is one or several runs
that differ in their seed only.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from m3dllm.corpora.missing import Manifest
from m3dllm.errors import UserError
from m3dllm.files import sha256
from m3dllm.runs import Run, RunRecord
from m3dllm.score import DocumentScore, Scores, Settings, TaskScores, read_scores, total
from m3dllm.score.floors import Floor, floors
from m3dllm.score.scores import Pairs
from m3dllm.types import TASKS, Annotation, Example, Prediction, Subset
from m3dllm.wire import WireError, convert, encode, encode_example, encode_labels, lines

PAIRS: tuple[Pairs, ...] = ("end_to_end", "gold_pairs")
DIFFERENCES = {
    "documents": "other documents or gold",
    "labels": "another label set",
    "shown": "other modalities shown",
    "modality": "another rule for which documents count",
}


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """A scored run as it lies on disk, under a name that no other run of the report has."""

    name: str
    path: Path
    record: RunRecord
    examples: tuple[Example, ...]
    predictions: tuple[Prediction, ...]
    scores: Scores
    subsets: Mapping[str, Subset]
    """What was shown of each document; empty where everything was."""

    @cached_property
    def annotations(self) -> dict[str, Annotation]:
        """What the system said with nothing given, by document."""
        return {p.document: p.annotation for p in self.predictions if p.given is None}

    def documents(self, lang: str) -> list[Example]:
        return [example for example in self.examples if example.document.lang == lang]

    def issues(self, lang: str) -> dict[str, int]:
        """How often each code of an issue occurs in one language, over all passes."""
        here = {example.document.id for example in self.documents(lang)}
        codes = Counter(issue.code for p in self.predictions if p.document in here for issue in p.issues)
        return dict(sorted(codes.items()))

    def part(self, lang: str, pairs: Pairs) -> TaskScores | None:
        """The scores of one language under one protocol; None where the run has none."""
        of = self.scores.languages[lang]
        return of.gold_pairs if pairs == "gold_pairs" else of.end_to_end

    def floors(self, lang: str, pairs: Pairs) -> tuple[Floor, ...]:
        """The floors that stand beside the run's scores: over its own mentions and chains, or over the gold's."""
        return floors(
            self.documents(lang),
            self.record.labels,
            settings=Settings(self.scores.settings.modality),
            subsets=self.subsets,
            over=self.annotations if pairs == "end_to_end" else None,
        )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that is not in the report, and why."""

    name: str
    why: str


def read_run(path: Path, name: str | None = None) -> ScoredRun:
    """The scored run at `path`, finished or not. Raises UserError where it is broken or of another format."""
    run = Run(path)
    record = run.record()
    examples, predictions = tuple(run.examples()), tuple(run.predictions())
    for file in ("scores.json", "per_document.jsonl"):
        if not (path / file).is_file():
            raise UserError.at(path, f"has no {file}: make it with 'm3dllm score {path}'")
    scores = read_scores(path / "scores.json", path / "per_document.jsonl")
    _check_scores(path, examples, scores)
    subsets = _subsets(path, record)
    if record.missing is not None and not {example.document.id for example in examples} <= subsets.keys():
        raise UserError.at(path / "run.json", "does not say what was shown of each document: make the run again")
    return ScoredRun(name or path.resolve().name, path, record, examples, predictions, scores, subsets)


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
            said = of.gold_pairs if pairs == "gold_pairs" else of.end_to_end
            rows = [row.tasks for row in scores.documents(lang, pairs=pairs)]
            counted = total(rows).tasks
            for name, score in said.tasks.items() if said else ():
                if name in counted and counted[name] != score:
                    message = f"does not agree with per_document.jsonl in {name} ({lang}, {pairs}): {again}"
                    raise UserError.at(path / "scores.json", message)


def read_runs(paths: Iterable[Path]) -> tuple[list[ScoredRun], list[LeftOut]]:
    """The finished runs in the order of their names, and the others with what is wrong. A path given twice counts once.

    Raises UserError where no run is left.
    """
    runs, left_out = [], []
    for name, path in sorted(_names({path.resolve(): path for path in paths}).items()):
        try:
            run = read_run(path, name)
            if run.record.status != "done":
                raise UserError.at(path, f"is {run.record.status}: give its command again to finish it")
            runs.append(run)
        except UserError as error:
            left_out.append(LeftOut(name, str(error).removeprefix(f"{path}: ").removeprefix(f"{path}/")))
    if not runs:
        why = "; ".join(f"{run.name}: {run.why}" for run in left_out)
        raise UserError(f"no run to report{': ' if why else ': name at least one run directory'}{why}")
    return runs, left_out


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


# --- what may stand in one table --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Protocol:
    """What must be equal in one table. `documents`, `labels` and `shown` are hashes."""

    corpus: str
    split: str
    lang: str
    documents: str
    labels: str
    shown: str
    modality: str

    def differences(self, other: Protocol) -> list[str]:
        """In words, what makes the two not comparable."""
        return [words for name, words in DIFFERENCES.items() if getattr(self, name) != getattr(other, name)]


@dataclass(frozen=True, eq=False)
class SystemRuns:
    """A system under one configuration: its runs, which differ in their seed only."""

    label: str
    runs: tuple[ScoredRun, ...]

    def parts(self, lang: str, pairs: Pairs) -> list[TaskScores]:
        return [part for run in self.runs if (part := run.part(lang, pairs)) is not None]

    def f1s(self, lang: str, pairs: Pairs, key: str) -> list[float]:
        """The F1 of each run in one score, or "average"; a run without it is left out."""
        parts = self.parts(lang, pairs)
        found = [
            p.average_f1 if key == "average" else p.tasks[key].f1 for p in parts if key == "average" or key in p.tasks
        ]
        return [f1 for f1 in found if f1 is not None]

    def average_of(self, lang: str, pairs: Pairs) -> tuple[str, ...]:
        """The tasks of the average: those that every run has."""
        parts = self.parts(lang, pairs)
        return tuple(task for task in TASKS if parts and all(task in part.average_of for part in parts))

    def documents(self, lang: str, pairs: Pairs) -> list[tuple[DocumentScore, ...]]:
        return [run.scores.documents(lang, pairs=pairs) for run in self.runs]


@dataclass(frozen=True, eq=False)
class Field:
    """The systems that may stand in one table, in one language."""

    protocol: Protocol
    systems: tuple[SystemRuns, ...]

    @property
    def lang(self) -> str:
        return self.protocol.lang

    @property
    def runs(self) -> list[ScoredRun]:
        return [run for system in self.systems for run in system.runs]

    @cached_property
    def floors(self) -> dict[tuple[str, Pairs], tuple[Floor, ...]]:
        """The floors beside each run, by its name; those over the gold's mentions and chains are one for all."""
        own = {(run.name, PAIRS[0]): run.floors(self.lang, PAIRS[0]) for run in self.runs}
        shared = self.runs[0].floors(self.lang, PAIRS[1])
        return own | {(run.name, PAIRS[1]): shared for run in self.runs}

    def with_pairs(self, pairs: Pairs) -> list[SystemRuns]:
        """The systems all of whose runs have scores under this protocol."""
        return [s for s in self.systems if len(s.parts(self.lang, pairs)) == len(s.runs)]


def fields(runs: Sequence[ScoredRun]) -> list[Field]:
    """The runs as sets of comparable ones, by corpus, split and language."""
    found: dict[Protocol, list[ScoredRun]] = defaultdict(list)
    for run in runs:
        for lang in sorted({example.document.lang for example in run.examples}):
            found[_protocol(run, lang)].append(run)
    return [Field(protocol, _systems(found[protocol])) for protocol in sorted(found)]


def _protocol(run: ScoredRun, lang: str) -> Protocol:
    here = run.documents(lang)
    ids = {example.document.id for example in here}
    shown = sorted(
        (document, subset) for document, subset in run.subsets.items() if document in ids and subset != "full"
    )
    return Protocol(
        corpus=run.record.corpus.name,
        split=run.record.corpus.split,
        lang=lang,
        documents=sha256(lines(sorted(map(encode_example, here)))),
        labels=sha256(encode_labels(run.record.labels).encode()),
        shown=sha256(encode(shown)),
        modality=run.scores.settings.modality,
    )


def _systems(runs: Sequence[ScoredRun]) -> tuple[SystemRuns, ...]:
    """The runs by what they are apart from the seed. Runs of one seed are no repetition: they stand apart."""
    found: dict[tuple[bytes, int], list[ScoredRun]] = defaultdict(list)
    times: Counter[tuple[bytes, int]] = Counter()
    for run in runs:
        kind = _without_seed(run)
        found[kind, times[kind, run.record.seed]].append(run)
        times[kind, run.record.seed] += 1
    several = Counter(members[0].record.system for members in found.values())
    systems = []
    for members in found.values():
        system = members[0].record.system
        label = system if several[system] == 1 else f"{system} ({', '.join(run.name for run in members)})"
        systems.append(SystemRuns(label, tuple(members)))
    return tuple(sorted(systems, key=lambda system: system.label))


def _without_seed(run: ScoredRun) -> bytes:
    record = run.record
    config = {name: value for name, value in sorted(record.config.items()) if name != "seed"}
    fitted: list[Any] = [
        record.corpus.train,
        record.corpus.dev,
        record.checkpoint,
        sorted(record.corpus.sha256.items()),
    ]
    return encode([record.system, config, record.preset, fitted])
