"""The report for people, in Markdown: what is in it, one section a set of comparable runs, how the runs were made."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from math import fsum
from statistics import variance

from m3dllm.corpora.imported import Counts
from m3dllm.report.comparison import Comparison
from m3dllm.report.numbers import ABSENT, count, decimals, percent, points, probability
from m3dllm.report.sources import PAIRS, Field, LeftOut, ScoredRun, SystemRuns
from m3dllm.report.terminal import PAIRS_WORDS, right
from m3dllm.score import Ratio, TaskScores
from m3dllm.score.floors import Floor
from m3dllm.score.scores import Pairs
from m3dllm.types import TASKS, Subset
from m3dllm.wire import encode

LANGUAGES = {"en": "English", "zh": "Chinese"}
SUBSETS: dict[Subset, str] = {"full": "text and video", "no_text": "video only", "no_video": "text only"}
OVER: dict[Pairs, str] = {
    "end_to_end": "each system's own mentions and chains",
    "gold_pairs": "gold mentions and chains",
}
BELOW = "↓"
LEGEND = f"""\
Scores are percentages, rounded half up to two decimals; {ABSENT} is a score over nothing, which is not 0. Counts are
added over the documents of a language and divided once. A chain score is the mean of MUC, B3 and CEAF-e. The average
is of the F1 of the tasks that are present. {BELOW} marks an F1 below the best floor of its task; the frequencies behind
the floors of relations and boxes are those of the scored documents themselves. Systems stand in one table only where
they were scored on the same documents and gold, with the same labels, the same modalities shown and the same documents
counted. End to end, everything is the system's own; with gold pairs, chains are predicted over the
given gold mentions and relations over the given gold chains."""

Cells = Sequence[str]


def markdown(
    fields: Sequence[Field], left_out: Sequence[LeftOut], comparisons: Mapping[tuple[Field, Pairs], Comparison | None]
) -> str:
    """The whole report."""
    runs = sorted({run.name: run for field in fields for run in field.runs}.values(), key=lambda run: run.name)
    parts = ["# Report", LEGEND, *_overview(runs, left_out)]
    for field in fields:
        parts += _field(field, [other for other in fields if other is not field])
        for pairs in PAIRS:
            if systems := field.with_pairs(pairs):
                parts += _protocol(field, pairs, systems, comparisons[field, pairs])
        parts += _issues(field)
    parts.append("## How the runs were made")
    for run in runs:
        parts += _making(run)
    return "\n\n".join(parts) + "\n"


# --- what is in it ----------------------------------------------------------------------------------------------------


def _overview(runs: Sequence[ScoredRun], left_out: Sequence[LeftOut]) -> Iterator[str]:
    yield "## Runs"
    rows = []
    for run in runs:
        record = run.record
        documents = ", ".join(f"{of.documents} {lang}" for lang, of in run.scores.languages.items())
        corpus = f"{record.corpus.name}, {record.corpus.split}"
        rows.append((run.name, record.system, corpus, documents, record.pairs, _missing(run), str(record.seed)))
    yield _table(("run", "system", "corpus, split", "documents", "pairs", "missing", "seed"), rows, text=6)
    if left_out:
        yield "Left out:\n\n" + "\n".join(f"- {_cell(run.name)}: {_cell(run.why)}" for run in left_out)


def _field(field: Field, others: Iterable[Field]) -> Iterator[str]:
    protocol = field.protocol
    language = LANGUAGES.get(field.lang, field.lang)
    run = field.runs[0]
    missing = "" if run.record.missing is None else f", missing: {_cell(_missing(run))}"
    yield f"## {_cell(protocol.corpus)}, {_cell(protocol.split)}, {language}{missing}"
    n = Counts.of(run.documents(field.lang))
    yield (
        f"{n.documents} documents; in the gold {n.mentions} mentions, {n.chains} chains, {n.relations} relations and "
        f"{n.regions} regions. {_shown(run, field.lang)} Documents counted: {protocol.modality}."
    )
    apart = []
    for other in others:
        theirs = other.protocol
        if (theirs.corpus, theirs.split, theirs.lang) == (protocol.corpus, protocol.split, protocol.lang):
            names = ", ".join(run.name for run in other.runs)
            apart.append(f"- {_cell(names)}: {', '.join(protocol.differences(theirs))}")
    if apart:
        yield "Not comparable with these, which have a section of their own:\n\n" + "\n".join(apart)


def _missing(run: ScoredRun) -> str:
    """The kind of the run's modality manifest."""
    return "nothing" if run.record.missing is None else str(run.record.missing["kind"])


