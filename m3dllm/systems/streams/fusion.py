"""The fusion of words and frame vectors in one stream or two. The card tells what is guessed."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from m3dllm.systems.supervised.layers import TransformerLayer, with_blank

WORDS, FRAMES = 0, 1
"""The rows of the embedding of modalities."""


class Streams(nn.Module, ABC):
    """The common base: projection of frames, modality embeddings, placeholders for missing modalities.

    words: (batch, n, hidden), frames: (batch, m, hidden), and their masks -> both again, fused.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(hidden, hidden), nn.LayerNorm(hidden))
        self.modality = nn.Embedding(2, hidden)
        nn.init.normal_(self.modality.weight, std=0.02)

    def forward(self, words: Tensor, word_mask: Tensor, frames: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor]:
        n, m = words.shape[1], frames.shape[1]
        words, word_mask = with_blank(words, word_mask)
        frames, frame_mask = with_blank(self.project(frames), frame_mask)
        words, frames = words + self.modality.weight[WORDS], frames + self.modality.weight[FRAMES]
        words, frames = self.fuse(words, word_mask, frames, frame_mask)
        return words[:, :n], frames[:, :m]

    @abstractmethod
    def fuse(self, words: Tensor, word_mask: Tensor, frames: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Each document must have at least one unmasked word and frame."""


class OneStream(Streams):
    """Self-attention over words and frames as one sequence, as in VisualBERT."""

    def __init__(self, hidden: int, *, layers: int, heads: int, dropout: float) -> None:
        super().__init__(hidden)
        self.layers = nn.ModuleList(TransformerLayer(hidden, heads, dropout) for _ in range(layers))

    def fuse(self, words: Tensor, word_mask: Tensor, frames: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor]:
        both, mask = torch.cat([words, frames], 1), _padded(torch.cat([word_mask, frame_mask], 1))
        for layer in self.layers:
            both = layer(both, mask)
        return both[:, : words.shape[1]], both[:, words.shape[1] :]


class Block(nn.Module):
    """Each stream attends to the other, then to itself, as in ViLBERT."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.from_frames, self.from_words = (TransformerLayer(hidden, heads, dropout, crosses=True) for _ in range(2))
        self.words, self.frames = (TransformerLayer(hidden, heads, dropout) for _ in range(2))

    def forward(
        self, words: Tensor, word_mask: Tensor | None, frames: Tensor, frame_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        seen, read = self.from_frames(words, frame_mask, frames), self.from_words(frames, word_mask, words)
        return self.words(seen, word_mask), self.frames(read, frame_mask)


class TwoStreams(Streams):
    """Separate streams of words and frames; two of `layers` make one block."""

    def __init__(self, hidden: int, *, layers: int, heads: int, dropout: float) -> None:
        super().__init__(hidden)
        self.blocks = nn.ModuleList(Block(hidden, heads, dropout) for _ in range(layers // 2))

    def fuse(self, words: Tensor, word_mask: Tensor, frames: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor]:
        of_words, of_frames = _padded(word_mask), _padded(frame_mask)
        for block in self.blocks:
            words, frames = block(words, of_words, frames, of_frames)
        return words, frames


def _padded(mask: Tensor) -> Tensor | None:
    """The mask; None if there is no padding."""
    return None if bool(mask.all()) else mask
