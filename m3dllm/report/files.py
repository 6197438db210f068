"""The files of a report: a page, Markdown, tables for papers and programs, figures, and the documents.

Files are written atomically, and never into a run.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

from m3dllm.errors import UserError
from m3dllm.files import check_free, check_replaces, clear_abandoned, write_atomic
from m3dllm.progress import progress
from m3dllm.report.assembly import assemble
from m3dllm.report.comparison import RESAMPLES, compare, f1_of, named
from m3dllm.report.groups import ComparisonGroup, apart, groups
from m3dllm.report.html import html
from m3dllm.report.latex import latex
from m3dllm.report.layout import Glimpse, Report
from m3dllm.report.markdown import markdown
from m3dllm.report.pdf import pdf
from m3dllm.report.provenance import provenance
from m3dllm.report.published import read_published
from m3dllm.report.quoted import has_released
from m3dllm.report.svg import svg
from m3dllm.report.terminal import overview
from m3dllm.report.tidy import sheet_csv, sheets, table_csv
from m3dllm.score.scores import PAIRS
from m3dllm.scored import ScoredRun, count_documents, read_runs, with_common

log = logging.getLogger("m3dllm")

FORWARD = """<!doctype html>
<meta charset="utf-8"><meta http-equiv="refresh" content="0; url=report.html"><title>Report</title>
"""
"""index.html: the folder can be hosted as it is."""

GLIMPSE = 300
"""The characters of a document's text that a report shows."""
PAGES_AT_MOST = 100
"""The most documents for which pages are made by default: thumbnails of many frames take a while."""


def write_report(
    runs: Sequence[Path | str] | Path | str,
    out: Path | str,
    *,
    paper: str | None = None,
    baseline: str | None = None,
    pages: bool | None = None,
    figures: bool = True,
    resamples: int = RESAMPLES,
    title: str | None = None,
    common: bool = False,
) -> Path:
    """Write the report of `runs` (or of one) into the folder `out`; returns its page. Same runs, same bytes.

    `report.html` and `report.md` hold everything, `report.txt` the F1 of every system; `tables/` each table as .tex and
    .csv; `figures/` each figure as .svg and .pdf; `data/` the unrounded numbers as plain rows; `documents/` the pages
    of the documents, if `pages` is true or, by default, for at most 100 documents. Each file tells what it was made
    from, and the command to make it again; for .csv files a `provenance.json` beside them does. `paper` adds the
    published scores of a paper, `baseline` names a system or run to compare all others with besides the best; `common`
    compares only on the documents that all runs share.

    A run that is unfinished, broken or of another format is named in the report and skipped. Raises UserError if none
    is left, if `out` lies in a run or cannot be written, and for unknown names.
    """
    folder, paths = Path(out), [Path(run) for run in ([runs] if isinstance(runs, str | Path) else runs)]
    for run in paths:
        if folder.resolve().is_relative_to(run.resolve()):
            raise UserError.at(folder, f"is inside the run {run}, which a report must not change: choose another --out")
    for place in (folder, *(folder / name for name in ("tables", "figures", "data"))):
        clear_abandoned(place)
    _check_folder(folder)
    published = None if paper is None else read_published(paper)
    found, skipped = read_runs(paths)
    with TemporaryDirectory() as work:
        found = with_common(found, Path(work)) if common else found
        sets = groups(found)
        for line in apart(sets):
            log.warning(line)
        check_baseline(baseline, sets)
        if published and not all(has_released(s, of.lang) for of in sets for s in of.with_pairs("gold_pairs")):
            remedy = "'m3dllm score RUN --variant released' adds them"
            log.warning("--paper %s: not every run has the metrics of its released code: %s", paper, remedy)
        comparisons, spreads = {}, {}
        with progress("comparisons", len(sets) * len(PAIRS)) as step:
            for of, pairs in itertools.product(sets, PAIRS):
                comparisons[of, pairs] = compare(of, pairs, baseline=baseline, resamples=resamples)
                spreads[of, pairs] = f1_of(of, pairs, resamples=resamples)
                step()
        report = assemble(
            sets, skipped, comparisons, spreads, published=published, baseline=baseline, title=title, common=common
        )
        if pages or (pages is None and count_documents(found) <= PAGES_AT_MOST):
            page = _pages(found, folder)
            report = replace(report, pages=page, glimpse=_glimpse(found, page))
        elif (folder / "documents/index.html").is_file():
            from m3dllm.viewer import remove_pages, remove_thumbnails

            remove_pages(folder / "documents")
            remove_thumbnails(folder / "documents")
    files: dict[str, str | bytes] = {
        f"data/{sheet.name}.csv": sheet_csv(sheet) for sheet in sheets(sets, skipped, comparisons)
    }
    files |= dict(_table_files(report))
    made_of = provenance(found, skipped, report.again)
    files |= {f"{folder_of_csv}/provenance.json": made_of for folder_of_csv in ("tables", "data")}
    if figures:
        files |= dict(_figure_files(report))
    _remove_stale(folder, files)
    write_atomic(folder / "index.html", FORWARD)  # first: from now on the folder is known to hold a report
    files |= {
        "report.txt": overview(report) + "\n",
        "report.md": markdown(report),
        "report.html": html(report),
    }
    for name, data in files.items():
        write_atomic(folder / name, data)
    return folder / "report.html"


