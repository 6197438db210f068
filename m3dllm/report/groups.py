"""Which runs are comparable in one table, and under which names.

Runs are comparable if they were scored on the same documents and gold, with the same labels, the same modalities given
and the same documents counted. Each such set in one language is a `ComparisonGroup`; a system in it has one or several
runs that differ only in their seed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import fsum
from operator import itemgetter
from pathlib import PurePath
from typing import Any

from m3dllm.files import sha256
from m3dllm.score import TaskScores
from m3dllm.score.heuristics import HeuristicBaseline
from m3dllm.score.per_document import DocumentCounts
from m3dllm.score.scores import PAIRS, Pairs, answered
from m3dllm.scored import ScoredRun
from m3dllm.types import TASKS
from m3dllm.wire import encode, encode_labels

DIFFERENCES = {
    "documents": "other documents or gold",
    "labels": "another label set",
    "shown": "other modalities shown",
    "modality": "another rule for which documents count",
}
ASKED: dict[Pairs, tuple[str, ...]] = {"end_to_end": ("end-to-end", "both"), "gold_pairs": ("gold", "both")}
EMPTY: tuple[Any, ...] = (None, "", [], ())
LONGEST_LABEL = 56


@dataclass(frozen=True, slots=True, order=True)
class Protocol:
    """What runs of one table must share. `documents`, `labels` and `shown` are hashes."""

    corpus: str
    split: str
    lang: str
    documents: str
    labels: str
    shown: str
    modality: str

    def differences(self, other: Protocol) -> list[str]:
        """Why the two are not comparable, in words."""
        return [words for name, words in DIFFERENCES.items() if getattr(self, name) != getattr(other, name)]


@dataclass(frozen=True, eq=False)
class SystemRuns:
    """A system with one configuration: its runs, which differ only in their seed.

    `color` is its index among all systems of the report, so that it looks the same everywhere.
    """

    label: str
    runs: tuple[ScoredRun, ...]
    color: int = 0

    def has_failed(self, lang: str) -> bool:
        """Whether it failed on documents: it is then neither ranked nor compared."""
        return any(run.scores.languages[lang].failed for run in self.runs)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(note for run in self.runs for note in run.record.notes))

    def parts(self, lang: str, pairs: Pairs) -> list[TaskScores]:
        return [part for run in self.runs if (part := run.part(lang, pairs)) is not None]

    def f1s(self, lang: str, pairs: Pairs, key: str) -> list[float]:
        """The F1 of each run in one score, or "average"; a run without it is skipped."""
        parts = self.parts(lang, pairs)
        found = [
            p.average_f1 if key == "average" else p.tasks[key].f1 for p in parts if key == "average" or key in p.tasks
        ]
        return [f1 for f1 in found if f1 is not None]

    def average_of(self, lang: str, pairs: Pairs) -> tuple[str, ...]:
        """The tasks of the average: those that every run has."""
        parts = self.parts(lang, pairs)
        return tuple(task for task in TASKS if parts and all(task in part.average_of for part in parts))

    def documents(self, lang: str, pairs: Pairs) -> list[DocumentCounts]:
        return [run.counts(lang, pairs) for run in self.runs]

    def mean(self, of: Callable[..., float | None], *which: Any) -> float | None:
        """The mean of `of(run, *which)` over the runs that have it; None where none has."""
        found = [value for run in self.runs if (value := of(run, *which)) is not None]
        return fsum(found) / len(found) if found else None


@dataclass(frozen=True, eq=False)
class ComparisonGroup:
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
    def heuristics(self) -> dict[tuple[str, Pairs], tuple[HeuristicBaseline, ...]]:
        """The heuristic baselines of each run, by its name; those over gold mentions and chains are one for all."""
        own = {(run.name, PAIRS[0]): run.heuristics(self.lang, PAIRS[0]) for run in self.runs}
        if not any(run.part(self.lang, PAIRS[1]) for run in self.runs):
            return own
        shared = self.runs[0].heuristics(self.lang, PAIRS[1])
        return own | {(run.name, PAIRS[1]): shared for run in self.runs}

    def with_pairs(self, pairs: Pairs) -> list[SystemRuns]:
        """The systems all of whose runs have scores in this setting.

        If a system was run once for each setting, only its runs in this one.
        """
        able = [s for s in self.systems if len(s.parts(self.lang, pairs)) == len(s.runs)]
        asked = {_kind(s.runs[0]) for s in able if s.runs[0].record.pairs in ASKED[pairs]}
        return [s for s in able if s.runs[0].record.pairs in ASKED[pairs] or _kind(s.runs[0]) not in asked]


def groups(runs: Sequence[ScoredRun]) -> list[ComparisonGroup]:
    """The groups of comparable runs, by corpus, split and language."""
    found: dict[Protocol, list[ScoredRun]] = defaultdict(list)
    for run in runs:
        for lang in sorted(run.summary.languages):
            found[_protocol(run, lang)].append(run)
    labels = _labels(runs)

    def order(protocol: Protocol) -> tuple[str, str, str, bool, Protocol]:
        hidden = any(subset != "full" for subset in found[protocol][0].subsets.values())
        return protocol.corpus, protocol.split, protocol.lang, hidden, protocol

    grouped = [(protocol, _systems(found[protocol], labels)) for protocol in sorted(found, key=order)]
    names = sorted({label for _, systems in grouped for label, _ in systems})
    return [
        ComparisonGroup(
            protocol,
            tuple(
                SystemRuns(label + _answered(members, protocol.lang), members, names.index(label))
                for label, members in sorted(systems, key=itemgetter(0))
            ),
        )
        for protocol, systems in grouped
    ]


def apart(groups: Sequence[ComparisonGroup]) -> Iterator[str]:
    """A line for each corpus, split and language in which the runs have different documents."""
    found: dict[tuple[str, str, str], dict[str, ComparisonGroup]] = defaultdict(dict)
    for group in groups:
        of = group.protocol
        found[of.corpus, of.split, of.lang].setdefault(of.documents, group)
    for (corpus, split, lang), parts in found.items():
        if len(parts) > 1:
            several = "; ".join(
                f"{group.runs[0].of(lang).counts.documents}: {', '.join(run.name for run in group.runs)}"
                for group in parts.values()
            )
            what = f"the runs cover different documents of {corpus}, {split}, {lang} ({several})"
            yield f"{what}: they are in separate tables; --common compares on the documents that all share"


def _answered(runs: Sequence[ScoredRun], lang: str) -> str:
    """How many documents a system answered, if it failed on some; of several runs the fewest."""
    found = [run.scores.languages[lang] for run in runs]
    worst = max(found, key=lambda of: of.failed)
    return f" ({answered(worst)} answered)" if worst.failed else ""


def _protocol(run: ScoredRun, lang: str) -> Protocol:
    of = run.of(lang)
    hidden = ((document, run.subsets.get(document, "full")) for document in run.documents(lang) if run.subsets)
    shown = sorted((document, subset) for document, subset in hidden if subset != "full")
    return Protocol(
        corpus=run.record.corpus.name,
        split=run.record.corpus.split,
        lang=lang,
        documents=of.sha256,
        labels=sha256(encode_labels(run.record.labels).encode()),
        shown=sha256(encode(shown)),
        modality=run.scores.settings.modality,
    )


def _systems(runs: Sequence[ScoredRun], labels: Mapping[str, str]) -> list[tuple[str, tuple[ScoredRun, ...]]]:
    """The runs grouped by all but the seed. Runs with the same seed are not repetitions: they are kept apart."""
    found: dict[tuple[bytes, str, int], list[ScoredRun]] = defaultdict(list)
    times: Counter[tuple[bytes, str, int]] = Counter()
    for run in runs:
        kind = _kind(run), run.record.pairs
        found[*kind, times[*kind, run.record.seed]].append(run)
        times[*kind, run.record.seed] += 1
    named: dict[str, list[tuple[ScoredRun, ...]]] = defaultdict(list)
    for members in found.values():
        named[labels[members[0].name]].append(tuple(members))
    return [
        (label if _one_row(group) else f"{label} ({_some(members)})", members)
        for label, group in named.items()
        for members in group
    ]


def _one_row(group: Sequence[tuple[ScoredRun, ...]]) -> bool:
    """Whether systems with one label never meet in a table: there is one, or one for each setting."""
    return len(group) == 1 or sorted(members[0].record.pairs for members in group) == ["end-to-end", "gold"]


def _some(runs: Sequence[ScoredRun]) -> str:
    return runs[0].name if len(runs) == 1 else f"{runs[0].name} and {len(runs) - 1} more"


def _kind(run: ScoredRun) -> bytes:
    """The identity of a run apart from its seed, setting and documents."""
    record = run.record
    fitted: list[Any] = [
        record.corpus.train,
        record.corpus.dev,
        record.checkpoint,
        sorted(record.corpus.sha256.items()),
    ]
    return encode([record.system, options_of(run), record.preset, fitted, run.scores.settings.threshold])


def options_of(run: ScoredRun) -> dict[str, Any]:
    """The options of a run's system that distinguish it from others."""
    record = run.record
    return {
        name: value for name, value in sorted(record.config.items()) if name != "seed" and name not in record.incidental
    }


def _labels(runs: Sequence[ScoredRun]) -> dict[str, str]:
    """A label for each run by its name: the system, and the options in which it differs from others of that system.

    Empty options are not named: since the others' are, labels stay distinct.
    """
    labels = {}
    for run in runs:
        system = run.record.system
        others = [other for other in runs if other.record.system == system]
        own = options_of(run)
        differing = [name for name in own if len({encode(options_of(other).get(name)) for other in others}) > 1]
        words = ", ".join(f"{name}={_brief(own[name])}" for name in differing if own[name] not in EMPTY)
        if len(words) > LONGEST_LABEL and len({other.record.preset for other in others}) > 1:
            words = f"preset={run.record.preset or 'none'}"
        if len(words) > LONGEST_LABEL:
            words = run.name
        if (least := run.scores.settings.threshold) is not None:
            words = f"{words}, confidence ≥ {least:g}" if words else f"confidence ≥ {least:g}"
        labels[run.name] = f"{system} · {words}" if words else system
    return labels


def _brief(value: Any) -> str:
    if isinstance(value, str):
        return PurePath(value).name or value
    if isinstance(value, list | tuple):
        return "+".join(map(_brief, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, int | float) else "…"
