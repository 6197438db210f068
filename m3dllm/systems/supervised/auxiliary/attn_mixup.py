"""I2SRM's AttnMixup: attention among pairs, and mixup of pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from m3dllm.rng import rand
from m3dllm.systems.supervised.auxiliary.base import Auxiliary
from m3dllm.systems.supervised.backbone import States
from m3dllm.systems.supervised.data import Gold
from m3dllm.systems.supervised.heads import Head, Samples
from m3dllm.systems.supervised.layers import TransformerLayer
from m3dllm.systems.supervised.losses import GoldBatch

MOST = 64
"""The most pairs of a batch per head, half of them positive (related, or coreferent) if there are enough."""
SHARE = 0.7
"""δ: the share of the pairs R and R' that is mixed."""
HEADS, DROPOUT = 4, 0.2


class AttnMixup(Auxiliary):
    """For each head over pairs: cross-entropy of the pairs R, of R', the output of a transformer layer on the pairs as
    a sequence, and of mixtures of two of these, with targets mixed alike.
    """

    name = "attn-mixup"
    reads_frames = False

    def __init__(self, hidden: int, heads: Sequence[Head]) -> None:
        super().__init__(hidden, heads)
        widths = {head.task: head.sample_width for head in heads if head.sample_width}
        self.layers = nn.ModuleDict(
            {task: TransformerLayer(width, math.gcd(HEADS, width), DROPOUT) for task, width in widths.items()}
        )

    def counts(self, gold: Gold) -> bool:
        return len(gold.mentions) > 1 and not {"chain", "relation"} <= gold.unannotated

    def forward(self, states: States, gold: GoldBatch, heads: Sequence[Head]) -> Tensor:
        total = states.words.new_zeros((), dtype=torch.float32)
        for head in heads:
            samples = head.samples(states, gold, MOST) if head.task in self.layers else None
            if samples is not None:
                total = total + self.cost(head, samples)
        return total

    def cost(self, head: Head, samples: Samples) -> Tensor:
        """The loss of the pairs of one head, at least one."""
        n, device = len(samples.vectors), samples.vectors.device
        both = torch.cat([samples.vectors, self.layers[head.task](samples.vectors[None], None)[0]])  # R, R'
        pair = torch.arange(n, device=device).repeat(2)
        plain = head.sample_losses(both, samples, pair).mean()
        kept = max(round(SHARE * n), 1)
        chosen = torch.cat([torch.arange(kept, device=device), torch.arange(2 * n - kept, 2 * n, device=device)])
        other = chosen[rand((2 * kept,), device).argsort()]
        share = rand((1,), device)  # λ ~ Beta(1, 1)
        mixed = share * both[chosen] + (1 - share) * both[other]
        first, second = (head.sample_losses(mixed, samples, pair[one]).mean() for one in (chosen, other))
        return plain + (share * first + (1 - share) * second)[0]
