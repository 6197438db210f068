"""Four baselines of the M3D paper: one stream or two over a text encoder and a video encoder (ViViT, VideoMAE).

One stream (OS) is self-attention over words and frames as one sequence; two streams (TS) attend to each other. Both are
implemented as in VisualBERT and ViLBERT, which the paper cites. Card: `docs/systems/streams.md`. Nothing
here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from m3dllm.config import ADVANCED, FIT, AtLeast1, Share
from m3dllm.errors import UserError
from m3dllm.system import SystemSpec
from m3dllm.systems.supervised import config as base


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(base.Config):
    """The options of the four systems; the defaults are the preset `tiny`."""

    fusion_layers: AtLeast1 = 2
    """The number of fusion layers, an even number: two of them form one two-stream block."""
    attention_heads: Annotated[AtLeast1, ADVANCED] = 4
    """The number of attention heads of the fusion."""
    max_frames: Annotated[AtLeast1, ADVANCED] = 256
    """The number of trained frame positions; further frames share the last."""
    hide: Annotated[Share, FIT] = 0.1
    """The probability that a training document loses its text or its frames, so that the placeholder vectors for a
    missing modality are trained."""

    reads_patches: ClassVar[bool] = False
    shape: ClassVar[tuple[str, ...]] = (*base.Config.shape, "fusion_layers", "attention_heads", "max_frames")

    def check(self) -> None:
        base.Config.check(self)
        if self.fusion_layers % 2:
            raise UserError(f"--fusion-layers {self.fusion_layers}: expected an even number")


def _presets(vision_encoder: str) -> Mapping[str, Mapping[str, Any]]:
    paper = {
        "vision_encoder": vision_encoder,
        "fusion_layers": 4,
        "attention_heads": 12,
        "fusion_lr": 1e-4,
        "clip": 1.0,
    }
    return {"tiny": {}, **base.PRETRAINED, "paper": base.PAPER | paper}


@dataclass(frozen=True, slots=True, kw_only=True)
class ViViT(Config):
    """The options of `vivit-os` and `vivit-ts`."""

    vision_encoder: str = "tiny-vivit"
    """'tiny-vivit' (trained from scratch), 'none' (no frames), or a Hugging Face id or folder of a ViViT."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = _presets("google/vivit-b-16x2-kinetics400")


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoMAE(Config):
    """The options of `videomae-os` and `videomae-ts`."""

    vision_encoder: str = "tiny-videomae"
    """'tiny-videomae' (trained from scratch), 'none' (no frames), or a Hugging Face id or folder of a
    VideoMAE."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = _presets("MCG-NJU/videomae-base")


def _spec(encoder: type[Config], fusion: str, streams: str) -> SystemSpec:
    return SystemSpec(
        name=f"{encoder.__name__.lower()}-{fusion}",
        factory=f"m3dllm.systems.streams.model:{fusion.upper()}",
        config=encoder,
        summary=f"{encoder.__name__} and a text encoder, fused in {streams} (baseline of M3D)",
        **base.CAPABILITIES,
    )


SPECS = tuple(
    _spec(encoder, fusion, streams)
    for encoder in (ViViT, VideoMAE)
    for fusion, streams in (("os", "one stream"), ("ts", "two streams"))
)
