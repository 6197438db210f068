"""Single-modality baselines, to measure what the other modality adds. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from m3dllm.system import SystemSpec
from m3dllm.systems.supervised import config as base

_OF_BOTH = ("fusion_lr", "hide")
_OF_FRAMES = ("vision_encoder", "image_size", "frame_chunk", "slots", "merge_iou", "weight_region", "weight_box")
_OF_TEXT = (
    *("text_encoder", "layers", "window", "overlap", "word_shapes", "lexical", "relation_words", "text_alone"),
    *("pair_size", "linkage", "decision", "pair_dropout", "attention_dropout", "word_dropout", "name_dropout"),
    *("aux_loss", "weight_auxiliary"),
    *("weight_entity", "weight_chain", "weight_relation"),
)
_OF_CHAINS_IN_FRAMES = ("aligned", "weight_shows")


def _offered(preset: Mapping[str, Any], withheld: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in preset.items() if name not in withheld}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOnly(base.Config):
    """The options of `text-only`; the defaults are the preset `tiny`."""

    vision_encoder: Literal["none"] = "none"
    """Frames are not read."""

    withheld: ClassVar[frozenset[str]] = frozenset((*_OF_BOTH, *_OF_FRAMES, *_OF_CHAINS_IN_FRAMES))
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {},
        **base.PRETRAINED,
        "paper": _offered(base.PAPER, withheld),
    }
    shape: ClassVar[tuple[str, ...]] = tuple(_offered(dict.fromkeys(base.Config.shape), withheld))


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionOnly(base.Config):
    """The options of `vision-only`; the defaults are the preset `tiny`."""

    text_encoder: tuple[Literal["none"], ...] = ("none",)
    """The text is not read."""

    withheld: ClassVar[frozenset[str]] = frozenset((*_OF_BOTH, *_OF_TEXT, *_OF_CHAINS_IN_FRAMES))
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {},
        "paper": {
            **_offered(base.PAPER, withheld),
            "vision_encoder": "google/vit-base-patch16-224",
            "hidden": 768,
        },
    }
    shape: ClassVar[tuple[str, ...]] = tuple(_offered(dict.fromkeys(base.Config.shape), withheld))


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