def _shown(run: ScoredRun, lang: str) -> str:
    """What the systems saw of the documents."""
    if not run.subsets:
        return "Every document was shown whole."
    n = Counter(run.subsets[example.document.id] for example in run.documents(lang))
    return "Shown: " + ", ".join(f"{words} of {n[subset]}" for subset, words in SUBSETS.items() if n[subset]) + "."


# --- scores -----------------------------------------------------------------------------------------------------------


def _protocol(
    field: Field, pairs: Pairs, systems: Sequence[SystemRuns], comparison: Comparison | None
) -> Iterator[str]:
    lang = field.lang
    floors = {run.name: field.floors[run.name, pairs] for system in systems for run in system.runs}
    yield f"### {PAIRS_WORDS[pairs].capitalize()}"
    without = [run.name for run in field.runs if run.part(lang, pairs) is None]
    if without:
        yield f"Without this protocol: {_cell(', '.join(without))}."
    yield "F1:"
    yield _f1_table(systems, lang, pairs, floors)
    yield "Precision, recall and counts:"
    yield _count_table(systems, lang, pairs)
    if any(floors.values()):
        yield f"Floors, F1 over {OVER[pairs]}:"
        yield _floor_table(systems, lang, pairs, floors)
    if comparison is not None:
        yield (
            f"F1 less that of the best, {_cell(comparison.reference.label)}, in points; the middle 95 % and p of a "
            f"paired bootstrap over groups ({comparison.resamples:,} resamples); p after Holm's correction over the "
            "systems:"
        )
        yield _comparison_table(comparison)
    if any(run.subsets for system in systems for run in system.runs):
        yield "F1 by what was shown:"
        yield _subset_table(systems, lang, pairs)


def _f1_table(systems: Sequence[SystemRuns], lang: str, pairs: Pairs, floors: Mapping[str, Sequence[Floor]]) -> str:
    rows: list[Cells] = []
    for system in systems:
        tasks = system.average_of(lang, pairs)
        of = "" if tasks == TASKS else f" ({', '.join(tasks) or 'nothing'})"
        if len(system.runs) == 1:
            rows.append((system.label, *_f1_cells(system.runs[0], lang, pairs, floors, of=of)))
            continue
        columns = [system.f1s(lang, pairs, key) for key in (*TASKS, "average")]
        means = [percent(fsum(f1s) / len(f1s)) if f1s else ABSENT for f1s in columns]
        spread = [_variance(f1s) for f1s in columns]
        rows.append((f"{system.label}, mean of {len(system.runs)} seeds", *means[:-1], means[-1] + of))
        rows.append((f"{system.label}, sample variance in points²", *spread))
        for run in system.runs:
            label = f"{run.name}, seed {run.record.seed}"
            rows.append((label, *_f1_cells(run, lang, pairs, floors, of=of)))
    return _table(("system", *TASKS, "average"), rows)


def _f1_cells(
    run: ScoredRun, lang: str, pairs: Pairs, floors: Mapping[str, Sequence[Floor]], *, of: str
) -> Iterator[str]:
    part = run.part(lang, pairs) or TaskScores({})
    for task in TASKS:
        f1 = part.tasks[task].f1 if task in part.tasks else None
        reached = [floor.score.f1 or 0.0 for floor in floors[run.name] if floor.task == task]
        yield percent(f1) + (f" {BELOW}" if f1 is not None and reached and f1 < max(reached) else "")
    yield percent(part.average_f1) + of


def _variance(f1s: Sequence[float]) -> str:
    return decimals(Decimal(repr(variance([100 * f1 for f1 in f1s])))) if len(f1s) > 1 else ABSENT


def _count_table(systems: Sequence[SystemRuns], lang: str, pairs: Pairs) -> str:
    rows: list[Cells] = []
    for run in (run for system in systems for run in system.runs):
        for key, score in (run.part(lang, pairs) or TaskScores({})).tasks.items():
            ratios = (percent(score.precision), percent(score.recall), percent(score.f1))
            counts = (
                ("", "", "") if isinstance(score, Ratio) else (right(score), count(score.p_den), count(score.r_den))
            )
            rows.append((run.name, key, *ratios, *counts))
    return _table(("run", "score", "P", "R", "F1", "right", "predicted", "gold"), rows, text=2)


