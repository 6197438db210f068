"""I2SRM: frames as a prefix of keys and values before the words, a prior from the text, and mixed pairs.

The prefix is the backbone; the prior and AttnMixup are auxiliary losses, available to every supervised system
(`supervised/auxiliary`), and on by default in this one. Card: `docs/systems/i2srm.md`. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from m3dllm.config import ADVANCED, FIT, AtLeast1, Share
from m3dllm.system import SystemSpec
from m3dllm.systems.supervised import config as base

SPEC = SystemSpec(
    name="i2srm",
    factory="m3dllm.systems.i2srm.model:I2SRM",
    config="m3dllm.systems.i2srm:Config",
    summary="frames as a hierarchical prefix of the text, with a KL prior and attention mixup in training (I2SRM)",
    **base.CAPABILITIES,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(base.Config):
    """The options of `i2srm`; the defaults are the preset `tiny`."""

    prefix: bool = True
    """Whether words attend to the frames; otherwise there is no cross-modal fusion."""
    fusion_layers: AtLeast1 = 2
    """The number of layers after the text encoder that attend to the prefix."""
    prefix_size: Annotated[AtLeast1, ADVANCED] = 96
    """The hidden width of the layers that compute the prefix."""
    attention_heads: Annotated[AtLeast1, ADVANCED] = 4
    """The number of attention heads of these layers."""
    max_frames: Annotated[AtLeast1, ADVANCED] = 256
    """The number of trained frame positions; further frames share the last."""
    aux_loss: Annotated[tuple[base.AuxLoss, ...], FIT] = ("kl-prior", "attn-mixup")
    """Auxiliary losses: 'kl-prior' (the text as a prior of the frames) and 'attn-mixup' (pairs mixed
    with one another) are those of I2SRM; also 'camim', 'shap-ca', 'cag'."""
    hide: Annotated[Share, FIT] = 0.1
    """The probability that a training document loses its text or its frames, so that the placeholder vectors for a
    missing modality are trained."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {},
        **base.PRETRAINED,
        "paper": {
            **base.PAPER,
            "vision_encoder": "google/vit-base-patch16-224",
            "prefix_size": 800,
            "attention_heads": 12,
            "fusion_lr": 1e-4,
            "clip": 1.0,
        },
    }
    shape: ClassVar[tuple[str, ...]] = (
        *base.Config.shape,
        *("prefix", "fusion_layers", "prefix_size", "attention_heads", "max_frames"),
    )
