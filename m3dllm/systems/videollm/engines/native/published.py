"""Read the published files of a native model: names and tensors, and nothing else.

A file is safetensors, or a pickle of which torch reads only tensors (`weights_only`): no code in it runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch
from torch import Tensor

from m3dllm.errors import UserError
from m3dllm.systems.videollm.engines.native.local import NativeLocal
from m3dllm.systems.videollm.engines.native.parts import Part
from m3dllm.weights import read_weights

FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin.index.json", "pytorch_model.bin")
"""The possible files with a part's weights, the preferred first: one file, or the index of several."""
REMEDY = "fetch it again"


def read_tensors(path: Path) -> dict[str, Any]:
    """The tensors of a published file, perhaps nested. Raises UserError if it holds anything else."""
    if path.suffix == ".safetensors":
        return read_weights(path, remedy=REMEDY)[1]
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except (UnpicklingError, RuntimeError, EOFError, OSError) as error:
        why = " ".join(str(error).split())[:120]
        raise UserError.at(
            path, f"cannot be read as tensors alone, and nothing else is read ({why}): {REMEDY}"
        ) from error
    if not isinstance(found, dict):
        raise UserError.at(path, f"contains a {type(found).__name__}: expected tensors by name")
    return found


def read_part(part: Part, model: str, prefixes: Sequence[str]) -> tuple[Path, dict[str, Tensor]]:
    """(a file, the tensors of a part whose names have one of these prefixes); shards without any are not read."""
    first = part.file(model, *FILES)
    files = [first]
    if first.suffix == ".json":
        shard_of: dict[str, str] = json.loads(first.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted({shard for name, shard in shard_of.items() if name.startswith(tuple(prefixes))})
        files = [part.file(model, shard) for shard in shards]
    found = [(name, value) for file in files for name, value in read_tensors(file).items()]
    return first, {name: value for name, value in found if name.startswith(tuple(prefixes))}


def fill(own: Mapping[str, Tensor], found: Mapping[str, Any], path: Path, published: Callable[[str], str]) -> None:
    """Copy the tensors of a file into those of a model; `published` maps our names to those of the file.

    Raises UserError, with every name, if some are missing or have another shape.
    """
    names = {name: published(name) for name in own}
    if absent := [theirs for theirs in names.values() if not isinstance(found.get(theirs), Tensor)]:
        raise UserError.at(path, f"lacks {len(absent)} of {len(names)} tensors: {', '.join(absent)}")
    for name, value in own.items():
        given = found[names[name]]
        if given.shape != value.shape:
            shapes = f"{tuple(given.shape)}: expected {tuple(value.shape)}"
            raise UserError.at(path, f"'{names[name]}' has the shape {shapes}")
        with torch.no_grad():
            value.copy_(given)


def load_part(kind: Any, local: NativeLocal, part: Part, dtype: Any, **more: Any) -> Any:
    """A part in the layout of transformers. Raises UserError, with every name, if tensors are missing."""
    place = part.at(local.source)
    found, info = kind.from_pretrained(**place, dtype=dtype, output_loading_info=True, **more)
    if absent := sorted(info["missing_keys"]):
        where = place["pretrained_model_name_or_path"]
        raise UserError(f"{where} lacks {len(absent)} tensors of a {kind.__name__}: {', '.join(absent)}")
    return found
