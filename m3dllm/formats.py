"""The verbs `import` and `export`: a command for each format, made on demand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from m3dllm.columns import counted
from m3dllm.commands import Threshold, group, say, with_options
from m3dllm.errors import UserError, redact
from m3dllm.progress import progress

NewCorpus = Annotated[
    Path, typer.Option("--out", help="The folder of the new corpus; it must not exist.", show_default=False)
]
ReportFile = Annotated[
    Path | None, typer.Option("--report", help="Write all skipped and changed items to this file, as JSON.")
]


def _importer(name: str) -> Callable[..., None]:
    from m3dllm.corpora.importers import find_importer

    importer = find_importer(name)

    def from_path(
        path: Annotated[
            Path, typer.Argument(metavar="PATH", help="The file or folder with the annotations.", show_default=False)
        ],
        out: NewCorpus,
        report: ReportFile = None,
        options: Any = None,
    ) -> None:
        _check_split(options.get("split"))
        _import(name, path, lambda: importer.by_options()(path, **options), out, report)

    def from_nothing(out: NewCorpus, report: ReportFile = None, options: Any = None) -> None:
        _import(name, None, lambda: importer.by_options()(**options), out, report)

    verb = from_path if importer.takes_path else from_nothing
    return with_options(verb, importer.by_options(), doc=importer.summary)


def _check_split(split: str | None) -> None:
    """Raises UserError for a name that no file of a split can have, or an empty one, as an unset variable leaves."""
    from m3dllm.corpora.imported import split_name

    if split is not None and split_name(split) != split:
        raise UserError(f"--split {split!r}: expected a name of letters, digits, '.', '_' and '-', such as train")


def _import(name: str, path: Path | None, read: Callable[[], Any], out: Path, report: Path | None) -> None:
    from m3dllm.corpora.native import check_new, write_corpus
    from m3dllm.files import check_replaces, written_atomic

    check_new(out)
    if report is not None:
        if report.absolute().is_relative_to(out.absolute()):
            raise UserError(f"--report {report}: is inside the new corpus {out}: choose a place outside it")
        check_replaces(report, "a report of 'm3dllm import'", b'"importer":', b'"path":', b'"held":')
    with progress(f"reading {name if path is None else redact(str(path))}"):
        imported = read()
    if report is not None:
        shown = None if path is None else redact(str(path))
        with written_atomic(report) as file:
            file.writelines(imported.report({"importer": name, "path": shown}))
    for line in imported.summary_lines():
        say(line)
    if dropped := imported.drop_confidences():
        say(f"skipped: {counted(dropped, 'confidence')}: gold has none")
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
        gold: Annotated[
            bool, typer.Option("--gold", help="Export the gold of a run instead of its predictions.")
        ] = False,
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


imports = typer.Typer(cls=group(_import_formats, _importer), help="Import annotations from another format as a corpus.")
exports = typer.Typer(
    cls=group(_export_formats, _exporter),
    help="Export predictions or gold to the format of another tool.",
)
