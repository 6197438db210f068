"""A fit that is not finished, on disk, as safetensors: the weights that learn, the optimizer, and the best weights.

`training.safetensors` is the state after some step, `best.safetensors` the weights of the best epoch so far. Each is
written whole or not at all, so a full disk or a kill leaves the last good one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from m3dllm.errors import UserError
from m3dllm.files import write_atomic

TRAINING, BEST = "training.safetensors", "best.safetensors"


@dataclass(slots=True)
class Progress:
    """Where a fit stands: `epoch` epochs are done, and `step` steps of the next one."""

    fingerprint: str
    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    """Negative log-likelihood of the answers learned so far in this epoch, and of how many tokens."""
    learned: int = 0
    best: float = -1.0
    best_epoch: int = 0
    epochs: list[dict[str, float]] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        """Epochs since the best one."""
        return self.epoch - self.best_epoch


def weights_of(model: Any) -> dict[str, Tensor]:
    """The weights that learn."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def fill(model: Any, weights: Mapping[str, Tensor], path: Path) -> None:
    """Put `weights` into those that learn. Raises UserError where names or shapes differ."""
    own = weights_of(model)
    odd = sorted(own.keys() ^ weights.keys()) or [n for n, value in own.items() if value.shape != weights[n].shape]
    if odd:
        raise UserError.at(path, f"does not fit this model (first at '{odd[0]}'): remove it, and fit again")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(weights[name])


def write_weights(path: Path, weights: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> None:
    """A safetensors file, in one step. Raises UserError where the disk is full."""
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    write_atomic(path, save(plain, dict(header or {})))


def read_weights(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """(header, tensors). Raises UserError where the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError.at(path, f"is damaged or cut off ({error}): remove it, and fit again") from error


def save_progress(folder: Path, progress: Progress, model: Any, optimizer: torch.optim.Optimizer) -> None:
    """Write the state in one step."""
    tensors = {f"model.{name}": value for name, value in weights_of(model).items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": torch.as_tensor(value) for name, value in state.items()}
    write_weights(folder / TRAINING, tensors, {"progress": json.dumps(asdict(progress))})


def load_progress(folder: Path, fingerprint: str, model: Any, optimizer: torch.optim.Optimizer) -> Progress | None:
    """The state that `save_progress` wrote, put into model and optimizer; None where there is none.

    Raises UserError where it is damaged, or of another fit.
    """
    path = folder / TRAINING
    if not path.exists():
        return None
    header, tensors = read_weights(path)
    told = json.loads(header.get("progress", "{}"))
    if told.get("fingerprint") != fingerprint:
        raise UserError.at(path, "is of a fit with other options, documents or model: remove it, or name another --out")
    fill(model, {n.removeprefix("model."): v for n, v in tensors.items() if n.startswith("model.")}, path)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, rest = name.split(".", 2)
            state.setdefault(int(number), {})[rest] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    return Progress(**told)