def _floor_table(systems: Sequence[SystemRuns], lang: str, pairs: Pairs, floors: Mapping[str, Sequence[Floor]]) -> str:
    """One row a floor; one column a run where the floors work on its own chains, else one for all."""
    runs = [run for system in systems for run in system.runs]
    columns = runs if pairs == "end_to_end" else runs[:1]
    cells = {(run.name, f.task, f.name): percent(f.score.f1) for run in columns for f in floors[run.name]}
    names = dict.fromkeys((floor.task, floor.name) for run in columns for floor in floors[run.name])
    rows = [
        (task, name, *(cells.get((run.name, task, name), ABSENT) for run in columns))
        for task, name in sorted(names, key=lambda pair: TASKS.index(pair[0].split(".")[0]))
    ]
    heads = [run.name for run in columns] if pairs == "end_to_end" else ["F1"]
    return _table(("score", "floor", *heads), rows, text=2)


def _comparison_table(comparison: Comparison) -> str:
    rows = [
        (
            row.system.label,
            row.key,
            points(row.found.difference),
            f"{points(row.found.low)} to {points(row.found.high)}",
            probability(row.found.p),
            probability(row.adjusted),
        )
        for row in comparison.rows
    ]
    return _table(("system", "score", "difference", "95 %", "p", "p (Holm)"), rows, text=2)


def _subset_table(systems: Sequence[SystemRuns], lang: str, pairs: Pairs) -> str:
    rows: list[Cells] = []
    for run in (run for system in systems for run in system.runs):
        for subset, words in SUBSETS.items():
            documents = [row for row in run.scores.documents(lang, pairs=pairs) if row.subset == subset]
            if documents:
                part = run.scores.subset(lang, subset, pairs=pairs)
                f1s = [percent(part.tasks[task].f1) if task in part.tasks else ABSENT for task in TASKS]
                rows.append((run.name, words, str(len(documents)), *f1s))
    return _table(("run", "shown", "documents", *TASKS), rows, text=2)


# --- issues -----------------------------------------------------------------------------------------------------------


def _issues(field: Field) -> Iterator[str]:
    """What of the answers could not be used, or was used after a repair; what counts nowhere."""
    found = {run.name: _issue_counts(run, field.lang) for run in field.runs}
    codes = sorted({code for counts in found.values() for code in counts})
    yield "### Issues"
    if not codes:
        yield "None: every answer could be used as it was."
        return
    yield _table(("run", *codes), [(name, *(str(counts.get(c, 0)) for c in codes)) for name, counts in found.items()])


def _issue_counts(run: ScoredRun, lang: str) -> dict[str, int]:
    of = run.scores.languages[lang]
    more = {"not answered": of.unanswered, "regions in unannotated frames": of.regions_unannotated}
    return {**run.issues(lang), **{name: n for name, n in more.items() if n}}


# --- how the runs were made -------------------------------------------------------------------------------------------


def _making(run: ScoredRun) -> Iterator[str]:
    record = run.record
    yield f"### {_cell(run.name)}"
    corpus = record.corpus
    splits = [f"predicted {corpus.split}"]
    splits += [f"{word} {name}" for word, name in (("fitted on", corpus.train), ("chosen by", corpus.dev)) if name]
    facts = {
        "system": f"{record.system}: {record.summary}" if record.summary else record.system,
        "options": _code(encode(record.config).decode()) + (f", preset {record.preset}" if record.preset else ""),
        "seed": str(record.seed),
        "corpus": f"{_cell(corpus.name)}: {', '.join(splits)}",
        "sha256": ", ".join(f"{_cell(name)} {_code(digest)}" for name, digest in sorted(corpus.sha256.items())),
        "checkpoint": _code(record.checkpoint) if record.checkpoint else "",
        "used": _code(encode(record.provenance).decode()) if record.provenance else "",
        "command": _code(shlex.join(record.command)) if record.command else "",
        "commit": _code(record.git) if record.git else "of an installed package",
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(record.versions.items())),
        "device": _cell(record.device),
        "seconds": ", ".join(f"{step} {decimals(Decimal(repr(s)))}" for step, s in record.seconds.items()),
        "finished": record.finished or "",
    }
    yield "\n".join(f"- {name}: {value}" for name, value in facts.items() if value)


# --- Markdown ---------------------------------------------------------------------------------------------------------


def _table(head: Cells, rows: Iterable[Cells], *, text: int = 1) -> str:
    """A table whose first `text` columns are words, to the left, and whose others are numbers, to the right."""
    rule = ["---"] * text + ["---:"] * (len(head) - text)
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in (head, rule, *rows))


def _cell(text: str) -> str:
    """`text` so that it neither ends a cell nor begins a tag."""
    for sign, written in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("`", "\\`"), ("\n", " ")):
        text = text.replace(sign, written)
    return text


def _code(text: str) -> str:
    """`text` as code, fenced by more backticks than it has in a row."""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{' '.join(text.splitlines())}{pad}{fence}"
