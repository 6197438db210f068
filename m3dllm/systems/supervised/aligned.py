"""Which chains a frame shows, and what it says of two that it shows together.

The paper has none of this; our presets put it beside eq. 17, because what stands only in a frame concerns the two
things in that frame, which the fused vectors, averaged over many patches, do not tell apart.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from m3dllm.systems.supervised.batch import MentionBatch
from m3dllm.systems.supervised.heads import span_means


class Alignment(nn.Module):
    """How surely a frame shows a chain: the best match of any of its mentions with any patch.

    words: (batch, words, hidden), patches: (batch, frames, patches, hidden) -> logits (batch, chains, frames).
    """

    def __init__(self, hidden: int, size: int) -> None:
        super().__init__()
        self.ask = nn.Linear(hidden, size)
        self.answer = nn.Linear(hidden, size)
        self.bias = nn.Parameter(torch.tensor(-2.0))  # most frames show one or two of all chains

    def forward(self, words: Tensor, patches: Tensor, mentions: MentionBatch) -> Tensor:
        asked = self.ask(span_means(words, mentions.first, mentions.last))  # (batch, mentions, size)
        match = torch.einsum("bms,bfps->bmfp", asked, self.answer(patches)).amax(3)  # (batch, mentions, frames)
        n_chains = mentions.chain_type.shape[1]
        index = mentions.chain[..., None].expand_as(match)
        best = match.new_zeros(len(match), n_chains + 1, match.shape[2])  # the last gathers padding
        best = best.scatter_reduce(1, index, match, "amax", include_self=False)[:, :-1]
        return best / asked.shape[2] ** 0.5 + self.bias


class FrameRelations(nn.Module):
    """What frames say about the two chains that they show: (batch, chains, chains, classes).

    patches: (batch, frames, patches, hidden); shows: (batch, chains, frames), the chance that a frame shows a chain.
    """

    def __init__(self, hidden: int, size: int, classes: int) -> None:
        super().__init__()
        self.look = nn.Linear(hidden, size)
        self.says = nn.Sequential(nn.Linear(size, size), nn.GELU(), nn.Linear(size, classes))

    def forward(self, patches: Tensor, shows: Tensor) -> Tensor:
        says = self.says(nn.functional.gelu(self.look(patches)).amax(2))  # (batch, frames, classes)
        return torch.einsum("bcf,bdf,bft->bcdt", shows, shows, says)
