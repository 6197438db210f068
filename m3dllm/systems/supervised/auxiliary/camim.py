"""CAMIM's mutual information maximization, between a document's text and its frames."""

from __future__ import annotations

import torch
from torch import Tensor

from m3dllm.systems.supervised.auxiliary.base import Contrast, cosines


class CAMIM(Contrast):
    """InfoNCE of cosines at temperature 1: a text should match the frames of its document before those of others."""

    name = "camim"
    weight = 0.1

    def cost(self, text: Tensor, frames: Tensor) -> Tensor:
        match = cosines(torch.tanh(text), torch.tanh(frames))
        return (match.logsumexp(1) - match.diagonal()).mean()
