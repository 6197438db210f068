"""The base of engines for local models: the processor prepares images and counts tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from m3dllm.memory import gpu_peak_mb, peak_mb
from m3dllm.systems.videollm.engines.base import Count, Engine
from m3dllm.systems.videollm.engines.local.model import LocalModel
from m3dllm.systems.videollm.messages import Message
from m3dllm.systems.videollm.options import Options

if TYPE_CHECKING:
    from PIL.Image import Image


class LocalEngine(Engine):
    """An engine whose model is on this machine."""

    local: LocalModel

    @classmethod
    def locate(cls, options: Options) -> LocalModel:
        """The model without its weights. Raises UserError if it is missing."""
        return LocalModel(options)

    def _take(self, local: LocalModel) -> None:
        """Set the attributes from the model without its weights. A model without vision gets no frames."""
        self.local, self.family, self.specials, self.thinking = local, local.family, local.specials, local.thinking
        if not local.sees:
            self.supports = self.supports - {"images", "video"}

    @property
    def memory_mb(self) -> float | None:
        of_gpus = gpu_peak_mb()
        return peak_mb() if of_gpus is None else of_gpus

    def prepare(self, image: Image) -> Image:
        return self.local.prepare(image)

    def prepare_clip(self, images: Sequence[Image]) -> list[Image]:
        return self.local.prepare_clip(images)

    def count(self, messages: Sequence[Message]) -> Count:
        return self.local.count(messages)

    def chat(self, messages: Sequence[Message]) -> str:
        return self.local.chat(messages)
