"""Which documents are shown without a modality, decided once for all systems and kept with the run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from m3dllm.errors import UserError
from m3dllm.files import read_text, sha256
from m3dllm.stream import heads
from m3dllm.types import Document, Example, Subset
from m3dllm.wire import FORMAT, WireError, decode, pretty

Kind = Literal["none", "text", "video", "thirds", "share"]
KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind != "share")
"""The kinds that a word names; a share is a number."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What each document is shown as, by id; its JSON form is the object of these fields."""

    kind: Kind
    seed: int = 0
    documents: dict[str, Subset] = field(default_factory=dict)
    format: int = FORMAT


def make_manifest(ids: Iterable[str], *, kind: Kind, share: float = 0.0, seed: int = 0) -> Manifest:
    """The manifest of the documents `ids`, the same in whatever order they come.

    "none" hides nothing, "text" every text, "video" every clip. "thirds" sorts the ids by the sha256 of "seed:id" and
    cuts them into full, no_text and no_video; the one or two that are left over are full. "share" does the same with
    `share` of the documents, half of them without text and half without clip; what does not divide is full.
    """
    names = sorted(set(ids), key=lambda name: (sha256(f"{seed}:{name}".encode()), name))
    each = len(names) // 3 if kind == "thirds" else int(share * len(names) / 2) if kind == "share" else 0
    rest: Subset = "no_text" if kind == "text" else "no_video" if kind == "video" else "full"
    hidden: tuple[Subset, Subset] = ("no_text", "no_video")
    subsets = [*[rest] * (len(names) - 2 * each), *(subset for subset in hidden for _ in range(each))]
    return Manifest(kind, seed, dict(sorted(zip(names, subsets, strict=True))))


def read_kind(words: str) -> tuple[Kind, float] | None:
    """The kind that `words` name, and the share of documents where they are a number from 0 to 1; None for others."""
    for kind in KINDS:
        if words == kind:
            return kind, 0.0
    try:
        share = float(words)
    except ValueError:
        return None
    return ("share", share) if 0 <= share <= 1 else None


def manifest_of(parts: Iterable[Sequence[Example]], *, kind: Kind, share: float = 0.0, seed: int = 0) -> Manifest:
    """The manifest of several splits, each divided by itself."""
    manifests = [make_manifest((head.id for head in heads(part)), kind=kind, share=share, seed=seed) for part in parts]
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
        raise UserError.at(path, "lists no documents", place="$.documents")
    return manifest


def encode_manifest(manifest: Manifest) -> str:
    """The JSON that `read_manifest` reads."""
    return pretty(manifest)
