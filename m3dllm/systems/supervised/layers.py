"""Building blocks of fusions: attention, transformer layer, frame vectors, placeholder for a missing modality."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from m3dllm.errors import UserError
from m3dllm.rng import Dropout


class Attention(nn.Module):
    """Multi-head attention without biases: a bias of keys would change nothing, and have no gradient.

    queries: (batch, n, size), keys and values: (batch, m, size), mask: (batch, m) -> (batch, n, size). Without a mask,
    if nothing is padding, a kernel without memory for the scores is used. A prefix (batch, p, 2 * size) of concatenated
    keys and values precedes the projected ones; the mask is then (batch, p + m).
    """

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        if size % heads:
            raise UserError(f"--attention-heads {heads}: does not divide the width of the states, {size}")
        self.heads, self.dropout = heads, Dropout(dropout)
        self.query, self.key, self.value, self.out = (nn.Linear(size, size, bias=False) for _ in range(4))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, prefix: Tensor | None = None) -> Tensor:
        q, k, v = self.query(q), self.key(k), self.value(v)
        if prefix is not None:
            first_k, first_v = prefix.to(k.dtype).chunk(2, -1)
            k, v = torch.cat([first_k, k], 1), torch.cat([first_v, v], 1)
        q, k, v = self._split(q), self._split(k), self._split(v)
        seen = None if mask is None else mask[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (batch, heads, n, size / heads)


class TransformerLayer(nn.Module):
    """A pre-norm transformer layer with self-attention, or (`crosses`) attention to another source.

    x: (batch, n, size), source: (batch, m, size), mask of the source: (batch, m) -> (batch, n, size). A
    prefix of keys and values as in `Attention`.
    """

    def __init__(self, size: int, heads: int, dropout: float, *, crosses: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.source_norm = nn.LayerNorm(size) if crosses else None
        self.attention = Attention(size, heads, dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(size), nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size), Dropout(dropout)
        )

    def forward(
        self, x: Tensor, mask: Tensor | None, source: Tensor | None = None, prefix: Tensor | None = None
    ) -> Tensor:
        normed = self.norm(x)
        seen = normed if self.source_norm is None else self.source_norm(source)
        x = x + self.attention(normed, seen, seen, mask, prefix)
        return x + self.feed_forward(x)


class FrameVectors(nn.Module):
    """Patches to frames: their average plus the frame's temporal position (eq. 12)."""

    def __init__(self, hidden: int, max_frames: int) -> None:
        super().__init__()
        self.positions = nn.Embedding(max_frames, hidden)  # H^p
        nn.init.normal_(self.positions.weight, std=0.02)

    def forward(self, patches: Tensor) -> Tensor:
        """(batch, frames, patches, hidden) -> (batch, frames, hidden); frames past the last position share it."""
        return patches.mean(2) + self.places(patches.shape[1])

    def places(self, n_frames: int) -> Tensor:
        """(frames, hidden): the embeddings of the first positions."""
        place = torch.arange(n_frames, device=self.positions.weight.device)
        return self.positions(place.clamp(max=self.positions.num_embeddings - 1))


def with_blank(vectors: Tensor, mask: Tensor, blank: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Append a placeholder vector, unmasked only for documents without the modality, so that none is empty.

    vectors: (batch, n, hidden), mask: (batch, n) -> the same with n + 1, or unchanged if no document lacks it.
    blank: (hidden,), default zeros.
    """
    lacking = ~mask.any(1, keepdim=True)
    if not lacking.any():
        return vectors, mask
    one = vectors.new_zeros(vectors.shape[2]) if blank is None else blank.to(vectors.dtype)
    return torch.cat([vectors, one.expand(len(vectors), 1, -1)], 1), torch.cat([mask, lacking], 1)
