"""The whole report: an overview, a section for each group of comparable runs, and how the runs were made."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from m3dllm.columns import counted
from m3dllm.files import file_name
from m3dllm.report import breakdowns, cells, confidences, scores
from m3dllm.report.answers import answer_table, cost_table, issue_table, pareto
from m3dllm.report.comparison import Comparison
from m3dllm.report.curves import Sweep, curve_plot, curve_table, is_share, missing_ratio, sweeps
from m3dllm.report.findings import finding
from m3dllm.report.gates import gate_plot
from m3dllm.report.groups import ComparisonGroup
from m3dllm.report.layout import Block, Bullets, Cell, Column, Facts, Report, Row, Section, Table, Text
from m3dllm.report.numbers import decimals
from m3dllm.report.provenance import UNKNOWN_COMMIT, again, origin
from m3dllm.report.published import Published
from m3dllm.report.quoted import paper_table
from m3dllm.score.metric import headline
from m3dllm.score.scores import PAIRS, Pairs
from m3dllm.scored import LeftOut, ScoredRun
from m3dllm.types import TASKS
from m3dllm.wire import encode

COUNTED = {
    "available": "A task is scored on the documents whose modality was given.",
    "all": "Every task is scored on every document.",
}
NO_BREAK = "\N{NO-BREAK SPACE}"
LANGUAGES = {"en": "English", "zh": "Chinese"}
PAIRS_WORDS: dict[Pairs, str] = {"end_to_end": "end to end", "gold_pairs": "gold mentions and chains"}
PAIRS_MEAN: dict[Pairs, str] = {
    "end_to_end": "Everything is predicted: chains over predicted mentions, relations over predicted chains.",
    "gold_pairs": "Chains are predicted over the given gold mentions, relations over the given gold chains.",
}
CHAIN_METRICS = {
    "chain.muc": "MUC",
    "chain.b3": "B³",
    "chain.ceaf_e": "CEAF-e",
    "chain.ceaf_m": "CEAF-m",
    "chain.mean_m": "mean with CEAF-m",
}
Comparisons = Mapping[tuple[ComparisonGroup, Pairs], tuple[Comparison, ...]]
Spreads = Mapping[tuple[ComparisonGroup, Pairs], scores.Intervals]


def assemble(
    groups: Sequence[ComparisonGroup],
    skipped: Sequence[LeftOut],
    comparisons: Comparisons,
    spreads: Spreads,
    *,
    published: Published | None = None,
    baseline: str | None = None,
    title: str | None = None,
    common: bool = False,
) -> Report:
    """Every table and figure of the report, in reading order."""
    runs = sorted({run.name: run for group in groups for run in group.runs}.values(), key=lambda run: run.name)
    anchors = _anchors(groups)
    what = _title(groups)
    findings = [
        (_counted(group, pairs, under=what), finding(group, pairs, comparisons[group, pairs]))
        for group in groups
        for pairs in PAIRS
        if group.with_pairs(pairs)
    ]
    sections = [_group(group, anchors, comparisons, spreads, published) for group in groups]
    sections += _curves(groups)
    made = tuple(_making(run) for run in runs)
    sections.append(Section("How the runs were made", "runs", (_run_table(runs),), made))
    if skipped:
        note = Text("These runs are unfinished, damaged or in another format, and are not included in the tables.")
        out = Bullets(tuple((run.name, run.why) for run in skipped))
        sections.append(Section("Skipped runs", "skipped", (note, out)))
    sections.append(Section("How to read this", "reading", (Text(READING),)))
    return Report(
        title=title or what,
        lead=_lead(groups, runs, skipped),
        findings=tuple(findings),
        sections=tuple(sections),
        again=again(runs, published, baseline, title, common=common),
        origin=origin(runs),
        glance=_glance(groups, spreads, under=what),
    )


READING = (
    "Scores are percentages, rounded to two decimals; a dash means that there was nothing to score (not 0). Scores "
    "are micro-averaged over the documents of a language. Entity: same span and type. Chain: the mean of MUC, B³ and "
    "CEAF-e, with singletons. Relation: same type, head chains share a mention, tail chains share a mention; "
    "one-to-one. Grounding: same type and IoU above 0.5, on annotated frames; one-to-one. The average is over the F1 "
    "of the tasks with a score. Systems share a table only if they were scored on the same documents and gold, with "
    "the same label set, the same given modalities and the same rule for which documents count. The best system is "
    "determined on the same documents as the comparison, which slightly overestimates its lead; a system given by "
    "--baseline is not affected."
)


# --- what to read first -----------------------------------------------------------------------------------------------


def _lead(groups: Sequence[ComparisonGroup], runs: Sequence[ScoredRun], skipped: Sequence[LeftOut]) -> str:
    systems = {run.record.system for run in runs}
    tables = sum(bool(group.with_pairs(pairs)) for group in groups for pairs in PAIRS)
    text = f"{counted(len(runs), 'run')} of {counted(len(systems), 'system')} in {counted(tables, 'table')}"
    text += " of comparable scores"
    if differ := sorted({words for group in groups for words, _ in _apart(group, groups)}):
        text += f"; in separate tables where they have {', '.join(differ)}"
    return text + (f"; {counted(len(skipped), 'run')} skipped." if skipped else ".")


def _title(groups: Sequence[ComparisonGroup]) -> str:
    corpora = sorted({(group.protocol.corpus, group.protocol.split) for group in groups})
    return "; ".join(f"{corpus}, {split}" for corpus, split in corpora)


def _glance(groups: Sequence[ComparisonGroup], spreads: Spreads, *, under: str) -> Section:
    """A chart of each group of comparable runs, and one table of all, under the most common protocol."""
    pairs = max(PAIRS, key=lambda pairs: sum(bool(group.with_pairs(pairs)) for group in groups))
    there = {_where(group).removeprefix(f"{under}, "): group for group in groups if group.with_pairs(pairs)}
    charts = [
        scores.chart(
            f"glance-{i}", f"{where}, {_n_documents(group)}, {PAIRS_WORDS[pairs]}", group, pairs, spreads[group, pairs]
        )
        for i, (where, group) in enumerate(there.items(), start=1)
    ]
    return Section("At a glance", "glance", (*filter(None, charts), scores.glance_table("glance", there, pairs)))


# --- a set of comparable runs -----------------------------------------------------------------------------------------


def _group(
    group: ComparisonGroup,
    anchors: Mapping[ComparisonGroup, str],
    comparisons: Comparisons,
    spreads: Spreads,
    published: Published | None,
) -> Section:
    name = anchors[group]
    run, of = group.runs[0], group.runs[0].of(group.lang)
    n, lacking = of.counts, [f"{task} in {of.lacking[task]}" for task in TASKS if task in of.lacking]
    unannotated = f"Not annotated, so not scored: {', '.join(lacking)} of these documents. " if lacking else ""
    blocks: list[Block] = [
        Text(
            f"{counted(n.documents, 'document')}; in the gold {counted(n.mentions, 'mention')}, "
            f"{counted(n.chains, 'chain')}, {counted(n.relations, 'relation')} and {counted(n.regions, 'region')}. "
            f"{unannotated}{shown(run, group.lang)} "
            f"{COUNTED[group.protocol.modality]}"
        )
    ]
    if apart := _apart(group, anchors):
        blocks.append(Text("Not comparable with these runs, which have their own section:", "aside"))
        blocks.append(Bullets(tuple((names, words) for words, names in apart)))
    parts = [
        _protocol(
            f"{name}-{'gold' if pairs == 'gold_pairs' else 'e2e'}",
            group,
            pairs,
            comparisons[group, pairs],
            spreads[group, pairs],
            published,
        )
        for pairs in PAIRS
        if group.with_pairs(pairs)
    ]
    about = (
        answer_table(f"{name}-answers", group),
        issue_table(f"{name}-issues", group),
        cost_table(f"{name}-cost", group),
        gate_plot(f"{name}-gates", group),
    )
    parts.append(Section("Answers and cost", f"{name}-about", tuple(block for block in about if block), folded=True))
    return Section(_where(group), name, tuple(blocks), tuple(parts))


def _protocol(
    name: str,
    group: ComparisonGroup,
    pairs: Pairs,
    comparisons: Sequence[Comparison],
    spread: scores.Intervals,
    published: Published | None,
) -> Section:
    systems = scores.by_rank(group, pairs)
    blocks: list[Block | None] = [Text(PAIRS_MEAN[pairs])]
    named = {run.name for system in systems for run in system.runs}
    if without := [run.name for run in group.runs if run.name not in named and run.part(group.lang, pairs) is None]:
        blocks.append(Text(f"Not run in this setting: {', '.join(without)}.", "aside"))
    blocks.append(scores.main_table(f"{name}-scores", group, pairs))
    if pairs == "gold_pairs":
        blocks.append(paper_table(f"{name}-paper", _where(group), group, published))
    blocks.append(scores.chart(f"{name}-f1", "F1", group, pairs, spread))
    blocks += [scores.forest(_versus(f"{name}-differences", of), of, systems) for of in comparisons]
    blocks.append(pareto(f"{name}-cost", group, pairs))
    more: list[Block | None] = [
        *(scores.difference_table(_versus(f"{name}-differences", of), of) for of in comparisons),
        scores.seed_table(f"{name}-runs", group, pairs),
        scores.heuristic_table(f"{name}-heuristics", group, pairs),
    ]
    extra = sorted(
        {key for s in systems for part in s.parts(group.lang, pairs) for key in part.tasks}
        - {*headline(), *CHAIN_METRICS}
    )
    why: list[Block | None] = [
        breakdowns.type_table(f"{name}-types", group, pairs),
        breakdowns.shown_table(f"{name}-shown", group, pairs),
        *(breakdowns.measure_table(f"{name}-{measure}", measure, group, pairs) for measure in breakdowns.MEASURES),
        scores.part_table(
            f"{name}-chain",
            "Chain metrics",
            "The chain score is the mean of the first three.",
            group,
            pairs,
            CHAIN_METRICS,
        ),
        scores.part_table(
            f"{name}-variants", "Other rules", "Scores by other rules, on request.", group, pairs, {k: k for k in extra}
        ),
        breakdowns.error_table(f"{name}-errors", group, pairs, published),
    ]
    sure: list[Block | None] = [
        confidences.calibration_table(f"{name}-calibration", group, pairs),
        confidences.reliability_plot(f"{name}-reliability", group, pairs),
        confidences.curve_plot(f"{name}-precision-recall", group, pairs),
    ]
    parts = (
        Section("Differences, heuristic baselines, single runs", f"{name}-more", _there(more), folded=True),
        Section("Breakdowns", f"{name}-breakdowns", _there(why), folded=True),
        Section("Confidence", f"{name}-confidence", _there(sure), folded=True),
    )
    return Section(PAIRS_WORDS[pairs].capitalize(), name, _there(blocks), tuple(part for part in parts if part.blocks))


def shown(run: ScoredRun, lang: str) -> str:
    """The modalities that the systems were given, in words."""
    if not run.subsets:
        return "Systems were given every document in full."
    n = Counter(run.subsets[document] for document in run.documents(lang))
    return (
        "Systems were given "
        + ", ".join(f"{words} of {n[subset]}" for subset, words in breakdowns.SUBSETS.items() if n[subset])
        + "."
    )


def _apart(
    group: ComparisonGroup, others: Sequence[ComparisonGroup] | Mapping[ComparisonGroup, str]
) -> list[tuple[str, str]]:
    """(why, runs) of the other groups of the same corpus, split and language."""
    found = []
    for other in others:
        mine, theirs = group.protocol, other.protocol
        same = (mine.corpus, mine.split, mine.lang) == (theirs.corpus, theirs.split, theirs.lang)
        if other is not group and same:
            found.append((", ".join(mine.differences(theirs)), ", ".join(run.name for run in other.runs)))
    return found


def _curves(groups: Sequence[ComparisonGroup]) -> Iterator[Section]:
    found: list[tuple[Sweep, str]] = []
    for pairs in PAIRS:
        for sweep in sweeps(groups, pairs):
            place = "-".join((file_name(sweep.corpus), file_name(sweep.split), sweep.lang))
            found.append(
                (sweep, f"{place}-{'gold' if pairs == 'gold_pairs' else 'e2e'}-by-{sweep.name.replace('_', '-')}")
            )
    names = Counter(name for _, name in found)
    parts = []
    for i, (sweep, name) in enumerate(found):
        name = name if names[name] == 1 else f"{name}-{i + 1}"
        where = f"{sweep.corpus}, {sweep.split}, {LANGUAGES.get(sweep.lang, sweep.lang)}, {PAIRS_WORDS[sweep.pairs]}"
        parts.append(Section(where, name, (curve_plot(name, sweep), curve_table(name, sweep))))
    if parts:
        yield Section("Curves", "curves", sections=tuple(parts))


# --- how the runs were made -------------------------------------------------------------------------------------------


def _run_table(runs: Sequence[ScoredRun]) -> Table:
    """A table of the runs, one per row."""
    heads = ("run", "system", "corpus", "split", "documents", "pairs", "missing", "seed")
    rows = []
    for run in runs:
        record = run.record
        documents = ", ".join(f"{of.documents} {lang}" for lang, of in run.scores.languages.items())
        missing = _missing(run) or "nothing"
        words = (run.name, record.system, record.corpus.name, record.corpus.split, documents, record.pairs, missing)
        rows.append(Row((*map(cells.word, words), Cell(str(record.seed), record.seed))))
    columns = tuple(Column(head, head, number=head == "seed") for head in heads)
    return Table("runs", "Runs", "The runs in this report; details below.", columns, tuple(rows))


def _making(run: ScoredRun) -> Section:
    record, corpus = run.record, run.record.corpus
    splits = [f"predicted {corpus.split}"]
    splits += [f"{word} {name}" for word, name in (("fitted on", corpus.train), ("chosen by", corpus.dev)) if name]
    facts = {
        "command": shlex.join(record.command) if record.command else "",
        "system": f"{record.system}: {record.summary}" if record.summary else record.system,
        "options": encode(record.config).decode() + (f", preset {record.preset}" if record.preset else ""),
        "seed": str(record.seed),
        "notes": "; ".join(record.notes),
        "corpus": f"{corpus.name}: {', '.join(splits)}",
        "given": f"missing: {_missing(run)}" if record.missing else "everything",
        "sha256": ", ".join(f"{name} {digest}" for name, digest in sorted(corpus.sha256.items())),
        "checkpoint": record.checkpoint or "",
        "used": encode(record.provenance).decode() if record.provenance else "",
        "commit": record.git or UNKNOWN_COMMIT,
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(record.versions.items())),
        "device": record.device,
        "seconds": ", ".join(f"{step} {decimals(Decimal(repr(s)))}" for step, s in record.seconds.items()),
        "finished": record.finished or "",
    }
    rows = tuple((name, value) for name, value in facts.items() if value)
    block = Facts(rows, frozenset(("command", "options", "sha256", "checkpoint", "used", "commit")))
    return Section(run.name, f"run-{file_name(run.name)}", (block,), folded=True)


# --- names ------------------------------------------------------------------------------------------------------------


def _where(group: ComparisonGroup, pairs: Pairs | None = None) -> str:
    """The group in words."""
    run, of = group.runs[0], group.protocol
    hidden = f", missing {_missing(run)}" if run.record.missing else ""
    what = f"{of.corpus}, {of.split}, {LANGUAGES.get(of.lang, of.lang)}{hidden}"
    return what if pairs is None else f"{what}, {PAIRS_WORDS[pairs]}"


def _missing(run: ScoredRun) -> str:
    """The documents without a modality, in words; "" if there are none."""
    if is_share(run):
        return f"in {100 * (missing_ratio(run) or 0):.0f}{NO_BREAK}%"
    return str(run.record.missing["kind"]) if run.record.missing else ""


def _counted(group: ComparisonGroup, pairs: Pairs, *, under: str) -> str:
    """The group and its number of documents in words, for a caption."""
    return f"{_where(group, pairs).removeprefix(f'{under}, ')}: {_n_documents(group)}"


def _n_documents(group: ComparisonGroup) -> str:
    return counted(group.runs[0].of(group.lang).counts.documents, "document").replace(" ", NO_BREAK)


def _anchors(groups: Sequence[ComparisonGroup]) -> dict[ComparisonGroup, str]:
    """A name for each group, for links and files."""
    names = []
    for group in groups:
        of, missing = group.protocol, group.runs[0].record.missing
        hidden = [] if missing is None else [str(missing["kind"])]
        names.append("-".join(file_name(word) for word in (of.corpus, of.split, of.lang, *hidden)))
    twice, seen = Counter(names), Counter[str]()
    found = {}
    for group, name in zip(groups, names, strict=True):
        seen[name] += 1
        found[group] = name if twice[name] == 1 else f"{name}-{seen[name]}"
    return found


def _versus(name: str, comparison: Comparison) -> str:
    return name if comparison.best else f"{name}-to-{file_name(comparison.reference.label)}"


def _there(blocks: Sequence[Block | None]) -> tuple[Block, ...]:
    return tuple(block for block in blocks if block is not None)
