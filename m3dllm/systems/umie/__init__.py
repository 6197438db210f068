"""UMIE: one T5 that answers every task by instruction, with frames added to its text by a gate (Sun et al., AAAI 2024).

Options and presets; nothing here imports torch. Card: `docs/systems/umie.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from m3dllm.config import ADVANCED, AtLeast1
from m3dllm.system import SystemSpec
from m3dllm.systems.generative import config as base
from m3dllm.systems.generative.language import OBJECTS

SPEC = SystemSpec(
    name="umie",
    factory="m3dllm.systems.umie.model:Umie",
    config="m3dllm.systems.umie:Config",
    summary="a T5 that solves each task by instruction, with gated visual features (UMIE)",
    **base.CAPABILITIES,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(base.Config):
    """The options of `umie`; the defaults are the preset `tiny`."""

    most_boxes: Annotated[int, Meta(ge=1, le=OBJECTS), ADVANCED] = 3
    """The number of candidates per frame: those with the highest confidence."""
    gate: Literal["code", "paper"] = "code"
    """The gate on visual features: as in the authors' code (a bounded cosine), or as in the paper (a product)."""
    attention_heads: Annotated[AtLeast1, ADVANCED] = 4
    """The number of attention heads of the visual encoder and of the gated attention (gate: code)."""
    max_frames: Annotated[AtLeast1, ADVANCED] = 256
    """The number of trained frame positions; further frames share the last."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {},
        "paper": {**base.PAPER, "attention_heads": 12},
    }
    shape: ClassVar[tuple[str, ...]] = (*base.Config.shape, "gate", "attention_heads", "max_frames")
