"""The `transformers` engine: any model that reads images and texts, in this process, a batch of requests at a time."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from m3dllm.systems.videollm.adapters.card import find_adapter
from m3dllm.systems.videollm.adapters.probe import prove
from m3dllm.systems.videollm.engines.base import ContextBudget, Count, Reply, Request
from m3dllm.systems.videollm.engines.local.engine import LocalEngine
from m3dllm.systems.videollm.engines.local.model import NEEDS, LocalModel
from m3dllm.systems.videollm.messages import Message
from m3dllm.systems.videollm.options import Options
from m3dllm.types import Failure

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("m3dllm")

ON_CPU = 4
"""The number of documents per batch on a CPU, which gains little from more."""
MOST = 64
"""The maximum on a GPU; halved if memory runs out."""
LONGEST = 8192
"""The number of tokens of a long prompt with its answer."""


def fitting(config: Any, longest: int, *, free: int, bytes_each: int) -> int:
    """The number of documents of `longest` tokens that fit into `free` bytes of memory.

    Keys and values of all layers are cached for each token; as much again is left for computing. `config` is the text
    model's, `bytes_each` the size of a number.
    """
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    a_token = 2 * config.num_hidden_layers * heads * width * bytes_each
    return max(1, min(MOST, free // (2 * a_token * longest)))


class TransformersEngine(LocalEngine):
    """A model of the transformers library on one device."""

    name: ClassVar = "transformers"
    extra: ClassVar = "llm"
    needs: ClassVar = NEEDS
    supports = frozenset(
        {"grammar", "schema", "option_scores", "logprobs", "begun", "images", "video", "lora", "fit", "local"}
    )

    def __init__(
        self,
        options: Options,
        budget: ContextBudget | None = None,
        *,
        local: LocalModel | None = None,
        model: Any = None,
    ) -> None:
        """`local` and `model`: already loaded parts. Raises UserError if the model, the device or memory is not
        available, or if the adapter does not fit the model or has no effect."""
        self.options = options
        self._take(local or self.locate(options))
        self.adapter = find_adapter(options.adapter) if options.adapter else None
        if self.adapter is not None:
            self.adapter.check_base(self.local.name, self.local.weights_sha256)
        from m3dllm.devices import find_device
        from m3dllm.systems.videollm.engines.local.generation import Generator

        self.device = find_device(options.device, metal=True)
        loaded = model if model is not None else self.load()
        if self.adapter is not None:
            from m3dllm.systems.videollm.adapters.lora import effect_on, load_adapter

            prove(self.adapter.name, effect_on(load_adapter(loaded, self.adapter), self.local.tokenizer, self.device))
        self.generator = Generator(options, self.local, loaded, self.device)
        self.context = self.generator.context
        self.max_concurrency = options.batch or self._fitting(budget)
        self.generator.kept = 2 * self.max_concurrency
        self._pending: deque[tuple[int, Request]] = deque()

    def load(self) -> Any:
        """The model with its weights. Raises UserError if they are missing, or do not fit into memory."""
        from m3dllm.systems.videollm.engines.local.loading import load_model

        return load_model(self.local, self.options.dtype, self.device)

    def _fitting(self, budget: ContextBudget | None) -> int:
        """The default number of documents per batch."""
        import torch

        if self.device.type != "cuda":
            return ON_CPU
        free, _ = torch.cuda.mem_get_info(self.device)
        longest = min(self.context, budget.tokens if budget else LONGEST)
        return fitting(self.local.text_config, longest, free=free, bytes_each=self.model.dtype.itemsize)

    @property
    def model(self) -> Any:
        """The model, with its adapter."""
        return self.generator.model

    @property
    def accepted(self) -> set[str]:
        """The names of the model's inputs."""
        return self.generator.accepted

    @property
    def provenance(self) -> Mapping[str, Any]:
        return {
            "model": self.local.name,
            **self.local.identity,
            "family": self.family.name,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": str(self.device),
        } | (self.adapter.provenance if self.adapter else {})

    def count(self, messages: Sequence[Message]) -> Count:
        inputs = self.generator.encode(messages)
        return Count(inputs["input_ids"].shape[1], self.local.vision_tokens(inputs))

    def positions(self, inputs: Any) -> Tensor:
        """The position of each token, (1, tokens) or (3, 1, tokens)."""
        return self.generator.positions(inputs)

    def submit(self, key: int, request: Request) -> None:
        self._pending.append((key, request))

    def poll(self) -> list[tuple[int, Reply]]:
        """The replies of the next batch; if memory runs out, of half of it."""
        import torch

        if not self._pending:
            raise ValueError("nothing is under way")
        batch = [self._pending.popleft() for _ in range(min(self.max_concurrency, len(self._pending)))]
        try:
            return self.generator.answer(batch)
        except torch.OutOfMemoryError:
            self.generator.forget()
            if len(batch) > 1:
                log.warning("not enough memory for %d documents at once: trying %d", len(batch), len(batch) // 2)
                self.max_concurrency = max(1, len(batch) // 2)
                self._pending.extendleft(reversed(batch))
                return self.poll()
            message = f"not enough memory on {self.device} for this document: use fewer --frames"
            return [(batch[0][0], Reply(finish="error", failure=Failure(message)))]

    def release(self, share: str) -> None:
        self.generator.forget(share)

    def close(self) -> None:
        import torch

        self.generator.forget()
        del self.generator
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
