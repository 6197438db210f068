"""Scores over a sweep: runs that differ in one option, or in the share of a missing modality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from m3dllm.report import cells
from m3dllm.report.groups import ComparisonGroup, SystemRuns, options_of
from m3dllm.report.layout import Column, Panel, Plot, Point, Row, Series, Table
from m3dllm.score.scores import Pairs
from m3dllm.scored import ScoredRun
from m3dllm.types import TASKS
from m3dllm.wire import encode

OPTIONS = {
    "prompt_length": "length of the prompt for a missing modality",
    "shots": "few-shot examples in the prompt",
    "frames": "maximum number of frames shown",
}
MISSING = "missing"
MISSING_WORDS = "share of documents without one modality"


@dataclass(frozen=True, slots=True)
class Sweep:
    """The runs of one language and protocol that differ in one value: system -> value -> runs."""

    name: str
    words: str
    corpus: str
    split: str
    lang: str
    pairs: Pairs
    systems: tuple[tuple[SystemRuns, Mapping[float, tuple[ScoredRun, ...]]], ...]


def sweeps(groups: Sequence[ComparisonGroup], pairs: Pairs) -> Iterator[Sweep]:
    """Every sweep of which some system has at least two values."""
    for name, words in (*OPTIONS.items(), (MISSING, MISSING_WORDS)):
        found: dict[tuple[str, ...], dict[bytes, dict[float, dict[str, tuple[SystemRuns, ScoredRun]]]]] = {}
        for group in groups:
            for system in group.with_pairs(pairs):
                for run in () if system.has_failed(group.lang) else system.runs:
                    value = _value(run, name)
                    if value is not None:
                        of = found.setdefault(_place(group, name), {}).setdefault(_rest(run, name), {})
                        of.setdefault(value, {})[run.name] = (system, run)
        for place, kinds in sorted(found.items()):
            turned = [of for of in kinds.values() if len(of) > 1]
            if turned:
                corpus, split, lang, *_ = place
                yield Sweep(name, words, corpus, split, lang, pairs, tuple(map(_of_system, turned)))


def curve_plot(name: str, sweep: Sweep) -> Plot:
    """F1 over the sweep: one panel per task and for the average, one line per system, bars over seeds."""
    panels = []
    for key in (*TASKS, "average"):
        series = tuple(
            Series(system.label, points, system.color)
            for system, values in sweep.systems
            if (points := tuple(_points(values, sweep, key)))
        )
        if series:
            panels.append(Panel(key, sweep.words, series))
    return Plot(name, sweep.words.capitalize(), _caption(sweep), "F1", tuple(panels))


def curve_table(name: str, sweep: Sweep) -> Table:
    """The numbers of the curves."""
    rows: list[Row] = []
    for system, values in sweep.systems:
        for i, (value, runs) in enumerate(sorted(values.items())):
            one = SystemRuns(system.label, runs)
            f1s = (cells.score(one.f1s(sweep.lang, sweep.pairs, key)) for key in (*TASKS, "average"))
            n = cells.number(float(len(runs)))
            rows.append(
                Row((cells.word(system.label), cells.number(value, places=2), n, *f1s), starts=bool(rows) and not i)
            )
    columns = (
        Column("system", "system", number=False),
        Column(sweep.name, sweep.words),
        Column("runs", "runs", quiet=True),
        *(Column(f"{key}.f1", key) for key in (*TASKS, "average")),
    )
    return Table(name, sweep.words.capitalize(), _caption(sweep), columns, tuple(rows))


def _caption(sweep: Sweep) -> str:
    over = "gold mentions and chains" if sweep.pairs == "gold_pairs" else "end to end"
    what = f"F1 in percent, {over}, over runs that otherwise differ only in their seed."
    if sweep.name == MISSING:
        what += " About as many documents lack text as lack video; a task is not scored where its modality is missing."
    return what


def _points(values: Mapping[float, Sequence[ScoredRun]], sweep: Sweep, key: str) -> Iterator[Point]:
    for value, runs in sorted(values.items()):
        f1s = [100 * f1 for f1 in SystemRuns("", tuple(runs)).f1s(sweep.lang, sweep.pairs, key)]
        if f1s:
            several = len(f1s) > 1
            mean = sum(f1s) / len(f1s)
            yield Point(value, mean, min(f1s) if several else None, max(f1s) if several else None)


def _of_system(
    values: Mapping[float, Mapping[str, tuple[SystemRuns, ScoredRun]]],
) -> tuple[SystemRuns, dict[float, tuple[ScoredRun, ...]]]:
    """The runs by value, with the system of the first of them."""
    first = min(values)
    system = next(iter(values[first].values()))[0]
    return system, {value: tuple(run for _, run in of.values()) for value, of in values.items()}


def _value(run: ScoredRun, name: str) -> float | None:
    """The run's value in the sweep; None if it is not part of it."""
    if name == MISSING:
        return missing_ratio(run)
    value = run.record.config.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def missing_ratio(run: ScoredRun) -> float | None:
    """The share of documents without one modality; None if text and video are not missing about equally often.

    A share given by option holds over all documents: in one language, text and video may be missing unequally often.
    """
    if not run.subsets:
        return 0.0
    counts = Counter(
        run.subsets.get(document, "full") for lang in run.summary.languages for document in run.documents(lang)
    )
    text, video, every = counts["no_text"], counts["no_video"], sum(counts.values())
    is_even = is_share(run) or abs(text - video) <= max(1, 0.05 * every)
    return (text + video) / every if is_even else None


def is_share(run: ScoredRun) -> bool:
    """Whether a share of documents without a modality was given by option."""
    return run.record.missing is not None and run.record.missing["kind"] == "share"


def _place(group: ComparisonGroup, name: str) -> tuple[str, ...]:
    """The part of the protocol that the runs of a sweep share: all, except the missing modality if that is swept."""
    of = group.protocol
    shown = "" if name == MISSING else of.shown
    return of.corpus, of.split, of.lang, of.documents, of.labels, of.modality, shown


def _rest(run: ScoredRun, name: str) -> bytes:
    """The identity of a run apart from its seed and the swept value."""
    options = {key: value for key, value in options_of(run).items() if key != name}
    missing = None if name == MISSING else run.record.missing
    return encode([run.record.system, options, run.record.corpus.train, run.record.corpus.dev, missing])
