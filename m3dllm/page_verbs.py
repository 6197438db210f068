"""The verbs that write pages for a browser: report and view. Modules are loaded when needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m3dllm.commands import Threshold, Videos, VideosOption, say, say_page
from m3dllm.errors import UserError


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run directories.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", help="The folder to write; default: reports/<runs>.")] = None,
    paper: Annotated[str | None, typer.Option(help="Add the published scores of a paper: m3d.")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="A system or run to compare all others with, besides the best one.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="The title of the report; default: corpus and split.")] = None,
    common: Annotated[
        bool, typer.Option("--common", help="Compare only on the documents that all runs share.")
    ] = False,
    pages: Annotated[
        bool | None,
        typer.Option("--pages/--no-pages", help="Also write the document pages; default: up to 100 documents."),
    ] = None,
) -> None:
    """Compare runs in a report with tables and figures.

    It has heuristic baselines, confidence intervals, breakdowns and cost.
    """
    from m3dllm.files import read_text
    from m3dllm.report import write_report

    folder = out or _folder_for("reports", runs)
    page = write_report(runs, folder, paper=paper, baseline=baseline, pages=pages, title=title, common=common)
    say(read_text(page.parent / "report.txt"))
    say_page(page)


def _folder_for(kind: str, runs: list[Path]) -> Path:
    """The default folder for the report or view of these runs."""
    from m3dllm.files import file_name

    return Path(kind) / file_name("+".join(run.resolve().name for run in runs))


def view(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run directories.", show_default=False)],
    gold: Annotated[
        bool, typer.Option("--gold/--no-gold", help="Show the gold, and which predictions are correct.")
    ] = True,
    threshold: Threshold = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="Write a single self-contained file, of at most 50 MB.")
    ] = False,
    videos: VideosOption = Videos.link,
    out: Annotated[Path | None, typer.Option("--out", help="The folder to write; default: views/<runs>.")] = None,
    browser: Annotated[bool, typer.Option("--browser", help="Open the page in the browser.")] = False,
) -> None:
    """Browse documents with gold and predictions side by side."""
    from m3dllm.runs import Run
    from m3dllm.viewer import write_pages

    if embed and videos is Videos.copy:
        raise UserError("--videos copy: a page of one file (--embed) has no videos: omit one of the two")
    folder = out or _folder_for("views", runs)
    page = write_pages(
        [Run(run) for run in runs], folder, gold=gold, embed=embed, threshold=threshold, videos=videos.value
    )
    say_page(page)
    if browser:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
