"""A language model that gets the frames of a prompt as vectors in place of tokens."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

CHUNK = 16
"""The number of frames that the vision encoder processes at once."""


class NativeModel(nn.Module):
    """The language model, with the vision part in `see`."""

    def __init__(self, language_model: LlamaForCausalLM, placeholder: int) -> None:
        super().__init__()
        self.language_model, self.placeholder = language_model, placeholder

    @property
    def dtype(self) -> torch.dtype:
        found: torch.dtype = self.language_model.dtype
        return found

    @abstractmethod
    def see(self, pixels: Tensor, lengths: list[int]) -> Tensor:
        """The vectors of clips, (clips * rows, width), of their frames, (frames of all clips, 3, side, side)."""

    def forward(
        self,
        input_ids: Tensor,
        pixel_values_videos: Tensor | None = None,
        clip_lengths: Tensor | None = None,
        **language: Any,
    ) -> Any:
        """As for the language model: `input_ids` (batch, tokens), with a placeholder for each vector of a clip."""
        at = input_ids == self.placeholder
        vectors = self.language_model.get_input_embeddings()(input_ids.masked_fill(at, 0))
        if pixel_values_videos is not None and clip_lengths is not None:
            seen = self.see(pixel_values_videos, clip_lengths.tolist())
            vectors = vectors.masked_scatter(at[..., None], seen.to(vectors.dtype))
        return self.language_model(inputs_embeds=vectors, **language)
