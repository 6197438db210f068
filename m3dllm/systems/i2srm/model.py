"""The backbone of `i2srm`."""

from __future__ import annotations

import torch

from m3dllm.systems.i2srm import Config
from m3dllm.systems.i2srm.fusion import PrefixedWords
from m3dllm.systems.supervised.backbone import Backbone, States
from m3dllm.systems.supervised.config import LEVELS
from m3dllm.systems.supervised.data import Batch
from m3dllm.systems.supervised.features import FrameFeatures, TextFeatures
from m3dllm.systems.supervised.layers import FrameVectors
from m3dllm.systems.supervised.system import Supervised


class I2SRMBackbone(Backbone):
    """Words with a prefix of frames; patches are the unchanged output of the encoder."""

    def __init__(self, config: Config, text: TextFeatures, vision: FrameFeatures | None) -> None:
        super().__init__(config, text, vision)
        self.prefixed = None
        if vision is None:
            return
        self.frame_vectors = FrameVectors(self.hidden, config.max_frames)
        if config.prefix:
            self.prefixed = PrefixedWords(
                self.hidden,
                grid=self.grid,
                n_levels=len(LEVELS),
                layers=config.fusion_layers,
                size=config.prefix_size,
                heads=config.attention_heads,
                dropout=config.dropout,
            )

    def forward(self, batch: Batch) -> States:
        """The fused states; without a vision encoder there is nothing to fuse."""
        encoded = words, patches = self.features(batch)
        if self.vision is None:
            return self.states(batch, words.last, patches.last, encoded=encoded)
        shape = (batch.frame_mask.shape[1], self.grid**2)
        frames = self.frame_vectors(patches.last.unflatten(1, shape))
        states = words.last
        if self.prefixed is not None:
            levels = torch.cat([patches.levels[name] for name in LEVELS], -1).unflatten(1, shape)
            states = self.prefixed(states, words.mask, levels, batch.frame_mask)
        return self.states(batch, states, patches.last, frames=frames, encoded=encoded)


class I2SRM(Supervised):
    """The system `i2srm`."""

    backbone = I2SRMBackbone
