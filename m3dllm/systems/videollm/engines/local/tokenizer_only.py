"""An engine without weights: it builds and counts prompts, but does not answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from m3dllm.systems.videollm.engines.base import ContextBudget, Reply, Request
from m3dllm.systems.videollm.engines.local.engine import LocalEngine
from m3dllm.systems.videollm.options import Options


class TokenizerOnlyEngine(LocalEngine):
    """Prepares images and counts tokens as a local engine, but cannot answer."""

    supports = frozenset({"grammar", "schema", "images", "video", "local"})

    def __init__(
        self, options: Options, budget: ContextBudget | None = None, *, kind: type[LocalEngine] = LocalEngine
    ) -> None:
        """`kind`: the engine to imitate. Raises UserError if the model is missing."""
        super().__init__(options)
        self.supports = self.supports | (kind.supports & {"clip"})
        self._take(kind.locate(options))
        self.context = min(options.context or self.local.context, self.local.context)

    @property
    def provenance(self) -> Mapping[str, Any]:
        return {"model": self.local.name, "family": self.family.name}

    def submit(self, key: int, request: Request) -> None:
        raise RuntimeError("no weights are loaded")

    def poll(self) -> list[tuple[int, Reply]]:
        raise ValueError("nothing is under way")
