"""I2SRM's prior: the fused text as a distribution that the frames should follow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from m3dllm.systems.supervised.auxiliary.base import Auxiliary
from m3dllm.systems.supervised.backbone import States
from m3dllm.systems.supervised.features import Features
from m3dllm.systems.supervised.heads import Head
from m3dllm.systems.supervised.losses import GoldBatch, average


class KLPrior(Auxiliary):
    """KL(softmax(text) ‖ softmax(W frames)): text is the mean of the fused words, frames that of unfused patches.

    No gradient goes into the text, so that the frames move towards it.
    """

    name = "kl-prior"
    weight = 0.5

    def __init__(self, hidden: int, heads: Sequence[Head]) -> None:
        super().__init__(hidden, heads)
        self.project = nn.Linear(hidden, hidden)

    def forward(self, states: States, gold: GoldBatch, heads: Sequence[Head]) -> Tensor:
        words, patches = self.encoded(states)
        text = Features(states.words, {}, words.mask).mean().detach().float().log_softmax(-1)
        frames = self.project(patches.mean()).float().log_softmax(-1)
        each = F.kl_div(frames, text, reduction="none", log_target=True).sum(-1)
        both = words.mask.any(1) & patches.mask.any(1)
        return average(torch.where(both, each, torch.zeros_like(each)), both)
