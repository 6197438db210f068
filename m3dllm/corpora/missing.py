"""Which documents are shown without a modality, decided once for all systems and kept with the run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from m3dllm.errors import UserError
from m3dllm.files import read_text, sha256
from m3dllm.types import Document, Example, Subset
from m3dllm.wire import FORMAT, WireError, decode, pretty

Kind = Literal["none", "text", "video", "thirds"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What each document is shown as, by id; its JSON form is the object of these fields."""

    kind: Kind
    seed: int = 0
    documents: dict[str, Subset] = field(default_factory=dict)
    format: int = FORMAT


def make_manifest(ids: Iterable[str], *, kind: Kind, seed: int = 0) -> Manifest:
    """The manifest of the documents `ids`, the same in whatever order they come.

    "none" hides nothing, "text" every text, "video" every clip. "thirds" sorts the ids by the sha256 of "seed:id" and
    cuts them into full, no_text and no_video; the one or two that are left over are full.
    """
    names = sorted(set(ids), key=lambda name: (sha256(f"{seed}:{name}".encode()), name))
    third = len(names) // 3 if kind == "thirds" else 0
    rest: Subset = "no_text" if kind == "text" else "no_video" if kind == "video" else "full"
    thirds: tuple[Subset, Subset] = ("no_text", "no_video")
    subsets = [*[rest] * (len(names) - 2 * third), *(subset for subset in thirds for _ in range(third))]
    return Manifest(kind, seed, dict(sorted(zip(names, subsets, strict=True))))


def manifest_of(parts: Iterable[Sequence[Example]], *, kind: Kind, seed: int = 0) -> Manifest:
    """The manifest of several splits, each divided by itself."""
    manifests = [make_manifest((e.document.id for e in part), kind=kind, seed=seed) for part in parts]
    return Manifest(kind, seed, {name: shown for part in manifests for name, shown in part.documents.items()})


def show(document: Document, subset: Subset) -> Document:
    """`document` as a system sees it: without text (its tokens, segments and given mentions too), or without frames."""
    if subset == "no_text":
        return replace(document, text="", tokens=(), segments=(), given=None)
    return replace(document, frames=()) if subset == "no_video" else document


def read_manifest(path: Path) -> Manifest:
    """The manifest in the file `path`. Raises UserError with file and place."""
    try:
        manifest = decode(read_text(path), Manifest)
        if manifest.format != FORMAT:
            raise WireError(f"is format {manifest.format}; this version reads format {FORMAT}", "$.format")
    except WireError as error:
        raise error.at(path) from error
    if not manifest.documents:
        raise UserError.at(path, "names no document", place="$.documents")
    return manifest


def encode_manifest(manifest: Manifest) -> str:
    """The JSON that `read_manifest` reads."""
    return pretty(manifest)
