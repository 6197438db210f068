"""Document pages: the predictions of each system beside the gold.

`write_pages` writes a folder that works from disk, without a network: `index.html` with the program, the list of
documents and the searched texts; `documents/` with files of documents, loaded when one of them is opened; `thumbs/`
with thumbnails of the frames, loaded when they come into view; `videos/` with the corpus' videos. With `embed` all
except the videos is one file. Verdicts are those of `m3dllm.score.verdicts`; the page only draws them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from m3dllm.columns import counted
from m3dllm.errors import UserError
from m3dllm.files import check_replaces, clear_abandoned, write_atomic, written_atomic
from m3dllm.progress import progress
from m3dllm.runs import Run
from m3dllm.scored import ScoredRun, count_documents, read_runs
from m3dllm.stream import Spool
from m3dllm.types import Annotation, Document
from m3dllm.videos import Put
from m3dllm.viewer.content import cases, document_content, whole_cases
from m3dllm.viewer.html import embedded, index_page, json_for_html, script
from m3dllm.viewer.index import characters_searched, document_entry, page_content
from m3dllm.viewer.players import Players
from m3dllm.viewer.thumbnails import Thumbnails

__all__ = ["EMBED_LIMIT", "remove_pages", "remove_thumbnails", "write_pages", "write_pages_of"]

EMBED_LIMIT = 50_000_000
"""The most bytes that a page of one file may have."""
FILE_BYTES = 2**18
"""The bytes of a file of documents after which the next document begins a new file."""
_log = logging.getLogger(__name__)


def write_pages(
    runs: Sequence[Run],
    out: Path,
    *,
    gold: bool = True,
    embed: bool = False,
    threshold: float | None = None,
    wholes: Sequence[tuple[Document, Annotation]] = (),
    videos: Put = "link",
) -> Path:
    """Write the pages of `runs` into the folder `out`; returns the path of their index.html.

    Without `gold`, or where nothing is annotated, neither the gold nor what it makes of the predictions is shown;
    `threshold` leaves out what is less sure (None: as a run was scored). `wholes` stand before the documents: what
    these are parts of, such as a film, and what the first run's predictions for the parts come to. `videos` says how
    the videos of documents come into the folder; none is part of a page of one file.

    A run that is unfinished or broken is named in the log and skipped. Raises UserError where none is left, where
    `out` lies in a run or cannot be written, and where one file would be larger than `EMBED_LIMIT`.
    """
    for run in runs:
        if out.resolve().is_relative_to(run.path.resolve()):
            raise UserError.at(out, f"is inside the run {run.path}, which a page must not change: choose another --out")
    _check_folder(out)
    found, skipped = read_runs([run.path for run in runs], threshold=threshold)
    for missing in skipped:
        _log.warning("skipped: %s: %s", missing.name, missing.why)
    return write_pages_of(found, out, gold=gold, embed=embed, wholes=wholes, videos=videos)


def write_pages_of(
    found: Sequence[ScoredRun],
    out: Path,
    *,
    gold: bool = True,
    embed: bool = False,
    wholes: Sequence[tuple[Document, Annotation]] = (),
    videos: Put = "link",
) -> Path:
    """`write_pages` of loaded runs."""
    _check_folder(out)
    gold = gold and any(run.summary.has_gold for run in found)
    if not embed:
        remove_pages(out)
    entries: Spool[bytes] = Spool(bytes, bytes)
    bodies, size = [], 0
    thumbnails, players = Thumbnails(None if embed else out), Players(out, "none" if embed else videos)
    documents = len(wholes) + count_documents(found)
    searched = characters_searched(documents)
    files = _Files(out)
    with progress("pages", documents) as step:
        for number, case in enumerate(chain(whole_cases(found[0], wholes), cases(found))):
            content = document_content(case, thumbnails, players, gold=gold)
            if embed:
                bodies.append(embedded(number, content))
                size += len(bodies[-1])
                _check_size(size, out, number + 1)
            else:
                files.add(number, script(number, content))
            name = None if embed else files.name
            entries.append(json_for_html(document_entry(case, content, file=name, searched=searched)))
            step()
    files.close()
    page = index_page(page_content(found, gold=gold, searched=searched), entries, bodies)
    if embed:
        parts = [*page]
        _check_size(sum(map(len, parts)), out, len(entries))
        page = iter(parts)
        remove_pages(out)
    remove_thumbnails(out, but=thumbnails.used)
    with written_atomic(out / "index.html") as file:
        file.writelines(page)
    return out / "index.html"


@dataclass(slots=True)
class _Files:
    """Writes documents into the files of a page, each named by the number of its first document.

    Several share a file, since creating one takes longer than all other work for a document of ordinary length.
    """

    out: Path
    name: str = ""
    _parts: list[bytes] = field(default_factory=list)
    _size: int = 0

    def add(self, number: int, part: bytes) -> None:
        """Add a document to the current file."""
        if self._size + len(part) > FILE_BYTES:
            self.close()
        if not self._parts:
            self.name = f"documents/{number:05}.js"
        self._parts.append(part)
        self._size += len(part)

    def close(self) -> None:
        """Write the current file, if any."""
        if self._parts:
            write_atomic(self.out / self.name, b"".join(self._parts), durable=False)
        self._parts, self._size = [], 0


def _check_folder(out: Path) -> None:
    """Raises UserError if the page would replace one that is none of ours."""
    check_replaces(out / "index.html", "a document page", b"<title>Documents</title>", b"m3dllm")


def remove_pages(out: Path) -> None:
    """Remove earlier pages from `out`, which may be of other runs or show hidden gold."""
    for folder in (out, out / "documents", *out.glob("thumbs/??")):
        clear_abandoned(folder)
    pages = out.glob("documents/[0-9][0-9][0-9][0-9][0-9]*.js")
    for file in (out / "index.html", *pages, *out.glob("videos/[0-9][0-9][0-9][0-9]*.*")):
        file.unlink(missing_ok=True)


def remove_thumbnails(out: Path, *, but: Collection[str] = ()) -> None:
    """Remove unused thumbnails from `out`; `but`: those in use."""
    for file in out.glob(f"thumbs/??/{'[0-9a-f]' * 64}.jpg"):
        if file.relative_to(out).as_posix() not in but:
            file.unlink()


def _check_size(size: int, out: Path, documents: int) -> None:
    if size > EMBED_LIMIT:
        raise UserError.at(
            out / "index.html",
            f"would be larger than {EMBED_LIMIT // 1_000_000} MB with {counted(documents, 'document')} in it: "
            "omit --embed to write a folder",
        )
