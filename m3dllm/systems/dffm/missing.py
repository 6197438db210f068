"""The missing modality construction module (MMCM), section V-E: eq. 13 and 14.

From the features of the present modality, `Construction` makes the levels of the missing one; `Blank` is the ablation,
a zero vector. Both return a source for `fusion.Fusion`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Construction(nn.Module):
    """One direction: from the one modality the low, mid and high features of the other.

    x: (batch, n, hidden), mask: (batch, n) -> levels of (batch, prompt + n, hidden), mask (batch, prompt + n).
    Both convolutions have kernels of 3; padding is set to zero before each, so that results do not depend on the batch.
    """

    def __init__(self, hidden: int, *, levels: Sequence[str], prompt_length: int) -> None:
        super().__init__()
        self.prompts = nn.ParameterDict({name: 0.02 * torch.randn(prompt_length, hidden) for name in levels})  # P_λ
        self.shared = nn.Conv1d(hidden, hidden, 3, padding=1)  # Conv
        self.own = nn.ModuleDict({name: nn.Conv1d(hidden, hidden, 3, padding=1) for name in levels})  # Conv_λ

    def forward(self, x: Tensor, mask: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        keep = mask[..., None].to(x.dtype)
        seen = torch.relu(self._along(self.shared, x * keep)) * keep
        n_prompt = next(iter(self.prompts.values())).shape[0]
        known = torch.cat([mask.new_ones(len(mask), n_prompt), mask], 1)
        made = {}
        for name, prompt in self.prompts.items():
            both = torch.cat([prompt.to(seen.dtype).expand(len(x), -1, -1), seen], 1)  # eq. 13
            made[name] = torch.relu(self._along(self.own[name], both))  # eq. 14
        return made, known

    @staticmethod
    def _along(convolution: nn.Module, x: Tensor) -> Tensor:
        return convolution(x.transpose(1, 2)).transpose(1, 2)


class Blank(nn.Module):
    """One zero vector for the missing modality (the ablation of the paper's section VII-B)."""

    def __init__(self, *, levels: Sequence[str]) -> None:
        super().__init__()
        self.levels = tuple(levels)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        zero = x.new_zeros(len(x), 1, x.shape[2])
        return dict.fromkeys(self.levels, zero), mask.new_ones(len(mask), 1)
