"""The hierarchical visual prefix: levels of frames as keys and values before those of the words."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from m3dllm.systems.supervised.layers import TransformerLayer, with_blank

CELLS = 2
"""A frame is averaged to CELLS × CELLS cells."""


class PrefixedWords(nn.Module):
    """Transformer layers over words that also attend to a prefix, computed from the levels of the frames per layer.

    words: (batch, n, hidden), their mask (batch, n), levels: (batch, frames, patches, levels * hidden), frame mask
    (batch, frames) -> (batch, n, hidden).
    """

    def __init__(
        self, hidden: int, *, grid: int, n_levels: int, layers: int, size: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.grid, self.n_levels = grid, n_levels
        self.cells = min(CELLS, grid) ** 2
        self.no_frames = nn.Parameter(0.02 * torch.randn(self.cells * n_levels * hidden))
        self.guide = nn.Sequential(
            nn.Linear(n_levels * hidden, size), nn.Tanh(), nn.Linear(size, n_levels * 2 * hidden)
        )
        self.gates = nn.ModuleList(nn.Linear(self.cells * 2 * hidden, n_levels) for _ in range(layers))
        self.layers = nn.ModuleList(TransformerLayer(hidden, heads, dropout) for _ in range(layers))

    def forward(self, words: Tensor, word_mask: Tensor, levels: Tensor, frame_mask: Tensor) -> Tensor:
        cells, frame_mask = with_blank(self.pooled(levels), frame_mask, self.no_frames)
        guides = self.guide(cells.unflatten(2, (self.cells, -1)))  # (batch, frames, cells, levels * 2 hidden)
        guides = guides.unflatten(-1, (self.n_levels, -1))
        whole = guides.mean(3).flatten(2)  # (batch, frames, cells * 2 hidden)
        mask = torch.cat([frame_mask.repeat_interleave(self.cells, 1), word_mask], 1)
        for gate, layer in zip(self.gates, self.layers, strict=True):
            share = F.leaky_relu(gate(whole)).softmax(-1)  # (batch, frames, levels)
            prefix = torch.einsum("bfl,bfcld->bfcd", share, guides).flatten(1, 2)
            words = layer(words, mask, prefix=prefix)
        return words

    def pooled(self, levels: Tensor) -> Tensor:
        """(batch, frames, cells * levels * hidden): the patches of each cell averaged, cell by cell."""
        batch, frames = levels.shape[:2]
        square = levels.flatten(0, 1).transpose(1, 2).unflatten(2, (self.grid, self.grid))
        cells = F.adaptive_avg_pool2d(square, min(CELLS, self.grid)).flatten(2).transpose(1, 2)
        return cells.flatten(1).unflatten(0, (batch, frames))
