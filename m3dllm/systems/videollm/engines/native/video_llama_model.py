"""Video-LLaMA: BLIP-2's vectors of each frame, a Q-Former over those of a clip, Llama (Zhang et al. 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel, Blip2VisionModel, LlamaForCausalLM

from m3dllm.systems.videollm.engines.native.model import CHUNK, NativeModel
from m3dllm.systems.videollm.engines.native.published import fill, load_part, read_part, read_tensors
from m3dllm.systems.videollm.engines.native.video_llama import VideoLlamaLocal

FEWEST = 8
"""The minimum number of frames of a clip; in a shorter one frames are repeated evenly."""
NORM_EPS = 1e-5
"""The epsilon of the norm after the vision encoder; transformers has another."""


class Frames(nn.Module):
    """BLIP-2's vision part: the encoder with its norm, and a Q-Former with its queries."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.vision_model = Blip2VisionModel(config.vision_config)
        self.vision_model.post_layernorm.eps = NORM_EPS
        self.qformer = Blip2QFormerModel(config.qformer_config)
        width = config.qformer_config.hidden_size
        self.query_tokens = nn.Parameter(0.02 * torch.randn(1, config.num_query_tokens, width))

    def forward(self, pixels: Tensor) -> Tensor:
        """(frames, queries, width) of frames, (frames, 3, side, side)."""
        patches = self.vision_model(pixels).last_hidden_state
        return _queried(self.qformer, self.query_tokens, patches)


class VideoLlama(NativeModel):
    """`frames`, then `video_qformer` over the vectors of a clip, with frame positions added, then `llama_proj`.

    Both Q-Formers compute in 32 bits, as in the library.
    """

    def __init__(self, language_model: LlamaForCausalLM, config: Any, *, placeholder: int, most_frames: int) -> None:
        super().__init__(language_model, placeholder)
        self.frames = Frames(config)
        width = config.qformer_config.hidden_size
        alike = {
            name: getattr(config.qformer_config, name)
            for name in ("hidden_size", "num_attention_heads", "intermediate_size", "layer_norm_eps")
        }
        self.video_qformer = Blip2QFormerModel(
            Blip2QFormerConfig(num_hidden_layers=2, cross_attention_frequency=1, encoder_hidden_size=width, **alike)
        )
        self.video_query_tokens = nn.Parameter(0.02 * torch.randn(1, config.num_query_tokens, width))
        self.video_frame_position_embedding = nn.Embedding(most_frames, width)
        self.llama_proj = nn.Linear(width, language_model.config.hidden_size)

    def see(self, pixels: Tensor, lengths: list[int]) -> Tensor:
        numbers = self.frames.vision_model.dtype
        frames = torch.cat([self.frames(some.to(numbers)) for some in pixels.split(CHUNK)])
        return torch.cat([self.clip(clip) for clip in frames.split(lengths)])

    def clip(self, frames: Tensor) -> Tensor:
        """The vectors of a clip, (queries, width of words), of its frames, (frames, queries, width)."""
        count = max(FEWEST, len(frames))
        shown = torch.linspace(0, len(frames) - 1, count, device=frames.device).round().long()
        places = self.video_frame_position_embedding.weight[:count, None]
        all_of_it = (frames[shown] + places).flatten(0, 1)[None]
        vectors: Tensor = self.llama_proj(_queried(self.video_qformer, self.video_query_tokens, all_of_it))[0]
        return vectors


def _queried(qformer: Blip2QFormerModel, queries: Tensor, states: Tensor) -> Tensor:
    """Queries (1, queries, width), `states` (batch, n, their width) -> the queries' output (batch, queries, width)."""
    found: Tensor = qformer(
        query_embeds=queries.expand(len(states), -1, -1), encoder_hidden_states=states
    ).last_hidden_state
    return found


def load(local: VideoLlamaLocal, dtype: Any) -> VideoLlama:
    """The model of its authors. Raises UserError if a part is missing."""
    language = load_part(LlamaForCausalLM, local, local.language, dtype, config=local.config)
    model = _assembled(local, language)
    model.frames.vision_model.to(language.dtype)
    path, frozen = read_part(local.vision, local.source, ("vision_model.", "qformer.", "query_tokens"))
    fill(model.frames.state_dict(), frozen, path, lambda name: name)
    path = local.own_file()
    found = read_tensors(path)
    fill(own_tensors(model), found.get("model", found), path, published)
    return model


def make(local: VideoLlamaLocal) -> VideoLlama:
    """A model with random weights."""
    return _assembled(local, LlamaForCausalLM(local.config))


def _assembled(local: VideoLlamaLocal, language: Any) -> VideoLlama:
    return VideoLlama(language, local.blip2_config, placeholder=local.placeholder, most_frames=local.most_frames)


def own_tensors(model: VideoLlama) -> dict[str, Tensor]:
    """The tensors that the authors trained."""
    others = ("language_model.", "frames.")
    return {name: value for name, value in model.state_dict().items() if not name.startswith(others)}


def published(name: str) -> str:
    """The name of a tensor in the authors' file: their Q-Former is their own BERT."""
    if not name.startswith("video_qformer."):
        return name
    inner = name.removeprefix("video_qformer.").replace("attention.attention.", "attention.self.")
    if inner.startswith("layernorm."):
        inner = f"embeddings.LayerNorm.{inner.removeprefix('layernorm.')}"
    return f"video_Qformer.bert.{inner}"
