"""The verbs for corpora besides import and export: check, split, merge. Modules are loaded when needed."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from m3dllm.commands import JsonOption, LinkedFrames, Seed, say
from m3dllm.errors import UserError
from m3dllm.formats import NewCorpus


def merge(
    corpora: Annotated[list[Path], typer.Argument(metavar="CORPUS", help="Native corpora.", show_default=False)],
    out: NewCorpus,
    map: Annotated[
        Path | None,
        typer.Option(
            help="A CSV file that renames types: columns kind, from, to (empty: remove), and optionally corpus."
        ),
    ] = None,
) -> None:
    """Merge several corpora into one.

    A table can rename their types; every change is counted.
    """
    from m3dllm.corpora.merge import merge_corpora, read_map
    from m3dllm.corpora.native import check_new, load_corpus, write_corpus

    check_new(out)
    types = read_map(map) if map else None
    imported = merge_corpora([load_corpus(path) for path in corpora], types, where=map)
    for line in imported.summary_lines():
        say(line)
    write_corpus(out, imported, link=True)
    say(f"written to {out}")


class Hidden(StrEnum):
    text = "text"
    video = "video"
    thirds = "thirds"


def split(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A native corpus.", show_default=False)],
    out: NewCorpus,
    ratio: Annotated[str, typer.Option(help="train:dev:test; 0 omits a split.")] = "8:1:1",
    seed: Seed = 0,
    missing: Annotated[Hidden | None, typer.Option(help="Also write missing.json, for 'm3dllm run --missing'.")] = None,
    linked_frames: LinkedFrames = False,
) -> None:
    """Split a corpus into train, dev and test.

    The clips of one source video stay together.
    """
    from m3dllm.corpora.imported import count, count_table, unannotated, unannotated_lines
    from m3dllm.corpora.missing import encode_manifest, manifest_of
    from m3dllm.corpora.native import check_new, load_corpus
    from m3dllm.corpora.split import split_corpus, write_split
    from m3dllm.files import write_atomic
    from m3dllm.stream import heads

    check_new(out)
    try:
        ratios = [float(part) for part in ratio.split(":")]
    except ValueError:
        raise UserError(f"--ratio {ratio}: expected three numbers, such as 8:1:1") from None
    corpus = load_corpus(path, linked_frames=linked_frames)
    if not any(head.group for part in corpus.splits.values() for head in heads(part)):
        typer.echo(
            "warning: no document has a group (its source video): clips of one video may end up in different splits; "
            "'m3dllm import brat --group PATTERN' finds groups in names",
            err=True,
        )
    splits = split_corpus(corpus, ratios=ratios, seed=seed)
    written = write_split(out, corpus, splits).splits
    if missing is not None:
        manifest = manifest_of(splits.values(), kind=missing.value, seed=seed)
        write_atomic(out / "missing.json", encode_manifest(manifest))
    for line in (*count_table(count(written)), *unannotated_lines(unannotated(written))):
        say(line)
    say(f"written to {out}")


def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A native corpus.", show_default=False)],
    json: JsonOption = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write every problem and warning to this file, as JSON.")
    ] = None,
    linked_frames: LinkedFrames = False,
) -> None:
    """Check a corpus: list every problem, count its contents."""
    from m3dllm.corpora.check import check as check_corpus
    from m3dllm.files import check_replaces, written_atomic

    if report is not None:
        check_replaces(report, "a report of 'm3dllm check'", b'"corpus":', b'"problems":')
    found = check_corpus(path, linked_frames=linked_frames)
    if report is not None:
        with written_atomic(report) as file:
            file.writelines(f"{line}\n".encode() for line in found.json())
    for line in found.json() if json else found.lines():
        say(line)
    if found.problems:
        raise SystemExit(2)
