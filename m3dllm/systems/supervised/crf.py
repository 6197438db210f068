"""A linear-chain CRF over BIO tags, batched, without a loop over words (eq. 15 and 19).

A sequence's score is a product of one matrix per word in a semiring: (log-sum-exp, +) gives the partition function,
(max, +) the best path. The product is taken pairwise, so n words need log2 n steps; the derivative of the partition
function's log gives the marginals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

NEVER = -1e4
"""The score of the impossible: finite, for finite gradients, and far below the scores of a model."""
AT_ONCE = 1 << 20
"""Sums that a (max, +) product of matrices compares at once: what a processor's cache holds."""


def bio_tags(types: Sequence[str]) -> tuple[str, ...]:
    """O, then B- and I- of each type."""
    return ("O", *(f"{prefix}-{name}" for name in types for prefix in "BI"))


class PathMarginals(NamedTuple):
    """The probabilities of the steps of a path, each (batch, words), float64; 0 on padding.

    Given the emissions, the tags of a linear-chain CRF are a Markov chain (Lafferty et al. 2001): the probability of a
    part of the path is that of its first tag times those of the following steps.
    """

    tag: Tensor
    """P(the word's tag)."""
    step: Tensor
    """P(the word's tag | the previous word's tag); 0 at the first word."""
    goes_on: Tensor
    """P(the word's mention continues at the next word | the word's tag)."""


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

        Words come before padding; the loss of an empty sequence is 0.
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
        """log of the sum of exp(score) over all paths: (batch,). Summed in float64, see `log_matmul`."""
        if emissions.shape[1] == 0:
            return emissions.new_zeros(len(emissions))
        scores = emissions.double()
        total = self._log_total(self.start + self.start_penalty + scores[:, 0], self._steps(scores, mask))
        return total.float() * mask[:, 0]

    @torch.no_grad()
    def decode(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The best path's tags, 0 on padding: (batch, words).

        The best scores of ever longer stretches by their outer tags, then from the whole down the tags at which the
        two halves of each stretch meet.
        """
        if emissions.shape[1] == 0:
            return mask.long()
        emissions = emissions.float()
        levels = [self._steps(emissions, mask)]
        while levels[-1].shape[1] > 1:
            levels.append(max_product(*self._pairs(levels[-1])))
        whole = (self.start + self.start_penalty + emissions[:, 0])[:, :, None]  # (batch, first tag, last tag)
        if levels[-1].shape[1] == 0:
            return (whole[..., 0] + self.end).argmax(1, keepdim=True) * mask
        best, n = (whole + levels[-1][:, 0] + self.end).flatten(1).argmax(1), len(self.end)
        tags = torch.stack([best // n, best % n], 1)
        for level in reversed(levels[:-1]):
            left, right = self._pairs(level)
            before = left.take_along_dim(tags[:, :-1, None, None], 2)[:, :, 0]
            behind = right.take_along_dim(tags[:, 1:, None, None], 3)[..., 0]
            met = torch.stack([tags[:, :-1], (before + behind).argmax(2)], 2).flatten(1)
            tags = torch.cat([met, tags[:, -1:]], 1)[:, : level.shape[1] + 1]
        return tags * mask

    @torch.no_grad()
    def marginals(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> PathMarginals:
        """The marginals along the path `tags`, by forward-backward.

        As the derivative of the log partition function by the scores of a step from tag to tag, which is the
        probability of that step (Eisner 2016); in float64, where a product of many small numbers stays above 0.
        """
        batch, words, n = emissions.shape
        if words == 0:
            return PathMarginals(*torch.zeros(3, batch, 0, dtype=torch.float64))
        scores = emissions.double()
        first = (self.start + self.start_penalty + scores[:, 0]).requires_grad_()  # (batch, tags)
        steps = self._steps(scores, mask).requires_grad_()  # (batch, words - 1, from, to)
        with torch.enable_grad():
            total = self._log_total(first, steps)
            start, joint = torch.autograd.grad(total.sum(), (first, steps), materialize_grads=True)
        to = joint.gather(3, tags[:, 1:, None, None].expand(-1, -1, n, 1))[..., 0]  # (batch, words - 1, from)
        own = joint.gather(2, tags[:, :-1, None, None].expand(-1, -1, 1, n))[:, :, 0]  # (batch, words - 1, to)
        tag = torch.cat([start.gather(1, tags[:, :1]), to.sum(2)], 1)
        inside = tags + tags % 2
        sure = tag.clamp(min=torch.finfo(tag.dtype).tiny)[:, :-1]
        step = to.gather(2, tags[:, :-1, None])[..., 0] / sure
        goes_on = own.gather(2, inside[:, :-1, None])[..., 0] / sure * mask[:, 1:]
        none = tag.new_zeros(batch, 1)
        parts = tag * mask, torch.cat([none, step], 1) * mask, torch.cat([goes_on, none], 1)
        return PathMarginals(*(part.clamp(0, 1) for part in parts))

    def _steps(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The matrices of all words but the first, (batch, words - 1, from, to); the semiring's one on padding."""
        steps = self.transitions + self.penalty + emissions[:, 1:, None, :]
        return torch.where(mask[:, 1:, None, None], steps, self._one())

    def _one(self) -> Tensor:
        return torch.full_like(self.transitions, NEVER).fill_diagonal_(0)

    def _pairs(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """The matrices at even and at odd positions, equally many."""
        if steps.shape[1] % 2:
            steps = torch.cat([steps, self._one().to(steps.dtype).expand(len(steps), 1, -1, -1)], 1)
        return steps[:, 0::2], steps[:, 1::2]

    def _log_total(self, first: Tensor, steps: Tensor) -> Tensor:
        """log of the sum over all paths: from the first word's scores (batch, tags) and the `_steps`: (batch,)."""
        while steps.shape[1] > 1:
            steps = log_matmul(*self._pairs(steps))
        total = log_matmul(first[:, None], steps[:, 0])[:, 0] if steps.shape[1] else first
        return (total + self.end).logsumexp(1)


def max_product(left: Tensor, right: Tensor) -> Tensor:
    """The product of two matrices, in the last two dimensions, in (max, +); of many tags few matrices at a time."""
    size = max(1, AT_ONCE // left.shape[-1] ** 3)
    turned = right.transpose(2, 3).contiguous().flatten(0, 1)
    parts = zip(left.flatten(0, 1).split(size), turned.split(size), strict=True)
    return torch.cat([(a[:, :, None] + b[:, None]).amax(3) for a, b in parts]).unflatten(0, left.shape[:2])


def log_matmul(left: Tensor, right: Tensor) -> Tensor:
    """log of the product of two matrices given as logs, in the last two dimensions; below e**-700 counts as 0."""
    rows, columns = left.detach().amax(-1, keepdim=True), right.detach().amax(-2, keepdim=True)
    product = (left - rows).exp() @ (right - columns).exp()
    return product.clamp(min=torch.finfo(product.dtype).tiny).log() + rows + columns
