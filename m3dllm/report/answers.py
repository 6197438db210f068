"""The quality of the answers before scoring (readable, truncated, repaired), and their cost."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from m3dllm.normalize import CODES
from m3dllm.report import cells
from m3dllm.report.groups import ComparisonGroup
from m3dllm.report.layout import Column, Panel, Plot, Point, Row, Series, Table
from m3dllm.report.scores import by_rank, without_empty
from m3dllm.score.scores import Pairs
from m3dllm.scored import ScoredRun

UNREADABLE = frozenset(("error", "no_answer", "not_json"))
LOST = frozenset(("text_not_found", "bad_offsets", "occurrence_out_of_range", "covered"))
MENDED = frozenset(("folded", "unaligned", "fuzzy"))
SILENT = frozenset(("empty_document", "empty_answer"))
"""Codes of Issues that are no fault of an answer."""

Measure = Callable[[ScoredRun, str], float | None]


def answer_table(name: str, group: ComparisonGroup) -> Table | None:
    """How many answers could be read, were truncated or repaired, and what was lost before scoring."""
    columns: dict[str, tuple[str, str, Measure]] = {
        "answers": ("answers", "", lambda run, lang: float(sum(n for _, n in run.of(lang).codes))),
        "readable": ("readable", "% of the answers", _share_without(UNREADABLE)),
        "as_said": ("no repair needed", "% of the answers", _share_without(frozenset(CODES) - SILENT)),
        "truncated": ("truncated", "% of the answers", _share_with(frozenset(("truncated",)))),
        "repaired": ("JSON repaired", "% of the answers", _share_with(frozenset(("repaired",)))),
        "lost": ("lost", "% of the mentions", lambda run, lang: _mentions(run, lang, LOST)),
        "mended": ("repaired", "% of the mentions", lambda run, lang: _mentions(run, lang, MENDED)),
        "shown": ("given", "% of the gold frames", frames_shown),
    }
    systems = group.systems
    rows = []
    for system in systems:
        found = {key: system.mean(of, group.lang) for key, (_, _, of) in columns.items()}
        row = [cells.number(found[key]) if key == "answers" else cells.share(found[key]) for key in columns]
        rows.append(Row((cells.word(system.label), *row)))
    caption = (
        "The answers before scoring: one per document and pass. Lost mentions are not in the text or could not be "
        "located in it; repaired ones were located after a correction. Gold frames are the annotated ones."
    )
    heads = (Column(key, title, group) for key, (title, group, _) in columns.items())
    return without_empty(
        Table(name, "Answers", caption, (Column("system", "system", number=False), *heads), tuple(rows))
    )


def issue_table(name: str, group: ComparisonGroup) -> Table | None:
    """How often each Issue occurs, by code; None if no answer has one."""
    found = {run.name: issue_counts(run, group.lang) for run in group.runs}
    codes = sorted({code for counts in found.values() for code in counts})
    if not codes:
        return None

    def times(run: ScoredRun, code: str) -> float:
        return float(found[run.name].get(code, 0))

    rows = [
        Row(
            (
                cells.word(code),
                *(cells.number(s.mean(times, code), zero="·") for s in group.systems),
                cells.word(MEANING.get(code) or CODES.get(code, "")),
            )
        )
        for code in codes
    ]
    columns = (
        Column("code", "code", number=False),
        *(Column(system.label, system.label) for system in group.systems),
        Column("meaning", "meaning", number=False, quiet=True),
    )
    caption = "How often each issue occurs in the answers, over all passes; for several seeds, the mean."
    return Table(name, "Issues in the answers", caption, columns, tuple(rows))


MEANING = {
    "not answered": "documents without an answer; they are scored as empty",
    "regions in unannotated frames": "predicted in frames that are not annotated; not scored",
}


def issue_counts(run: ScoredRun, lang: str) -> dict[str, int]:
    """The Issues by code, and the counts of what is not scored."""
    of = run.scores.languages[lang]
    more = {"not answered": of.unanswered, "regions in unannotated frames": of.regions_unannotated}
    return {**run.of(lang).issues, **{name: n for name, n in more.items() if n}}


def frames_shown(run: ScoredRun, lang: str) -> float | None:
    """The share of the annotated frames that the system got in the pass without gold; None if there are none."""
    of = run.of(lang)
    return of.frames_shown / of.frames_annotated if of.frames_annotated else None


# --- cost -------------------------------------------------------------------------------------------------------------


def seconds_each(run: ScoredRun) -> float | None:
    """Wall time per answer, in seconds: that of the last pass, divided by the run's answers."""
    spent = run.record.seconds.get("predict")
    return spent / run.summary.answers if spent and run.summary.answers else None


def tokens_each(run: ScoredRun, lang: str) -> float | None:
    """Tokens read and written per answer; None if not counted."""
    return run.of(lang).tokens.mean


