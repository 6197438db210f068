"""The supervised system of the M3D paper: denoised feature fusion (DFFM), missing modality construction (MMCM).

Its options and presets; nothing here imports torch. `paper` is the paper's model with its settings and those of the
authors' code; `minilm` fine-tunes a small pretrained encoder for English, `multilingual` one for English and Chinese;
`tiny`, the default, trains small encoders for both from scratch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from m3dllm.config import ADVANCED, FIT, AtLeast1, NotNegative, Share
from m3dllm.errors import UserError
from m3dllm.system import SystemSpec
from m3dllm.systems.supervised import config as base
from m3dllm.systems.supervised.config import LEVELS, Level

Module = Literal["dffm", "mmcm"]

SPEC = SystemSpec(
    name="dffm",
    factory="m3dllm.systems.dffm.model:DFFM",
    config="m3dllm.systems.dffm:Config",
    summary="denoised fusion of text and frames, missing modalities reconstructed (DFFM and MMCM of M3D)",
    **base.CAPABILITIES,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(base.Config):
    """The options of `dffm`; the defaults are the preset `tiny`."""

    without: tuple[Module, ...] = ()
    """Ablations: 'dffm' (no cross-modal fusion), 'mmcm' (placeholders for a missing modality)."""
    levels: Annotated[tuple[Level, ...], Meta(min_length=1)] = LEVELS
    """The levels of features that are fused: 'low', 'mid', 'high'."""
    latent: Annotated[Literal["ae", "vae"], ADVANCED] = "ae"
    """The latent space of the fusion: a plain autoencoder, or a variational one with the two weights below."""
    latent_size: Annotated[AtLeast1, ADVANCED] = 32
    """The width of the latent space."""
    attention_heads: Annotated[AtLeast1, ADVANCED] = 2
    """Attention heads in the latent space. On a CPU heads of 16 dimensions take a third of the time of heads of 8."""
    kl_weight: Annotated[NotNegative, FIT] = 0.001
    """The weight of the KL divergence of the latent space from a standard normal (vae only)."""
    reconstruction_weight: Annotated[NotNegative, FIT] = 0.01
    """The weight of the reconstruction error of the latent space (vae only)."""
    prompt_length: AtLeast1 = 8
    """The length of the prompt for a missing modality."""
    max_frames: Annotated[AtLeast1, ADVANCED] = 256
    """The number of trained frame positions; further frames share the last."""
    hide: Annotated[Share, FIT] = 0.1
    """The probability that a training document loses its text or its frames, so that MMCM is trained."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {},
        **base.PRETRAINED,
        "paper": {
            **base.PAPER,
            "vision_encoder": "google/vit-base-patch16-224",
            "latent_size": 64,
            "attention_heads": 16,
            "prompt_length": 64,
            "warmup": 0.0,
        },
    }
    shape: ClassVar[tuple[str, ...]] = (
        *base.Config.shape,
        *("without", "levels", "latent", "latent_size", "attention_heads", "prompt_length", "max_frames"),
    )

    def check(self) -> None:
        base.Config.check(self)
        if self.latent_size % self.attention_heads:
            raise UserError(
                f"--latent-size {self.latent_size} is not a multiple of --attention-heads {self.attention_heads}"
            )