def _check_folder(folder: Path) -> None:
    """Raises UserError for a file of someone else that the report would replace, or a folder that it would fill."""
    check_replaces(folder / "report.html", "a report", b'name="generator" content="m3dllm ')
    check_replaces(folder / "index.html", "that of a report", FORWARD.strip().encode())
    if not any((folder / name).is_file() for name in ("report.html", "index.html")):
        for name in ("report.txt", "report.md", "tables", "figures", "data"):
            check_free(folder / name)


def _table_files(report: Report) -> Iterator[tuple[str, str]]:
    for table in report.tables:
        yield f"tables/{table.name}.tex", latex(table, report.origin, report.again)
        yield f"tables/{table.name}.csv", table_csv(table)


def _figure_files(report: Report) -> Iterator[tuple[str, str | bytes]]:
    for figure in report.figures:
        made_of = f"{report.origin}. Made by: {report.again}"
        yield f"figures/{figure.name}.svg", svg(figure, origin=made_of)
        yield f"figures/{figure.name}.pdf", pdf(figure, made_of)


def _remove_stale(folder: Path, files: Mapping[str, object]) -> None:
    """Remove the tables and figures of an earlier report, which may be of other runs."""
    if (folder / "report.html").is_file():
        for pattern in ("tables/*.tex", "tables/*.csv", "figures/*.svg", "figures/*.pdf", "data/*.csv"):
            for file in folder.glob(pattern):
                if file.relative_to(folder).as_posix() not in files:
                    file.unlink()


def _pages(runs: Sequence[ScoredRun], folder: Path) -> str:
    """Write the pages of the documents; returns the link to them."""
    from m3dllm.viewer import write_pages_of

    written = write_pages_of(runs, folder / "documents", videos="none")
    return written.resolve().relative_to(folder.resolve()).as_posix()


def _glimpse(runs: Sequence[ScoredRun], page: str) -> Glimpse:
    """The first document of the first run that has text and boxes; else the first with text, else the first."""
    from m3dllm.viewer.thumbnails import Thumbnails

    example = max(runs[0].examples, key=lambda one: (bool(one.document.text), bool(one.gold.regions)))
    document = example.document
    boxes = Counter(region.frame for region in example.gold.regions)
    shown = max(document.frames, key=lambda frame: boxes[frame.index], default=None)
    frame: str = Thumbnails(None).of([shown], [Path(runs[0].record.corpus.root)])[0].get("src", "") if shown else ""
    drawn = tuple(
        (r.box.x0, r.box.y0, r.box.x1 - r.box.x0, r.box.y1 - r.box.y0, r.type)
        for r in example.gold.regions
        if frame and shown and r.frame == shown.index
    )
    href = f"{page}#{urlencode({'document': document.id})}"
    return Glimpse(href, document.id, document.text[:GLIMPSE], frame, drawn)


def check_baseline(baseline: str | None, sets: Sequence[ComparisonGroup]) -> None:
    """Raises UserError if `baseline` names nothing in a table."""
    systems = [system for group in sets for system in group.systems]
    if baseline is not None and not named(systems, baseline):
        known = ", ".join(sorted({system.label for system in systems}))
        raise UserError(f"--baseline {baseline}: no system or run of that name; there are {known}")
