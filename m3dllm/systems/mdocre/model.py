"""The backbone of `mdocre-hn-like`."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import nn

from m3dllm.systems.mdocre import Config
from m3dllm.systems.mdocre.fusion import Contrast, GatedStates, Hierarchy, MentionGate
from m3dllm.systems.mdocre.sentences import sentences_of
from m3dllm.systems.supervised.backbone import Backbone, States
from m3dllm.systems.supervised.data import Batch
from m3dllm.systems.supervised.features import FrameFeatures, TextFeatures
from m3dllm.systems.supervised.layers import FrameVectors, with_blank
from m3dllm.systems.supervised.system import Supervised


class MDocREBackbone(Backbone):
    """Words and frame vectors through the hierarchy; mentions and chains through the gate."""

    def __init__(self, config: Config, text: TextFeatures, vision: FrameFeatures | None) -> None:
        super().__init__(config, text, vision)
        if vision is None:
            return
        heads, dropout = config.attention_heads, config.dropout
        self.no_words, self.no_frames = (nn.Parameter(0.02 * torch.randn(self.hidden)) for _ in range(2))
        self.hierarchy = Hierarchy(self.hidden, heads=heads, prefix=config.prefix_length, dropout=dropout)
        self.gate = MentionGate(self.hidden, heads, dropout)
        self.frame_vectors = FrameVectors(self.hidden, config.max_frames)
        self.contrast = Contrast(self.hidden) if config.contrast_weight else None

    def forward(self, batch: Batch) -> States:
        """The fused states; without a vision encoder there is nothing to fuse."""
        encoded = words, patches = self.features(batch)
        if self.vision is None:
            return self.states(batch, words.last, patches.last, encoded=encoded)
        n, m = words.last.shape[1], batch.frame_mask.shape[1]
        sentences = sentences_of(batch)
        shaped = patches.last.unflatten(1, (m, self.grid**2))
        text, word_mask = with_blank(words.last, words.mask, self.no_words)
        frames, frame_mask = with_blank(shaped.mean(2), batch.frame_mask, self.no_frames)
        costs = {}
        if self.contrast is not None:
            cost = self.contrast(text, frames[:, :m], batch.frame_mask, sentences)
            costs["contrast"] = self.config.contrast_weight * cost
        text, frames = self.hierarchy(text, word_mask, frames, frame_mask, sentences)
        placed = frames[:, :m] + self.frame_vectors.places(m)
        states = self.states(batch, text[:, :n], patches.last, frames=placed, aux_losses=costs, encoded=encoded)
        plain = {field.name: getattr(states, field.name) for field in fields(States)}
        return GatedStates(**plain, gate=self.gate, looked_at=frames, look_mask=frame_mask)


class MDocRE(Supervised):
    """The system `mdocre-hn-like`."""

    backbone = MDocREBackbone
