"""Corpora: the native format, its tools, and the importers of other formats by name. No importer is loaded here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m3dllm.errors import UserError

if TYPE_CHECKING:
    from m3dllm.corpora.imported import Imported


@dataclass(frozen=True, slots=True)
class Format:
    """A format that can be imported: `reader` is the "module:function" that returns an Imported."""

    reader: str
    summary: str

    def load(self) -> Callable[..., Imported]:
        """The reader."""
        module, _, name = self.reader.partition(":")
        found: Callable[..., Imported] = getattr(importlib.import_module(module), name)
        return found


FORMATS = {
    "m3d": Format("m3dllm.corpora.m3d:read_m3d", "the M3D release: JSON documents, frames with YOLO boxes"),
    "brat": Format("m3dllm.corpora.brat:read_brat", "BRAT standoff files, with frames and LabelMe or YOLO boxes"),
    "redocred": Format("m3dllm.corpora.redocred:read_redocred", "DocRED and Re-DocRED JSON"),
    "demo": Format("m3dllm.corpora.demo:generate_demo", "the embedded demo corpus, invented and drawn by a seed"),
}


def find_format(name: str) -> Format:
    """The format of that name. Raises UserError for an unknown one."""
    if name not in FORMATS:
        raise UserError(f"there is no format '{name}'; the formats are {', '.join(FORMATS)}")
    return FORMATS[name]
