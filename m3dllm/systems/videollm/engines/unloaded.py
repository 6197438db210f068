"""A model of which everything is there but the weights: what can be shown and counted without answering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines import Count, Reply, Request
from m3dllm.systems.videollm.engines.local import LocalModel
from m3dllm.systems.videollm.prompts import Message

if TYPE_CHECKING:
    from PIL.Image import Image


class Unloaded:
    """An engine that prepares and counts as a local one does, and cannot answer."""

    lanes = 1
    memory_mb = None

    def __init__(self, config: Config) -> None:
        self.local = LocalModel(config)
        self.family = self.local.family
        self.specials = self.local.specials
        self.context = min(config.context or self.local.context, self.local.context)

    @property
    def provenance(self) -> Mapping[str, Any]:
        return {"model": self.local.name, "family": self.family.name}

    def prepare(self, image: Image) -> Image:
        return self.local.prepare(image)

    def count(self, messages: Sequence[Message]) -> Count:
        return self.local.count(messages)

    def submit(self, key: int, request: Request) -> None:
        raise RuntimeError("no weights are loaded")

    def poll(self) -> list[tuple[int, Reply]]:
        raise ValueError("nothing is under way")

    def release(self, share: str) -> None:
        pass

    def close(self) -> None:
        pass
