"""Video-ChatGPT: CLIP's patches, averaged over each frame and over time, before LLaMA (Maaz et al. 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel, LlamaForCausalLM

from m3dllm.systems.videollm.engines.native.model import CHUNK, NativeModel
from m3dllm.systems.videollm.engines.native.published import fill, load_part, read_tensors
from m3dllm.systems.videollm.engines.native.video_chatgpt import VideoChatGPTLocal


class VideoChatGPT(NativeModel):
    """`mm_projector` projects the output of `pool`, on CLIP's second-to-last layer, into the space of words."""

    def __init__(
        self,
        language_model: LlamaForCausalLM,
        vision: CLIPVisionModel,
        *,
        tokens: int,
        placeholder: int,
        most_frames: int,
    ) -> None:
        """`tokens`: the number of input tokens, including those of clips, which are never generated."""
        super().__init__(language_model, placeholder)
        self.vision, self.most_frames = vision, most_frames
        width = language_model.config.hidden_size
        words = nn.Embedding(tokens, width, dtype=language_model.dtype)
        nn.init.normal_(words.weight, std=language_model.config.initializer_range)
        language_model.set_input_embeddings(words)
        self.mm_projector = nn.Linear(vision.config.hidden_size, width, dtype=language_model.dtype)

    def see(self, pixels: Tensor, lengths: list[int]) -> Tensor:
        patches = torch.cat([self.patches(some) for some in pixels.to(self.vision.dtype).split(CHUNK)])
        pooled = torch.cat([pool(clip, self.most_frames) for clip in patches.split(lengths)])
        seen: Tensor = self.mm_projector(pooled)
        return seen

    def patches(self, pixels: Tensor) -> Tensor:
        """(frames, patches, width) of frames, (frames, 3, side, side)."""
        found: Tensor = self.vision(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        return found


def pool(patches: Tensor, most_frames: int) -> Tensor:
    """The vectors of a clip, (most_frames + patches, width), of its patches, (frames, patches, width).

    First the mean of each frame, then rows of zeros up to `most_frames`, then the mean of each patch over time.
    """
    frames = nn.functional.pad(patches.mean(1), (0, 0, 0, most_frames - len(patches)))
    return torch.cat([frames, patches.mean(0)])


def load(local: VideoChatGPTLocal, dtype: Any) -> VideoChatGPT:
    """The model of its authors. Raises UserError if a part is missing."""
    language = load_part(LlamaForCausalLM, local, local.language, dtype, config=local.config)
    model = _assembled(local, language, load_part(CLIPVisionModel, local, local.vision, language.dtype))
    own = {f"mm_projector.{name}": value for name, value in model.mm_projector.named_parameters()}
    own["embed_tokens.weight"] = language.get_input_embeddings().weight
    path = local.own_file()
    fill(own, read_tensors(path), path, published)
    return model


def published(name: str) -> str:
    """The name of a tensor in the authors' file."""
    return f"model.{name}"


def make(local: VideoChatGPTLocal) -> VideoChatGPT:
    """A model with random weights."""
    return _assembled(local, LlamaForCausalLM(local.config), CLIPVisionModel(local.vision_config))


def _assembled(local: VideoChatGPTLocal, language: Any, vision: Any) -> VideoChatGPT:
    return VideoChatGPT(
        language, vision, tokens=local.tokens, placeholder=local.placeholder, most_frames=local.most_frames
    )
