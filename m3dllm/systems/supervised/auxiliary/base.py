"""The base of auxiliary losses, and of contrastive ones between texts and frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from m3dllm.errors import UserError
from m3dllm.systems.supervised.backbone import States
from m3dllm.systems.supervised.data import Gold
from m3dllm.systems.supervised.features import Features
from m3dllm.systems.supervised.heads import Head
from m3dllm.systems.supervised.losses import GoldBatch


class Auxiliary(nn.Module, ABC):
    """A loss besides those of the tasks. Its weights are trained with the model, and not used in prediction."""

    name: ClassVar[str]
    weight: ClassVar[float] = 1.0
    """Its weight in its paper."""
    reads_frames: ClassVar[bool] = True
    """Whether it needs frames."""

    @abstractmethod
    def __init__(self, hidden: int, heads: Sequence[Head]) -> None:
        """`hidden`: the width of the states. The heads are those of the model."""
        super().__init__()

    @abstractmethod
    def forward(self, states: States, gold: GoldBatch, heads: Sequence[Head]) -> Tensor:
        """The loss of a batch, the mean over what `counts` counts."""

    def counts(self, gold: Gold) -> bool:
        """Whether this document counts: by default if it has both text and frames."""
        return len(gold.tags) > 0 and len(gold.annotated) > 0

    def encoded(self, states: States) -> tuple[Features, Features]:
        """Words and patches before their fusion. Raises UserError for a system that does not provide them."""
        if states.encoded is None:
            raise UserError(
                f"--aux-loss {self.name}: this system does not expose the output of its encoders (States.encoded)"
            )
        return states.encoded


class Contrast(Auxiliary):
    """A contrastive loss of texts against frames, over the documents of a step with both; 0 for a single document.

    It compares means of the encoders' outputs, before fusion: fused vectors contain each other already.
    """

    def __init__(self, hidden: int, heads: Sequence[Head]) -> None:
        super().__init__(hidden, heads)
        self.of_text, self.of_frames = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)

    def forward(self, states: States, gold: GoldBatch, heads: Sequence[Head]) -> Tensor:
        words, patches = self.encoded(states)
        both = words.mask.any(1) & patches.mask.any(1)
        if both.sum() < 2:
            return states.words.new_zeros((), dtype=torch.float32)
        vectors = self.of_text(words.mean()[both]), self.of_frames(patches.mean()[both])
        return self.cost(*(vector.float() for vector in vectors))

    @abstractmethod
    def cost(self, text: Tensor, frames: Tensor) -> Tensor:
        """The loss of the texts and frames of n documents: (n, hidden) each."""


def cosines(text: Tensor, frames: Tensor) -> Tensor:
    """(n, n): the cosine of each text (row) with the frames of each document."""
    return F.normalize(text, dim=-1) @ F.normalize(frames, dim=-1).T
