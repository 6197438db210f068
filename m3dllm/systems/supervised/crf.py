"""A linear-chain CRF over BIO tags, batched, without a loop over words (eq. 15 and 19).

A sequence's score is a product of one matrix a word in a semiring: (log-sum-exp, +) gives the partition function,
(max, +) the best path. The product is taken pairwise, so n words need log2 n steps; the derivative of the best score by
the emissions is the best path itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

NEVER = -1e4
"""The score of what is impossible: finite, so that gradients are; far below the scores of a model."""


def bio_tags(types: Sequence[str]) -> tuple[str, ...]:
    """O, then B- and I- of each type."""
    return ("O", *(f"{prefix}-{name}" for name in types for prefix in "BI"))


class CRF(nn.Module):
    """Tag sequences over `n_types` mention types: tag 0 is O, 1 + 2t begins type t, 2 + 2t continues it."""

    penalty: Tensor
    start_penalty: Tensor

    def __init__(self, n_types: int) -> None:
        super().__init__()
        n = 1 + 2 * n_types
        self.transitions = nn.Parameter(0.1 * torch.randn(n, n))  # (from, to)
        self.start = nn.Parameter(0.1 * torch.randn(n))
        self.end = nn.Parameter(0.1 * torch.randn(n))
        inside = torch.arange(2, n, 2)
        penalty = torch.zeros(n, n)
        penalty[:, inside] = NEVER  # an I follows only its own B or I
        penalty[inside - 1, inside] = 0
        penalty[inside, inside] = 0
        start_penalty = torch.zeros(n)
        start_penalty[inside] = NEVER
        self.register_buffer("penalty", penalty, persistent=False)
        self.register_buffer("start_penalty", start_penalty, persistent=False)

    def nll(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """-log p(tags) of each sequence. emissions: (batch, words, tags); tags, mask: (batch, words) -> (batch,).

        A sequence's words stand before its padding; a sequence without words costs 0.
        """
        if emissions.shape[1] == 0:
            return emissions.new_zeros(len(emissions), dtype=torch.float32)
        emissions = emissions.float()
        return self.log_partition(emissions, mask) - self.path_score(emissions, tags, mask)

    def path_score(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """The score of the given path: (batch,)."""
        real = mask.to(emissions.dtype)
        transitions, start = self.transitions + self.penalty, self.start + self.start_penalty
        words = (emissions.gather(2, tags[..., None])[..., 0] * real).sum(1)
        steps = (transitions[tags[:, :-1], tags[:, 1:]] * real[:, 1:]).sum(1)
        last = tags.gather(1, (mask.sum(1, keepdim=True) - 1).clamp(min=0))[:, 0]
        return words + steps + (start[tags[:, 0]] + self.end[last]) * real[:, 0]

    def log_partition(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """log of the sum of exp(score) over all paths: (batch,)."""
        return self._total(emissions.float(), mask, lambda x, dim: x.logsumexp(dim))

    def best_score(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The score of the best path: (batch,)."""
        return self._total(emissions.float(), mask, lambda x, dim: x.max(dim).values)

    def decode(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The best path's tags, 0 on padding: (batch, words)."""
        if emissions.shape[1] == 0:
            return mask.long()
        with torch.enable_grad():
            scores = emissions.detach().float().requires_grad_()
            (path,) = torch.autograd.grad(self.best_score(scores, mask).sum(), scores)
        return path.argmax(2) * mask

    def _total(self, emissions: Tensor, mask: Tensor, add: Callable[[Tensor, int], Tensor]) -> Tensor:
        batch, words, n = emissions.shape
        if words == 0:
            return emissions.new_zeros(batch)
        transitions, start = self.transitions + self.penalty, self.start + self.start_penalty
        steps = transitions + emissions[:, 1:, None, :]  # (batch, words - 1, from, to)
        nothing = torch.full_like(transitions, NEVER).fill_diagonal_(0)  # the semiring's one
        steps = torch.where(mask[:, 1:, None, None], steps, nothing)
        while steps.shape[1] > 1:
            if steps.shape[1] % 2:
                steps = torch.cat([steps, nothing.expand(batch, 1, n, n)], 1)
            steps = add(steps[:, 0::2, :, :, None] + steps[:, 1::2, None, :, :], 3)
        total = start + emissions[:, 0]  # (batch, tags)
        if steps.shape[1]:
            total = add(total[:, :, None] + steps[:, 0], 1)
        return add(total + self.end, 1) * mask[:, 0]
