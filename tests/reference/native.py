"""Slow twins of the native models: what the frames of a clip become, from the tensors that the authors published."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def pooled(patches: Tensor, most_frames: int) -> list[list[float]]:
    """Video-ChatGPT's vectors of a clip, of its patches, (frames, patches, width)."""
    frames, count, width = patches.shape
    values = patches.tolist()
    rows = [[0.0] * width for _ in range(most_frames + count)]
    for t in range(frames):
        for p in range(count):
            for w in range(width):
                rows[t][w] += values[t][p][w] / count
                rows[most_frames + p][w] += values[t][p][w] / frames
    return rows


def clip(frames: list[Tensor], found: Mapping[str, Tensor], *, heads: int, layers: int = 2) -> Tensor:
    """Video-LLaMA's vectors of a clip: of each frame BLIP-2's, (queries, width); `found` by the published names."""
    places = found["video_frame_position_embedding.weight"]
    states = torch.cat([vectors + places[i] for i, vectors in enumerate(frames)])
    bert = "video_Qformer.bert."
    x = _norm(found["video_query_tokens"][0], found, f"{bert}embeddings.LayerNorm")
    for i in range(layers):
        layer = f"{bert}encoder.layer.{i}"
        for part, seen in (("attention", None), ("crossattention", states)):
            heard = _attend(x, x if seen is None else seen, found, f"{layer}.{part}.self", heads)
            x = _norm(
                _linear(heard, found, f"{layer}.{part}.output.dense") + x, found, f"{layer}.{part}.output.LayerNorm"
            )
        inner = torch.nn.functional.gelu(_linear(x, found, f"{layer}.intermediate_query.dense"))
        x = _norm(_linear(inner, found, f"{layer}.output_query.dense") + x, found, f"{layer}.output_query.LayerNorm")
    return _linear(x, found, "llama_proj")


def _linear(x: Tensor, found: Mapping[str, Tensor], name: str) -> Tensor:
    return x @ found[f"{name}.weight"].T + found[f"{name}.bias"]


def _norm(x: Tensor, found: Mapping[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt()
    return scaled * found[f"{name}.weight"] + found[f"{name}.bias"]


def _attend(x: Tensor, y: Tensor, found: Mapping[str, Tensor], name: str, heads: int) -> Tensor:
    """Every row of x over all rows of y, head by head."""
    q, k, v = (_linear(z, found, f"{name}.{part}") for z, part in ((x, "query"), (y, "key"), (y, "value")))
    size = q.shape[1] // heads
    heard = []
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        heard.append((q[:, part] @ k[:, part].T / math.sqrt(size)).softmax(-1) @ v[:, part])
    return torch.cat(heard, 1)
