"""The files of BRAT's documents: `.ann` and `.txt` of one name, their suffixes in any case, in linked folders too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.walk import shown, walk_files
from m3dllm.errors import UserError


@dataclass(frozen=True, slots=True)
class Pair:
    """The two files of a document, and their name in notes."""

    ann: Path
    txt: Path
    ann_name: str
    txt_name: str


def find_pairs(path: Path, text: Path | None, notes: Imported) -> tuple[dict[str, Pair], dict[str, Path]]:
    """(document -> its files, name -> text without annotations). Annotations without a text are noted."""
    if not path.exists():
        raise UserError.at(path, "does not exist; expected a folder of .ann and .txt files, or one of them")
    if text is not None and not text.exists():
        raise UserError.at(text, "does not exist; expected the folder of the .txt files")
    if path.is_dir():
        anns, txts = _found(path, ".ann", notes), _found(text or path, ".txt", notes)
    elif path.suffix.lower() in (".ann", ".txt"):
        stem = path.name.removesuffix(path.suffix)
        anns, txts = _beside(path.parent, stem, ".ann"), _beside(path.parent, stem, ".txt")
        if text is not None:
            txts = _beside(text, stem, ".txt") if text.is_dir() else {stem: text}
    else:
        raise UserError.at(path, "is not a .ann or .txt file; expected a folder of them, or one")
    pairs = {}
    for name, ann in anns.items():
        if name in txts:
            pairs[name] = Pair(ann, txts[name], f"{name}.ann", f"{name}.txt")
        else:
            why = "there is no .txt file with its name; if the texts are elsewhere, give their folder"
            notes.leave_out("document", why, f"{name}.ann")
    return pairs, {name: txts[name] for name in sorted(txts.keys() - anns.keys())}


def _found(folder: Path, suffix: str, notes: Imported) -> dict[str, Path]:
    """path in the folder without the suffix -> file, in the order of the paths, the suffix in any case."""
    found: dict[str, Path] = {}
    for file in walk_files(folder, notes):
        if file.suffix.lower() == suffix:
            name = shown(file, folder)[: -len(suffix)]
            if name in found:
                notes.leave_out(
                    "file", "another file has the same name", f"{name}{file.suffix}, after {found[name].name}"
                )
            found.setdefault(name, file)
    return found


def _beside(folder: Path, stem: str, suffix: str) -> dict[str, Path]:
    """stem -> the file of that stem and suffix, in any case, where the folder has it."""
    files = (file for file in sorted(folder.iterdir()) if file.suffix.lower() == suffix and file.is_file())
    return next(({stem: file} for file in files if file.name[: -len(suffix)] == stem), {})
