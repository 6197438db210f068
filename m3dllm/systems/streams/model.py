"""The backbone of one stream and two: words and the frames of a video encoder, fused."""

from __future__ import annotations

from typing import ClassVar

from m3dllm.systems.streams import Config
from m3dllm.systems.streams.fusion import OneStream, Streams, TwoStreams
from m3dllm.systems.supervised.backbone import Backbone, States
from m3dllm.systems.supervised.data import Batch
from m3dllm.systems.supervised.features import FrameFeatures, TextFeatures
from m3dllm.systems.supervised.layers import FrameVectors
from m3dllm.systems.supervised.system import Supervised


class StreamsBackbone(Backbone):
    """Fused words and frame vectors; patches are the unchanged output of the encoder."""

    streams: ClassVar[type[OneStream | TwoStreams]]

    def __init__(self, config: Config, text: TextFeatures, vision: FrameFeatures | None) -> None:
        super().__init__(config, text, vision)
        self.fusion: Streams | None = None
        if vision is not None:
            self.frame_vectors = FrameVectors(self.hidden, config.max_frames)
            self.fusion = self.streams(
                self.hidden, layers=config.fusion_layers, heads=config.attention_heads, dropout=config.dropout
            )

    def forward(self, batch: Batch) -> States:
        """The fused states; without a vision encoder there is nothing to fuse."""
        encoded = words, patches = self.features(batch)
        if self.fusion is None:
            return self.states(batch, words.last, patches.last, encoded=encoded)
        of_frames = patches.last.unflatten(1, (batch.frame_mask.shape[1], self.grid**2))
        fused = self.fusion(words.last, words.mask, self.frame_vectors(of_frames), batch.frame_mask)
        return self.states(batch, fused[0], patches.last, frames=fused[1], encoded=encoded)


class OneStreamBackbone(StreamsBackbone):
    streams = OneStream


class TwoStreamsBackbone(StreamsBackbone):
    streams = TwoStreams


class OS(Supervised):
    """`vivit-os` and `videomae-os`."""

    backbone = OneStreamBackbone


class TS(Supervised):
    """`vivit-ts` and `videomae-ts`."""

    backbone = TwoStreamsBackbone
