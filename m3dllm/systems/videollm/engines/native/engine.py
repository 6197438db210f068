"""The base of engines for native models. Light to import."""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

from m3dllm.systems.videollm.engines.native.local import NativeLocal
from m3dllm.systems.videollm.engines.transformers import TransformersEngine
from m3dllm.systems.videollm.options import Options


class NativeEngine(TransformersEngine):
    """A model of parts: its module in `native` has `load` for the published weights, and `make` for random ones."""

    supports = frozenset({"grammar", "option_scores", "logprobs", "begun", "images", "clip", "local"})
    local: NativeLocal
    kind: ClassVar[type[NativeLocal]]
    module: ClassVar[str]

    @classmethod
    def locate(cls, options: Options) -> NativeLocal:
        return cls.kind(options)

    def load(self) -> Any:
        import torch

        from m3dllm.systems.videollm.engines.local.loading import loading, number_type

        local, module = self.local, importlib.import_module(f"{__package__}.{self.module}")
        numbers = number_type(self.options.dtype)
        with loading(local, self.device), torch.random.fork_rng():
            if not local.is_tiny:
                return module.load(local, numbers).to(self.device).eval()
            torch.manual_seed(local.seed)
            return module.make(local).to(self.device, None if numbers == "auto" else numbers).eval()

    @property
    def notes(self) -> tuple[str, ...]:
        return ("random weights: its answers mean nothing",) if self.local.is_tiny else ()