def cost_table(name: str, group: ComparisonGroup) -> Table | None:
    """Time, tokens and memory of every system."""

    def turns(kind: str) -> Measure:
        def of(run: ScoredRun, lang: str) -> float | None:
            turns = run.of(lang).turns
            return turns[kind].mean if kind in turns else None

        return of

    def a_minute(run: ScoredRun, lang: str) -> float | None:
        each = seconds_each(run)
        return 60 / each if each else None

    columns: dict[str, tuple[str, str, Measure, int]] = {
        "fit_s": ("fit", "seconds", lambda run, _: run.record.seconds.get("fit"), 1),
        "predict_s": ("predict", "seconds", lambda run, _: run.record.seconds.get("predict"), 1),
        "median_s": ("median answer", "seconds", lambda run, lang: run.of(lang).seconds, 2),
        "answers_a_minute": ("per minute", "answers", a_minute, 0),
        "tokens_in": ("input", "tokens per answer", turns("tokens_in"), 0),
        "tokens_vision": ("images", "tokens per answer", turns("tokens_vision"), 0),
        "tokens_reused": ("cached", "tokens per answer", turns("tokens_reused"), 0),
        "tokens_out": ("output", "tokens per answer", turns("tokens_out"), 0),
        "tokens_thinking": ("thinking", "tokens per answer", turns("tokens_thinking"), 0),
        "retries": ("retries", "", lambda run, _: _tallied(run, "retries"), 0),
        "memory_mb": ("process", "memory, MB", lambda run, _: max(run.record.memory_mb.values(), default=None), 0),
        "gpu_memory_mb": ("GPU", "memory, MB", lambda run, _: _tallied(run, "gpu_memory_mb"), 0),
    }
    rows = []
    for system in group.systems:
        found = [cells.number(system.mean(of, group.lang), places=places) for _, _, of, places in columns.values()]
        rows.append(Row((cells.word(system.label), *found)))
    if all(cell.value is None for row in rows for cell in row.cells[1:]):
        return None
    caption = (
        "Time of the last pass over the whole run, in all its languages; for a resumed run, only of the remaining "
        f"documents. {_devices(group.runs)}"
    )
    heads = (Column(key, title, group) for key, (title, group, _, _) in columns.items())
    names = Column("system", "system", number=False)
    return without_empty(Table(name, "Cost", caption, (names, *heads), tuple(rows)))


def pareto(name: str, group: ComparisonGroup, pairs: Pairs) -> Plot | None:
    """Average F1 against the cost of an answer; None if fewer than two systems have a cost and answered everything."""
    systems = [system for system in by_rank(group, pairs) if not system.has_failed(group.lang)]
    measures: dict[str, Measure] = {
        "seconds per answer": lambda run, lang: seconds_each(run),
        "tokens per answer": tokens_each,
    }
    panels = []
    for x_label, of in measures.items():
        series = []
        for system in systems:
            f1s = system.f1s(group.lang, pairs, "average")
            x = system.mean(of, group.lang)
            if f1s and x:
                y = 100 * sum(f1s) / len(f1s)
                several = len(f1s) > 1
                point = Point(x, y, 100 * min(f1s) if several else None, 100 * max(f1s) if several else None)
                series.append(Series(system.label, (point,), system.color))
        if len(series) > 1:
            panels.append(Panel("", x_label, tuple(series), tuple(_front([s.points[0] for s in series]))))
    if not panels:
        return None
    caption = (
        "Average F1 against the cost of an answer (log scale; cheaper to the left). The line connects the "
        f"Pareto-optimal systems. {_devices(group.runs)}"
    )
    return Plot(name, "Score against cost", caption, "average F1", tuple(panels), lines=False, log_x=True)


def _front(points: Sequence[Point]) -> list[Point]:
    """The Pareto front: points that no other beats in cost and score, the cheapest first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if not found or point.y > found[-1].y:
            found.append(point)
    return found


def _devices(runs: Sequence[ScoredRun]) -> str:
    found = sorted({run.record.device for run in runs if run.record.device})
    if len(found) > 1:
        return f"The runs were made on different machines ({'; '.join(found)}): their times are not comparable."
    return ""


# --- answers ----------------------------------------------------------------------------------------------------------


def _share_with(codes: frozenset[str]) -> Measure:
    def of(run: ScoredRun, lang: str) -> float | None:
        answers = run.of(lang).codes
        n_answers = sum(n for _, n in answers)
        return sum(n for found, n in answers if not codes.isdisjoint(found)) / n_answers if answers else None

    return of


def _share_without(codes: frozenset[str]) -> Measure:
    share = _share_with(codes)

    def of(run: ScoredRun, lang: str) -> float | None:
        found = share(run, lang)
        return None if found is None else 1 - found

    return of


def _mentions(run: ScoredRun, lang: str, codes: Collection[str]) -> float | None:
    """The Issues of `codes` as a share of the predicted mentions: kept or lost."""
    of = run.of(lang)
    predicted = of.mentions + sum(n for code, n in of.issues.items() if code in LOST)
    return sum(n for code, n in of.issues.items() if code in codes) / predicted if predicted else None


def _tallied(run: ScoredRun, name: str) -> float | None:
    value = run.record.tally.get(name)
    return float(value) if isinstance(value, int | float) else None
