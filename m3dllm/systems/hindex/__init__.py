"""H-Index: a BART that points to words, predicts whether the picture shows them, and chooses the box (ACL 2023).

Options and presets; nothing here imports torch. Card: `docs/systems/h-index.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from m3dllm.config import ADVANCED, FIT, Share
from m3dllm.system import SystemSpec
from m3dllm.systems.generative import config as base

SPEC = SystemSpec(
    name="h-index",
    factory="m3dllm.systems.hindex.model:HIndex",
    config="m3dllm.systems.hindex:Config",
    summary="a BART that points to the words of mentions and selects the boxes that show them (H-Index)",
    **base.CAPABILITIES | {"tasks": {"entity", "grounding"}, "takes_given": False},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(base.Config):
    """The options of `h-index`; the defaults are the preset `tiny`."""

    text_model: Annotated[tuple[str, ...], Meta(min_length=1)] = ("tiny",)
    """'tiny' (a BART trained from scratch, with its own vocabulary), or a Hugging Face id or folder of a BART;
    one per language: en=ID,zh=ID."""
    pointer_dropout: Annotated[Share, ADVANCED, FIT] = 0.1
    """Dropout of the decoder's states, and of the vectors that they are multiplied with."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {},
        "paper": {
            **base.PAPER,
            "text_model": ("en=facebook/bart-base", "zh=fnlp/bart-base-chinese"),
            "most_boxes": 18,
            "window": 256,
            "max_pieces": 256,
            "pointer_dropout": 0.3,
            "epochs": 30,
            "batch_size": 32,
            "lr": 3e-5,
            "pretrained_lr": 3e-5,
            "warmup": 0.01,
        },
    }
    kinds: ClassVar[tuple[str, ...]] = ("bart",)
