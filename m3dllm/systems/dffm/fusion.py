"""The denoised feature fusion module (DFFM), section V-D: eq. 8 to 11.

One modality gives the queries (Q), the levels of the other keys and values (K, V), in a latent space small enough to
lose the noise. The two directions are two `Fusion`s; which features are queries, and what replaces a missing
modality, is not decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from m3dllm.rng import Dropout, generator_for
from m3dllm.systems.supervised.layers import Attention


@dataclass(frozen=True, slots=True)
class Fused:
    """Fused features (batch, queries, hidden), and the loss of the latent space, 0 for a plain autoencoder."""

    features: Tensor
    penalty: Tensor


class Latent(nn.Module):
    """The autoencoder of eq. 8 and 10, variational or plain.

    encode: (…, hidden) -> (…, latent); decode: (…, latent) -> (…, hidden).
    """

    def __init__(self, hidden: int, size: int, *, kind: Literal["ae", "vae"], kl: float, reconstruction: float) -> None:
        super().__init__()
        self.kind, self.kl, self.reconstruction = kind, kl, reconstruction
        self.down = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU())
        self.mean = nn.Linear(hidden, size)
        self.log_variance = nn.Linear(hidden, size) if kind == "vae" else None
        self.decode = nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, hidden))

    def forward(self, x: Tensor, mask: Tensor | None = None, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(the code of x, its penalty); `mask` (…,): the vectors that count in the penalty.

        The penalty is kl · KL(q(z|x) ‖ N(0, 1)) + reconstruction · mean (x − decode(z))², 0 for a plain autoencoder.
        With `before` (hidden, hidden) it is the code of `before` x: two linear maps merged into one, for half the work.
        """
        first: Any = self.down[0]
        weight = first.weight if before is None else first.weight @ before
        inner = F.relu(F.linear(x, weight, first.bias))
        mean = self.mean(inner)
        if self.log_variance is None:
            return mean, x.new_zeros(())
        if before is not None:
            x = F.linear(x, before)
        log_variance = self.log_variance(inner).clamp(-10, 10)
        code = mean
        if self.training:
            noise = torch.empty_like(mean).normal_(generator=generator_for(mean.device))
            code = mean + noise * (0.5 * log_variance).exp()
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean(-1)
        error = ((x.detach() - self.decode(code)) ** 2).mean(-1)
        costs = self.kl * divergence + self.reconstruction * error
        return code, costs.mean() if mask is None else costs[mask].mean()


class Level(nn.Module):
    """One level λ of one direction, in its latent space: eq. 8 and 9. Its encoder is shared by Q, K and V.

    -> (batch, n, latent); `Fusion` decodes it.
    """

    def __init__(self, hidden: int, latent: Latent, *, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.latent = latent
        self.key = nn.Linear(hidden, hidden, bias=False)  # W_λ^K
        self.value = nn.Linear(hidden, hidden, bias=False)  # W_λ^V
        self.attention = Attention(size, heads, dropout)
        self.feed_forward = nn.Sequential(
            nn.Linear(size, 4 * size), nn.ReLU(), Dropout(dropout), nn.Linear(4 * size, size)
        )

    def forward(self, queries: Tensor, query_mask: Tensor, source: Tensor, mask: Tensor) -> Fused:
        """queries: (batch, n, hidden), source: (batch, m, hidden), masks: (batch, n), (batch, m)."""
        q, cost_q = self.latent(queries, query_mask)  # eq. 8
        k, cost_k = self.latent(source, mask, before=self.key.weight)
        v, cost_v = self.latent(source, mask, before=self.value.weight)
        mixed = q + self.attention(q, k, v, mask)  # eq. 9: (batch, n, latent)
        return Fused(mixed + self.feed_forward(mixed), cost_q + cost_k + cost_v)


class Fusion(nn.Module):
    """One direction: the levels of one modality into the features of the other (eq. 11)."""

    def __init__(
        self,
        hidden: int,
        *,
        levels: Sequence[str],
        size: int,
        heads: int,
        dropout: float,
        kind: Literal["ae", "vae"] = "ae",
        kl: float = 0.0,
        reconstruction: float = 0.0,
    ) -> None:
        super().__init__()

        def level() -> Level:
            latent = Latent(hidden, size, kind=kind, kl=kl, reconstruction=reconstruction)
            return Level(hidden, latent, size=size, heads=heads, dropout=dropout)

        self.levels = nn.ModuleDict({name: level() for name in levels})
        self.weights = nn.ModuleDict({name: nn.Linear(hidden, hidden, bias=False) for name in levels})  # W_λ^x
        self.own = nn.Linear(hidden, hidden, bias=False)  # W^x
        nn.init.eye_(self.own.weight)  # fusion begins as a correction of the modality's own features

    def forward(self, queries: Tensor, query_mask: Tensor, source: Mapping[str, Tensor], mask: Tensor) -> Fused:
        """queries: (batch, n, hidden); source[λ]: (batch, m, hidden); each row has at least one unmasked vector."""
        parts = {name: level(queries, query_mask, source[name], mask) for name, level in self.levels.items()}
        inner, maps, biases = [queries], [self.own.weight], []
        for name, part in parts.items():
            modules: Any = self.levels[name]
            first, _, last = modules.latent.decode  # eq. 10
            weight = self.weights[name].weight
            inner.append(F.relu(first(part.features)))
            maps.append(weight @ last.weight)
            biases.append(weight @ last.bias)
        fused = F.linear(torch.cat(inner, -1), torch.cat(maps, 1), torch.stack(biases).sum(0))  # eq. 11
        return Fused(fused, torch.stack([part.penalty for part in parts.values()]).sum())
