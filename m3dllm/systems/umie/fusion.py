"""The visual encoder and the gated attention of UMIE (eq. 4 to 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from m3dllm.systems.generative.rows import Rows
from m3dllm.systems.supervised.layers import TransformerLayer

LAYERS = 2
"""Transformer layers of the visual encoder (eq. 5)."""
GATE_SIZES = (384, 128)
"""The widths of the two projections of the code's gate."""


class VisualEncoder(nn.Module):
    """Frames and candidates as vectors: a linear map of features, one of positions, then two layers (eq. 4 and 5)."""

    def __init__(self, width: int, heads: int, dropout: float, max_frames: int) -> None:
        super().__init__()
        self.features, self.boxes = nn.Linear(width, width), nn.Linear(5, width)
        self.feature_norm, self.box_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.frames = nn.Embedding(max_frames, width)
        nn.init.normal_(self.frames.weight, std=0.02)
        self.layers = nn.ModuleList(TransformerLayer(width, heads, dropout) for _ in range(LAYERS))

    def forward(self, rows: Rows, names: Tensor) -> Tensor:
        """Rows and the vectors of candidates' names (candidates, width) -> h^v (queries, rows, width)."""
        x = self.feature_norm(self.features(rows.features)) + self.box_norm(self.boxes(rows.boxes))
        x = x + self.frames(rows.frame.clamp(max=self.frames.num_embeddings - 1))
        x = x + names[rows.candidate.clamp(min=0)] * (rows.candidate >= 0)[..., None]
        for layer in self.layers:
            x = layer(x, rows.mask)
        return x


class PaperGate(nn.Module):
    """Eq. 6 to 8: M = softmax(Q K^T / sqrt(d)) V, g = LeakyReLU(mean(K) · mean(Q)); Q is the text, K and V the rows."""

    def forward(self, text: Tensor, text_mask: Tensor, rows: Tensor, row_mask: Tensor) -> tuple[Tensor, Tensor]:
        """(queries, places, width), (queries, rows, width) and their masks -> (c of the same shape, g (queries,))."""
        seen = F.scaled_dot_product_attention(text, rows, rows, attn_mask=row_mask[:, None, :])
        gate = F.leaky_relu((masked_mean(rows, row_mask) * masked_mean(text, text_mask)).sum(-1))
        return text + gate[:, None, None] * seen, gate


class CodeGate(nn.Module):
    """The authors' code: M of a cross-attention layer with feed-forward; g from the cosine of two projected means."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.look = TransformerLayer(width, heads, dropout, crosses=True)
        self.text, self.rows = (self._projection(width, GATE_SIZES) for _ in range(2))

    @staticmethod
    def _projection(width: int, sizes: Sequence[int]) -> nn.Sequential:
        first, last = sizes
        return nn.Sequential(nn.Linear(width, first, bias=False), nn.Linear(first, last, bias=False))

    def forward(self, text: Tensor, text_mask: Tensor, rows: Tensor, row_mask: Tensor) -> tuple[Tensor, Tensor]:
        """As `PaperGate`."""
        seen = self.look(text, row_mask, rows)
        of_text = masked_mean(self.text(text), text_mask)
        of_rows = masked_mean(self.rows(rows), row_mask)
        cosine = F.cosine_similarity(of_text.float(), of_rows.float(), dim=-1)
        gate = F.leaky_relu(F.leaky_relu(cosine * math.exp(0.5))).to(text.dtype)
        return text + gate[:, None, None] * seen, gate


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """The mean without padding: (batch, n, width), (batch, n) -> (batch, width)."""
    share = mask.to(x.dtype) / mask.sum(1, keepdim=True).clamp(min=1)
    return torch.einsum("bn,bnh->bh", share, x)
