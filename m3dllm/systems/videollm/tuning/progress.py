"""A fit that is not finished, on disk, as safetensors: the weights that learn, the optimizer, and the best weights.

`training.safetensors` is the state after some step, `best.safetensors` the weights of the best epoch so far. Each is
written whole or not at all, so a full disk or a kill leaves the last good one; the state is written first, and where it
is that of the best epoch, the best weights are its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from m3dllm.errors import UserError
from m3dllm.weights import fill as put
from m3dllm.weights import read_weights, restore_state, save_state, write_weights

TRAINING, BEST = "training.safetensors", "best.safetensors"
AGAIN = f"remove it and whatever is beside it of '{TRAINING}' and '{BEST}', and fit again"


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
    def is_best(self) -> bool:
        """Whether this is the end of the best epoch."""
        return 0 < self.best_epoch == self.epoch and self.step == 0

    @property
    def waiting(self) -> int:
        """Epochs since the best one."""
        return self.epoch - self.best_epoch


def weights_of(model: Any) -> dict[str, Tensor]:
    """The weights that learn."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def fill(model: Any, weights: Mapping[str, Tensor], path: Path) -> None:
    """Put `weights` into those that learn. Raises UserError where names or shapes differ."""
    put(weights_of(model), weights, path, remedy=AGAIN)


def read_state(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """(header, tensors). Raises UserError where the file is damaged."""
    return read_weights(path, remedy=AGAIN)


def keep_best(folder: Path, model: Any) -> None:
    """Write the weights that learn as those of the best epoch."""
    write_weights(folder / BEST, weights_of(model))


def take_best(folder: Path, model: Any) -> None:
    """Put the weights of the best epoch into `model`. Raises UserError where they are missing or damaged."""
    path = folder / BEST
    if not path.is_file():
        raise UserError.at(path, f"is missing: remove '{TRAINING}' beside it, and fit again")
    fill(model, read_state(path)[1], path)


def save_progress(folder: Path, progress: Progress, model: Any, optimizer: torch.optim.Optimizer) -> None:
    """Write the state in one step."""
    save_state(folder / TRAINING, asdict(progress), weights_of(model), optimizer)


def load_progress(folder: Path, fingerprint: str, model: Any, optimizer: torch.optim.Optimizer) -> Progress | None:
    """The state that `save_progress` wrote, put into model and optimizer; None where there is none.

    Raises UserError where it is damaged, or of another fit.
    """
    path = folder / TRAINING
    if not path.exists():
        return None
    header, tensors = read_state(path)
    other = "options, documents or model: remove it, or name another --out"
    own = weights_of(model)
    told = restore_state(path, header, tensors, fingerprint, own, optimizer, other=other, remedy=AGAIN)
    return Progress(**told)
