"""TIGER: a T5 that writes a sentence for each mention, whose words `in the image` choose its box (ACM MM 2023).

Options and presets; nothing here imports torch. Card: `docs/systems/tiger.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from m3dllm.system import SystemSpec
from m3dllm.systems.generative import config as base

SPEC = SystemSpec(
    name="tiger",
    factory="m3dllm.systems.tiger.model:Tiger",
    config="m3dllm.systems.tiger:Config",
    summary="a T5 that writes a sentence for each mention and selects the boxes that show it (TIGER)",
    **base.CAPABILITIES | {"tasks": {"entity", "grounding"}, "takes_given": False},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(base.Config):
    """The options of `tiger`; the defaults are the preset `tiny`."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"tiny": {}, "paper": base.PAPER}
