"""A system like MDocRE-HN, a baseline of the M3D paper: words and frames are fused by sentence, then by document.

The code of its authors (Kong et al., AAAI 2024) is not published; the card, `docs/systems/mdocre-hn-like.md`, tells
what is known of it and what is guessed here. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from m3dllm.config import ADVANCED, FIT, AtLeast1, NotNegative, Share
from m3dllm.system import SystemSpec
from m3dllm.systems.supervised import config as base

SPEC = SystemSpec(
    name="mdocre-hn-like",
    factory="m3dllm.systems.mdocre.model:MDocRE",
    config="m3dllm.systems.mdocre:Config",
    summary="VideoMAE and a text encoder, fused by sentence and by document, with gated mentions (after MDocRE-HN)",
    **base.CAPABILITIES,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(base.Config):
    """The options of `mdocre-hn-like`; the defaults are the preset `tiny`."""

    vision_encoder: str = "tiny-videomae"
    """'tiny-videomae' (trained from scratch), 'none' (no frames), or a Hugging Face id or folder of a
    VideoMAE."""
    prefix_length: Annotated[AtLeast1, ADVANCED] = 9
    """The number of frame vectors that the words of a sentence attend to."""
    attention_heads: Annotated[AtLeast1, ADVANCED] = 4
    """The number of attention heads of the fusion."""
    max_frames: Annotated[AtLeast1, ADVANCED] = 256
    """The number of trained frame positions; further frames share the last."""
    contrast_weight: Annotated[NotNegative, FIT] = 0.1
    """The weight of the contrastive loss between sentences and the frames shown at the same time; 0: off."""
    hide: Annotated[Share, FIT] = 0.1
    """The probability that a training document loses its text or its frames, so that the placeholder vectors for a
    missing modality are trained."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {},
        **base.PRETRAINED,
        "paper": {
            **base.PAPER,
            "vision_encoder": "MCG-NJU/videomae-base",
            "attention_heads": 12,
            "fusion_lr": 1e-4,
            "clip": 1.0,
        },
    }
    reads_patches: ClassVar[bool] = False
    shape: ClassVar[tuple[str, ...]] = (*base.Config.shape, "prefix_length", "attention_heads", "max_frames")
