"""The backbone, in which supervised systems differ: from a batch of documents to the states for the heads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from m3dllm.systems.supervised.config import LEVELS
from m3dllm.systems.supervised.data import Batch, MentionBatch
from m3dllm.systems.supervised.features import Features, FrameFeatures, TextFeatures
from m3dllm.systems.supervised.scorers import chain_means, span_means

KINDS = 3
"""How many vectors of a word `States.kinds` has."""


@dataclass(frozen=True, slots=True)
class States:
    """The input of the heads for a batch. A subclass may compute mention and chain vectors differently."""

    words: Tensor
    """(batch, words, hidden)."""
    word_mask: Tensor
    patches: Tensor
    """(batch, frames, patches, hidden): the patches of a frame form a square `grid`, row by row."""
    frames: Tensor
    """(batch, frames, hidden)."""
    frame_mask: Tensor
    aux_losses: Mapping[str, Tensor] = field(default_factory=dict)
    """Losses of the backbone itself, already weighted."""
    encoded: tuple[Features, Features] | None = None
    """Words and patches before fusion, for auxiliary losses that compare them."""

    @property
    def kinds(self) -> Tensor:
        """(batch, words, 3 · hidden): the words, and the low and mid levels of the text encoder before fusion.

        The last layers of many encoders, of those for sentences most of all, say less about a single word. A system
        that does not give its features (`encoded`) has its words in their place.
        """
        levels = (self.words, self.words)
        if self.encoded is not None:
            levels = (self.encoded[0].levels["low"], self.encoded[0].levels["mid"])
        return torch.cat([self.words, *(level.to(self.words.dtype) for level in levels)], -1)

    def mention_vectors(self, mentions: MentionBatch) -> Tensor:
        """(batch, mentions, hidden): the mean of a mention's words."""
        return span_means(self.words, mentions.first, mentions.last)

    def chain_vectors(self, mentions: MentionBatch) -> Tensor:
        """(batch, chains, hidden): the mean of a chain's mentions."""
        return chain_means(self.mention_vectors(mentions), mentions)

    def full(self) -> States:
        """The states in full precision, for heads that compute outside of autocast."""
        return replace(self, words=self.words.float(), patches=self.patches.float(), frames=self.frames.float())


class Backbone(nn.Module, ABC):
    """Encoders and fusion of the two modalities. A system implements `forward`; `features` and `states` are helpers."""

    def __init__(self, config: Any, text: TextFeatures, vision: FrameFeatures | None) -> None:
        """`vision` is None if no frames are read: then there are no patches and no frames."""
        super().__init__()
        self.config, self.text, self.vision = config, text, vision
        self.hidden = text.width
        self.grid = vision.grid if vision is not None else 1

    @abstractmethod
    def forward(self, batch: Batch) -> States:
        """The states of a batch; a document may lack its text or its frames."""

    def features(self, batch: Batch) -> tuple[Features, Features]:
        """Words and patches: (batch, words, hidden), (batch, frames * patches, hidden), each with its levels."""
        words = self.text(batch)
        if self.vision is not None:
            return words, self.vision(batch)
        none = words.last.new_zeros(len(batch), 0, self.hidden)
        return words, Features(none, dict.fromkeys(LEVELS, none), batch.frame_mask[:, :0])

    def states(
        self,
        batch: Batch,
        words: Tensor,
        patches: Tensor,
        *,
        frames: Tensor | None = None,
        aux_losses: Mapping[str, Tensor] | None = None,
        encoded: tuple[Features, Features] | None = None,
    ) -> States:
        """States of words (batch, words, hidden) and patches (batch, frames * patches, hidden).

        `frames` (batch, frames, hidden); default: the means of their patches. `encoded`: the result of `features`.
        """
        mask = batch.frame_mask if self.vision is not None else batch.frame_mask[:, :0]
        shaped = patches.unflatten(1, (mask.shape[1], self.grid**2))
        frames = shaped.mean(2) if frames is None else frames
        return States(words, batch.word_mask, shaped, frames, mask, aux_losses or {}, encoded)
