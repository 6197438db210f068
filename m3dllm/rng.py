"""Random numbers of a model in training, from one generator per thread.

So several threads can compute parts of one step, and the result does not depend on their timing. Outside of `seeded`,
and on a GPU, torch's own generator is used.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_THREAD = threading.local()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of this thread are drawn from `seed`."""
    before = getattr(_THREAD, "generator", None)
    _THREAD.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        _THREAD.generator = before


def generator_for(device: torch.device) -> torch.Generator | None:
    """This thread's generator; None, for torch's own, on a GPU or outside of `seeded`."""
    found: torch.Generator | None = getattr(_THREAD, "generator", None)
    return found if device.type == "cpu" else None


def rand(shape: Sequence[int], device: torch.device) -> Tensor:
    """Uniform numbers in 0 to 1."""
    return torch.rand(tuple(shape), device=device, generator=generator_for(device))


class Dropout(nn.Dropout):
    """Dropout that draws one byte per value, with `p` in 256ths: drawing dominates the time of dropout on a CPU."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        generator = generator_for(input.device)
        if not self.training or self.p == 0 or generator is None:
            return super().forward(input)
        n, limit = input.numel(), min(round(256 * self.p), 255)
        words = torch.empty((n + 7) // 8, dtype=torch.int64).random_(-(1 << 63), None, generator=generator)
        kept = words.view(torch.uint8)[:n].view(input.shape) >= limit
        return input * kept.to(input.dtype).mul_(256 / (256 - limit))
