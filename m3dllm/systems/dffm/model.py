"""The model of the paper, figure 5: fused features of the encoders, constructed where a modality is missing."""

from __future__ import annotations

import torch
from torch import nn

from m3dllm.systems.dffm import Config
from m3dllm.systems.dffm.fusion import Fused, Fusion
from m3dllm.systems.dffm.missing import Blank, Construction
from m3dllm.systems.supervised.backbone import Backbone, States
from m3dllm.systems.supervised.data import Batch
from m3dllm.systems.supervised.features import Features, FrameFeatures, TextFeatures
from m3dllm.systems.supervised.layers import FrameVectors
from m3dllm.systems.supervised.system import Supervised


class DFFMBackbone(Backbone):
    """Denoised fusion in both directions, with the ablations of Table IV."""

    def __init__(self, config: Config, text: TextFeatures, vision: FrameFeatures | None) -> None:
        super().__init__(config, text, vision)
        self.fuses = "dffm" not in config.without
        self.into_text = self._fusion() if self.fuses else None
        self.missing_frames = self._construction() if self.fuses else None
        if vision is not None:
            self.into_frames = self._fusion() if self.fuses else None
            self.missing_text = self._construction() if self.fuses else None
            self.frame_vectors = FrameVectors(self.hidden, config.max_frames)

    def forward(self, batch: Batch) -> States:
        """The fused states; a missing modality is replaced by its construction."""
        encoded = text, images = self.features(batch)
        words = fuse(self.into_text, self.missing_frames, text, images)  # H^{g→x}
        if self.vision is None:
            latent = {"latent": words.penalty}
            return self.states(batch, words.features, images.last, aux_losses=latent, encoded=encoded)
        seen = fuse(self.into_frames, self.missing_text, images, text)  # H^{x→g}
        patches = seen.features.unflatten(1, (batch.frame_mask.shape[1], self.grid**2))
        frames = self.frame_vectors(patches)
        latent = {"latent": words.penalty + seen.penalty}
        return self.states(batch, words.features, seen.features, frames=frames, aux_losses=latent, encoded=encoded)

    def _fusion(self) -> Fusion:
        config = self.config
        return Fusion(
            self.hidden,
            levels=config.levels,
            size=config.latent_size,
            heads=config.attention_heads,
            dropout=config.dropout,
            kind=config.latent,
            kl=config.kl_weight,
            reconstruction=config.reconstruction_weight,
        )

    def _construction(self) -> Construction | Blank:
        if "mmcm" in self.config.without:
            return Blank(levels=self.config.levels)
        return Construction(self.hidden, levels=self.config.levels, prompt_length=self.config.prompt_length)


def fuse(fusion: Fusion | None, construction: nn.Module | None, queries: Features, other: Features) -> Fused:
    """Fuse the `other` modality, or its `construction` if a document lacks it (section V-E), into the `queries`.

    Documents without the modality of the `queries` get zeros.
    """
    if fusion is None or construction is None:
        return Fused(queries.last, queries.last.new_zeros(()))
    here, there = queries.mask.any(1), other.mask.any(1)
    if (here & there).all():
        fused = fusion(queries.last, queries.mask, other.levels, other.mask)
        return Fused(fused.features.to(queries.last.dtype), fused.penalty)
    features = torch.zeros_like(queries.last)
    penalty = queries.last.new_zeros(())
    if (index := (here & there).nonzero()[:, 0]).numel():
        own, source = queries.rows(index), other.rows(index)
        fused = fusion(own.last, own.mask, source.levels, source.mask)
        features = features.index_copy(0, index, fused.features.to(features.dtype))
        penalty = penalty + fused.penalty
    if (index := (here & ~there).nonzero()[:, 0]).numel():
        own = queries.rows(index)
        levels, mask = construction(own.last, own.mask)  # eq. 13, 14
        fused = fusion(own.last, own.mask, levels, mask)
        features = features.index_copy(0, index, fused.features.to(features.dtype))
        penalty = penalty + fused.penalty
    return Fused(features, penalty)


class DFFM(Supervised):
    """The system `dffm`."""

    backbone = DFFMBackbone
