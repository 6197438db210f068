"""Weights and the state of an optimizer on disk, as safetensors: written atomically, and never unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from m3dllm.errors import UserError
from m3dllm.files import is_pickle, open_file, write_atomic


def write_weights(path: Path, weights: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically. Raises UserError if the disk is full."""
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    write_atomic(path, save(plain, dict(header or {})))


def read_weights(path: Path, *, remedy: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """(header, tensors) of a safetensors file. Raises UserError, ending with `remedy`, if it is not one."""
    try:
        open_file(path).close()  # refuses a pipe or device, instead of waiting for it
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        with open_file(path) as file:
            pickled = is_pickle(file.read(2))
        why = "is a pickle, which is never loaded" if pickled else f"is damaged or truncated ({error})"
        raise UserError.at(path, f"{why}: {remedy}") from error


def fill(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], path: Path, *, remedy: str) -> None:
    """Copy `weights`, read from `path`, into those of a model. Raises UserError if names or shapes differ."""
    odd = sorted(own.keys() ^ weights.keys()) or [n for n, value in own.items() if value.shape != weights[n].shape]
    if odd:
        raise UserError.at(path, f"does not fit this model (first mismatch: '{odd[0]}'): {remedy}")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(weights[name])


def part_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors with names that begin with `prefix` and a dot, without that prefix."""
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state of each weight, as tensors named `number.name`."""
    states = optimizer.state_dict()["state"]
    return {f"{i}.{name}": torch.as_tensor(value) for i, state in states.items() for name, value in state.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_state`."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, rest = name.partition(".")
        state.setdefault(int(number), {})[rest] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
