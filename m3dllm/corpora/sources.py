"""The files of an import: which there are at a path, of which split each is, and what ids are taken."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from m3dllm.corpora.imported import Imported, split_name, unused_id
from m3dllm.corpora.turned import turn_regions
from m3dllm.corpora.walk import walk_files
from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.types import Example

_SPLIT = re.compile(r"(?<![a-z])(train|valid|val|dev|test)(?![a-z])", re.IGNORECASE)


def files_at(path: Path, suffixes: Iterable[str], what: str) -> list[Path]:
    """The file at `path`, or the files with these suffixes under the folder there; hidden ones are passed over.

    Raises UserError where there is none; `what` says what was expected.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError.at(path, f"does not exist; expected {what}")
    wanted = {suffix.lower() for suffix in suffixes}
    kept = [file for file in walk_files(path, Imported(LabelSet())) if file.suffix.lower() in wanted]
    if not kept:
        raise UserError.at(path, f"has no {' or '.join(sorted(wanted))} file; expected {what}")
    return kept


def split_of(file: Path, root: Path | None = None) -> str:
    """The split that a file's name says, or a folder's around it under `root`; else "train"."""
    names = [file.stem]
    if root is not None:
        names += [folder.name for folder in file.parents if root in folder.parents]
    for name in names:
        if match := _SPLIT.search(name):
            word = match[1].lower()
            return "dev" if word.startswith("val") else word
    return "train"


@dataclass(slots=True)
class Incoming:
    """An import in the making: every id once, and the labels of what came in at the end."""

    notes: Imported = field(default_factory=lambda: Imported(LabelSet()))
    ids: set[str] = field(default_factory=set)

    def id_for(self, wanted: str, instead: str, where: str) -> str:
        """`wanted`, or another id where that cannot be one or is taken; the change is noted."""
        name = unused_id(wanted, self.ids, instead=(instead,))
        if wanted and name != wanted:
            why = "its id stands twice: renamed" if wanted in self.ids else "its id cannot be one: renamed"
            self.notes.change("document", why, f"{where}: {wanted!r} is {name!r}")
        self.ids.add(name)
        return name

    def add(self, split: str, example: Example) -> None:
        self.notes.add(split_name(split), turn_regions(example, self.notes))

    def done(self, path: Path, labels: LabelSet | None = None) -> Imported:
        """The import with `labels`, or those found. Raises UserError where there is no document."""
        self.notes.labels = labels or self.notes.types()
        return self.notes.require_documents(path)
