"""The files of an import: which there are at a path, of which split each is, and what ids are taken."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from m3dllm.corpora.documents import JSON, is_another_object
from m3dllm.corpora.imported import Imported, split_name, unused_id
from m3dllm.corpora.places import split_word
from m3dllm.corpora.turned import turn_regions
from m3dllm.corpora.walk import shown, walk_files
from m3dllm.errors import UserError
from m3dllm.files import sha256
from m3dllm.labels import LabelSet
from m3dllm.types import Example

_WORD = re.compile(r"[^\W\d_]+")
_DATA = re.compile(
    r"\.(jsonl?|ndjson|xml|csv|tsv|conllu?|ann|eaf|parquet|xlsx|gz|zip|tar|tgz|7z|rar|bz2|xz)$", re.IGNORECASE
)
"""The suffixes of files that may hold annotations, so that one that nobody reads is counted."""


def files_at(
    path: Path, suffixes: Iterable[str], what: str, notes: Imported, *, beside: Iterable[str] = ()
) -> list[Path]:
    """The file at `path`, or the files with these suffixes under the folder there; hidden ones are passed over.

    Other files that may hold annotations are noted, but not those with the suffixes `beside`. Raises UserError where
    there is none; `what` says what was expected.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError.at(path, f"does not exist; expected {what}")
    wanted = tuple(sorted({suffix.lower() for suffix in suffixes}))
    kept, read = [], (*wanted, *beside)
    for file in walk_files(path, notes):
        if file.name.lower().endswith(wanted):
            kept.append(file)
        elif may_annotate(file.name) and not file.name.lower().endswith(read):
            notes.leave_out("file", f"it is not read: expected {what}", shown(file, path))
    if not kept:
        raise UserError.at(path, f"has no {' or '.join(wanted)} file; expected {what}")
    return kept


def files_of_documents(
    path: Path, suffixes: Iterable[str], what: str, notes: Imported, keys: Iterable[str]
) -> list[Path]:
    """`files_at`, but without JSON files in a folder that hold no document but settings; these are noted.

    `keys`: every document has one of them.
    """
    kept = files_at(path, suffixes, what, notes)
    for file in kept[:] if path.is_dir() else ():
        if file.name.lower().endswith(JSON) and is_another_object(file, keys):
            notes.leave_out("file", f"it has no documents: expected {what}", shown(file, path))
            kept.remove(file)
    if not kept:
        raise UserError.at(path, f"has no file with documents; expected {what}")
    return kept


def may_annotate(name: str) -> bool:
    """Whether a file of that name may hold annotations, as its suffix says."""
    return bool(_DATA.search(name))


def split_of(file: Path, root: Path | None = None) -> str | None:
    """The split that a word of a file's name, or of a folder's around it under `root`, is; None where none is."""
    names = [file.stem]
    if root is not None:
        names += [folder.name for folder in file.parents if root in folder.parents]
    return next((split for name in names for word in _WORD.findall(name) if (split := split_word(word))), None)


@dataclass(slots=True)
class Incoming:
    """An import in the making: every id once, and the labels of what came in at the end."""

    notes: Imported = field(default_factory=lambda: Imported(LabelSet()))
    ids: set[str] = field(default_factory=set)
    _split: dict[str, str | None] = field(default_factory=dict)
    _texts: dict[tuple[str, str, str], Path] = field(default_factory=dict)

    def id_for(self, wanted: str, instead: str, where: str) -> str:
        """`wanted`, or another id where that cannot be one or is taken; the change is noted."""
        name = unused_id(wanted, self.ids, instead=(instead,))
        if wanted and name != wanted:
            why = "its id is a duplicate: renamed" if wanted in self.ids else "its id is not valid: renamed"
            self.notes.change("document", why, f"{where}: {wanted!r} is {name!r}")
        self.ids.add(name)
        return name

    def is_again(self, name: str, text: str, split: str, file: Path, where: str) -> bool:
        """Whether another file has a document of that name and text, as one of another annotator; it is noted."""
        first = self._texts.setdefault((split, name, sha256(text.encode())), file)
        if not name or first == file:
            return False
        self.notes.leave_out("annotation", "another one of its document is used", where)
        return True

    def split_of(self, file: Path, root: Path) -> str:
        """The split that the file's name or its folders say, else train; noted at the end where others say theirs."""
        found = self._split[file.name] = split_of(file, root)
        return found or "train"

    def add(self, split: str, example: Example) -> None:
        self.notes.add(split_name(split), turn_regions(example, self.notes))

    def done(self, path: Path, labels: LabelSet | None = None) -> Imported:
        """The import with `labels`, or those found. Raises UserError where there is no document."""
        self.notes.labels = labels or self.notes.types()
        for name, split in self._split.items() if any(self._split.values()) else ():
            if split is None:
                self.notes.remark("file", "neither its name nor a parent folder is a split: assigned to train", name)
        return self.notes.require_documents(path)
