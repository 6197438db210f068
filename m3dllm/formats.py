"""The verbs `import` and `export`: a command for each format, made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from m3dllm.commands import Threshold, group, say, with_options
from m3dllm.errors import redact
from m3dllm.progress import progress

NewCorpus = Annotated[
    Path, typer.Option("--out", help="The corpus to make; a folder that is not there yet.", show_default=False)
]
ReportFile = Annotated[
    Path | None, typer.Option("--report", help="Write every skipped and changed item to this file, as JSON.")
]


def _importer(name: str) -> Callable[..., None]:
    from m3dllm.corpora.importers import find_importer

    importer = find_importer(name)

    def from_path(
        path: Annotated[Path, typer.Argument(metavar="PATH", help="Where the annotations are.", show_default=False)],
        out: NewCorpus,
        report: ReportFile = None,
        options: Any = None,
    ) -> None:
        _import(name, path, lambda: importer.by_options()(path, **options), out, report)

    def from_nothing(out: NewCorpus, report: ReportFile = None, options: Any = None) -> None:
        _import(name, None, lambda: importer.by_options()(**options), out, report)

    verb = from_path if importer.takes_path else from_nothing
    return with_options(verb, importer.by_options(), doc=importer.summary)


def _import(name: str, path: Path | None, read: Callable[[], Any], out: Path, report: Path | None) -> None:
    from m3dllm.corpora.native import write_corpus
    from m3dllm.files import written_atomic

    with progress(f"reading {name if path is None else redact(str(path))}"):
        imported = read()
    if report is not None:
        shown = None if path is None else redact(str(path))
        with written_atomic(report) as file:
            file.writelines(imported.report({"importer": name, "path": shown}))
    for line in imported.summary_lines():
        say(line)
    if dropped := imported.drop_confidences():
        say(f"skipped: {dropped:,} confidences: gold has none")
    imported.require_gold(path)
    write_corpus(out, imported)
    say(f"written to {out}")


def _import_formats() -> list[str]:
    from m3dllm.corpora.importers import IMPORTERS

    return IMPORTERS.names()


def _exporter(name: str) -> Callable[..., None]:
    from m3dllm.export import EXPORTERS
    from m3dllm.plugins import summary

    exporter = EXPORTERS.find(name)

    def export(
        source: Annotated[
            Path, typer.Argument(metavar="RUN|CORPUS", help="A run, or a native corpus.", show_default=False)
        ],
        out: Annotated[Path, typer.Option("--out", help="The folder to write.", show_default=False)],
        gold: Annotated[bool, typer.Option("--gold", help="The gold of a run, not its predictions.")] = False,
        split: Annotated[str | None, typer.Option(help="Only this split of a corpus; default: all.")] = None,
        threshold: Threshold = None,
        options: Any = None,
    ) -> None:
        from m3dllm.export import export

        for line in export(name, source, out, gold=gold, split=split, threshold=threshold, **options).lines():
            say(line)
        say(f"written to {out}")

    return with_options(export, exporter.export, doc=summary(exporter))


def _export_formats() -> list[str]:
    from m3dllm.export import EXPORTERS

    return EXPORTERS.names()


imports = typer.Typer(cls=group(_import_formats, _importer), help="Turn annotations of another format into a corpus.")
exports = typer.Typer(
    cls=group(_export_formats, _exporter),
    help="Write predictions or gold in the format of another tool.",
)
