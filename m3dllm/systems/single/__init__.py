"""Single-modality baselines, to measure what the other modality adds. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from m3dllm.system import SystemSpec
from m3dllm.systems.supervised import config as base


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOnly(base.Config):
    """The options of `text-only`; the defaults are the preset `tiny`."""

    vision_encoder: Literal["none"] = "none"
    """Frames are not read."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {},
        **base.PRETRAINED,
        "paper": base.PAPER,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionOnly(base.Config):
    """The options of `vision-only`; the defaults are the preset `tiny`."""

    text_encoder: tuple[Literal["none"], ...] = ("none",)
    """The text is not read."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {},
        "paper": {
            **base.PAPER,
            "text_encoder": ("none",),
            "vision_encoder": "google/vit-base-patch16-224",
            "hidden": 768,
        },
    }


SPECS = (
    SystemSpec(
        name="text-only",
        factory="m3dllm.systems.single.model:Single",
        config=TextOnly,
        summary="a text encoder and the text heads: the baseline without frames",
        **base.CAPABILITIES | {"tasks": {"entity", "chain", "relation"}, "modalities": {"text"}},
    ),
    SystemSpec(
        name="vision-only",
        factory="m3dllm.systems.single.model:Single",
        config=VisionOnly,
        summary="a vision encoder and the region head: the baseline without text",
        **base.CAPABILITIES | {"tasks": {"grounding"}, "modalities": {"video"}, "takes_given": False},
    ),
)
