"""CAG's consistency-adaptive contrast: the more text and frames agree, the lower the temperature."""

from __future__ import annotations

from torch import Tensor

from m3dllm.systems.supervised.auxiliary.base import Contrast, cosines

TEMPERATURE, ALPHA = 0.07, 0.5


class CAG(Contrast):
    """InfoNCE in both directions at the temperatures τ (1 − α Δ), where Δ is how much a text and frames agree.

    Δ is their cosine, rescaled from [−1, 1] to [0, 1], without gradient.
    """

    name = "cag"
    weight = 0.1

    def cost(self, text: Tensor, frames: Tensor) -> Tensor:
        match = cosines(text, frames)
        agreement = (1 + match.detach()) / 2
        logits = match / (TEMPERATURE * (1 - ALPHA * agreement))
        own = logits.diagonal()
        return (logits.logsumexp(1) - own + logits.logsumexp(0) - own).mean() / 2
