"""Vision encoders: tiny ones trained from scratch, and pretrained ones by Hugging Face id or folder (eq. 6).

An encoder turns frames into the states of its layers, one vector per patch; patches form a square grid, row by row. An
image encoder reads each frame separately, a video encoder `window` frames of a document together. `FrameStore` reads
the images.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from m3dllm.errors import UserError
from m3dllm.files import write_atomic
from m3dllm.pictures import load_upright
from m3dllm.systems.supervised.config import TINY_HEADS, Config
from m3dllm.systems.supervised.hub import NO_CODE, fetching, load_whole, loading_options, weights_hash
from m3dllm.systems.supervised.layers import TransformerLayer
from m3dllm.types import Frame

SHADES = 7
"""The shades of red, green and blue that the tiny vision encoder distinguishes."""
UNIT = 1 << 20
"""The fixed-point value of one pixel."""


class TinyVision(nn.Module):
    """Convolutions down to 1/16 of the side, then residual layers on that grid: small, for drawn frames.

    frames: (frames, 3, side, side), bytes -> the layers' states, each (frames, patches, hidden).
    """

    pretrained = False
    window = 1
    n_layers = 3

    def __init__(self, config: Config) -> None:
        super().__init__()
        hidden = self.width = config.hidden
        self.grid = math.ceil(config.image_size / 16)
        self.side = 16 * self.grid
        widths = (hidden // 4, hidden // 2, hidden)
        steps = [
            nn.Sequential(nn.Conv2d(given, made, 3, stride=2, padding=1), nn.GELU())
            for given, made in itertools.pairwise(widths)
        ]
        self.colours = nn.Linear(SHADES**3, hidden)
        self.down = nn.Sequential(nn.Conv2d(3, widths[0], 6, stride=4, padding=1), nn.GELU(), *steps)
        self.places = nn.Parameter(0.02 * torch.randn(hidden, self.grid, self.grid))
        self.layers = nn.ModuleList(TinyVisionLayer(hidden) for _ in range(self.n_layers))

    def constant(self, frames: Tensor) -> Tensor:
        """The untrained part, which can be cached: square roots of colour shares (frames, grid, grid, colours)."""
        return colour_shares(frames, self.grid).sqrt()

    def forward(self, frames: Tensor, constant: Tensor | None = None) -> list[Tensor]:
        pixels = frames.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1)
        colours = self.colours(self.constant(frames) if constant is None else constant)
        x = self.down(pixels) + colours.permute(0, 3, 1, 2) + self.places
        return self._deepen(x)

    def _deepen(self, x: Tensor) -> list[Tensor]:
        """(frames, hidden, grid, grid) -> the layers' states."""
        states = []
        for layer in self.layers:
            x = layer(x)
            states.append(x.flatten(2).transpose(1, 2))
        return states

    def identity(self) -> str:
        raise ValueError("the tiny vision encoder is trained: its features are not cached")


@torch.no_grad()
def colour_shares(frames: Tensor, grid: int) -> Tensor:
    """The share of each of SHADES³ colours in each patch.

    frames: (frames, 3, side, side), bytes -> (frames, grid, grid, colours). A pixel counts for the eight colours around
    it, the more the nearer it is. `side` is a multiple of twice `grid`.
    """
    n, side = len(frames), frames.shape[-1] // 2  # a pixel is the average of four
    k, device = side // grid, frames.device
    place = F.avg_pool2d(frames.float(), 2) * ((SHADES - 1) / 255)
    below = place.long().clamp(max=SHADES - 2)
    above = place - below  # the share of the shade above, for red, green and blue: (frames, 3, side, side)
    strides = torch.tensor((SHADES**2, SHADES, 1), device=device)[:, None, None]
    row = torch.arange(side, device=device) // k
    patch = torch.arange(n, device=device)[:, None, None] * grid**2 + row[:, None] * grid + row
    corner = patch * SHADES**3 + (below * strides).sum(1)
    shares = torch.zeros(n * grid**2 * SHADES**3, dtype=torch.int32, device=device)
    for steps in itertools.product((0, 1), repeat=3):
        step = torch.tensor(steps, device=device)[:, None, None]
        weight = torch.where(step.bool(), above, 1 - above).prod(1)
        index = corner + (step * strides).sum()
        # Integer sums do not depend on the order, so that results on a GPU are reproducible.
        shares.index_add_(0, index.flatten(), (UNIT * weight).round().int().flatten())
    return shares.view(n, grid, grid, SHADES**3) / (UNIT * k**2)


class TinyVisionLayer(nn.Module):
    """A 3 × 3 and a 1 × 1 convolution over patches; pre-norm and residual."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, hidden)
        self.near = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.mlp = nn.Conv2d(hidden, hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(F.gelu(self.near(self.norm(x))))


class TinyVideo(TinyVision):
    """The tiny encoder for videos: after each of its layers the patches of all frames of a window attend to each other.

    A small counterpart of ViViT (`learned` temporal positions) and VideoMAE (sinusoids).
    """

    def __init__(self, config: Config, *, window: int, learned: bool) -> None:
        super().__init__(config)
        self.window = window
        self.together = nn.ModuleList(
            TransformerLayer(self.width, TINY_HEADS, config.dropout) for _ in range(self.n_layers)
        )
        times = 0.02 * torch.randn(window, self.width) if learned else 0.1 * sinusoids(window, self.width)
        self.times = nn.Parameter(times) if learned else nn.Buffer(times, persistent=False)

    def _deepen(self, x: Tensor) -> list[Tensor]:
        x = x + self.times.repeat(len(x) // self.window, 1)[..., None, None]
        states = []
        for near, together in zip(self.layers, self.together, strict=True):
            patches = near(x).flatten(2).transpose(1, 2)  # (frames, patches, hidden)
            clips = together(patches.unflatten(0, (-1, self.window)).flatten(1, 2), None)
            patches = clips.unflatten(1, (self.window, -1)).flatten(0, 1)
            states.append(patches)
            x = patches.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        return states


def sinusoids(n: int, width: int) -> Tensor:
    """(n, width): sines, then cosines of temporal positions at decreasing frequencies."""
    rates = 10000.0 ** (-torch.arange((width + 1) // 2) / max(width // 2, 1))
    angles = torch.arange(n)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)[:, :width]


TINY: dict[str, Callable[[Config], TinyVision]] = {
    "tiny": TinyVision,
    "tiny-vivit": partial(TinyVideo, window=8, learned=True),
    "tiny-videomae": partial(TinyVideo, window=4, learned=False),
}
"""The encoders that are trained from scratch, by name."""


class PretrainedVision(nn.Module):
    """A Hugging Face ViT: its patches, without the class token."""

    pretrained = True
    window = 1

    def __init__(self, model: Any, *, name: str, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model, self.name = model, name
        self.width, self.side = int(model.config.hidden_size), int(model.config.image_size)
        self.grid = self.side // self.patch_size(model.config)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    mean: Tensor
    std: Tensor

    @staticmethod
    def patch_size(config: Any) -> int:
        """The side of a patch in pixels."""
        return int(config.patch_size)

    def pixels(self, frames: Tensor) -> Tensor:
        """Bytes, normalized as for the model's training."""
        return (frames.float() / 255 - self.mean) / self.std

    def forward(self, frames: Tensor) -> list[Tensor]:
        """(frames, 3, side, side), bytes -> the layers' states, each (frames, patches, width)."""
        return [state[:, -(self.grid**2) :] for state in self._layers(self.pixels(frames))]

    def _layers(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The states of the layers; the last are what the model gives, behind its own norm where it ends with one."""
        out = self.model(pixel_values=pixels, output_hidden_states=True)
        return (*out.hidden_states[1:-1], out.last_hidden_state)

    def identity(self) -> str:
        """The hash of the weights, the preprocessing and the layers taken, as the key of cached features."""
        return weights_hash(self.model, f"vision normed {self.side} {self.mean.tolist()} {self.std.tolist()}")

    def save_description(self, folder: Path) -> None:
        """Write what `empty_vision_encoder` needs: architecture and colour statistics, without weights."""
        self.model.config.save_pretrained(folder)
        colours = {"image_mean": self.mean.flatten().tolist(), "image_std": self.std.flatten().tolist()}
        write_atomic(folder / "preprocessor_config.json", json.dumps(colours))


class PretrainedVideo(PretrainedVision):
    """A Hugging Face ViViT or VideoMAE: the patches of every frame, without the class token.

    The model makes one time step of each `repeat` consecutive frames; each frame is repeated as often, so that a step
    is a frame.
    """

    def __init__(self, model: Any, *, name: str, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(model, name=name, mean=mean, std=std)
        tubelet = model.config.tubelet_size
        self.repeat = int(tubelet if isinstance(tubelet, int) else tubelet[0])
        self.window = int(model.config.num_frames) // self.repeat

    @staticmethod
    def patch_size(config: Any) -> int:
        return int(config.patch_size if isinstance(config.tubelet_size, int) else config.tubelet_size[1])

    def forward(self, frames: Tensor) -> list[Tensor]:
        """(frames, 3, side, side), bytes, whole windows -> the layers' states, each (frames, patches, width)."""
        clips = self.pixels(frames).unflatten(0, (-1, self.window)).repeat_interleave(self.repeat, 1)
        n = self.window * self.grid**2
        return [layer[:, -n:].unflatten(1, (self.window, -1)).flatten(0, 1) for layer in self._layers(clips)]


def load_vision_encoder(name: str) -> PretrainedVision:
    """The pretrained encoder `name`: a Hugging Face id or a folder. Raises UserError if missing or incomplete."""
    from transformers import AutoConfig, AutoModel

    with fetching("vision_encoder", name):
        options = loading_options(name)
        config = AutoConfig.from_pretrained(name, **options, **NO_CODE)
        patches = hasattr(config, "patch_size") or hasattr(config, "tubelet_size")
        if not patches or not isinstance(getattr(config, "image_size", None), int):
            expected = "a ViT of square pictures, a ViViT or a VideoMAE"
            raise UserError(f"vision_encoder {name}: is a '{config.model_type}', not {expected}")
        model = load_whole(AutoModel, "vision_encoder", name, **_without_pooler(config), **options)
    return _encoder_of(model)(model, name=name, **pixel_statistics(name, options))


def empty_vision_encoder(folder: Path, *, name: str) -> PretrainedVision:
    """An encoder as described by `save_description`, with weights still to be loaded."""
    from transformers import AutoConfig, AutoModel

    with fetching("checkpoint", str(folder)):
        config = AutoConfig.from_pretrained(folder, **NO_CODE)
        model = AutoModel.from_config(config, dtype=torch.float32, **_without_pooler(config), **NO_CODE)
    return _encoder_of(model)(model, name=name, **pixel_statistics(str(folder)))


def _encoder_of(model: Any) -> type[PretrainedVision]:
    return PretrainedVideo if hasattr(model.config, "tubelet_size") else PretrainedVision


def _without_pooler(config: Any) -> dict[str, bool]:
    return {"add_pooling_layer": False} if config.model_type in ("vit", "vivit") else {}


def pixel_statistics(name: str, options: dict[str, bool] | None = None) -> dict[str, Sequence[float]]:
    """The mean and standard deviation of colours that the encoder `name` expects; default 0.5 each."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        found, _ = ImageProcessingMixin.get_image_processor_dict(name, **(options or {}))
    except OSError:
        found = {}
    half = (0.5, 0.5, 0.5)
    return {"mean": tuple(found.get("image_mean", half)), "std": tuple(found.get("image_std", half))}


class FrameStore:
    """Frames as bytes, resized to a square, with a cache in memory."""

    def __init__(self, side: int, *, limit_bytes: int = 1 << 30) -> None:
        self.side, self.limit = side, limit_bytes
        self._kept: OrderedDict[tuple[str, str], Tensor] = OrderedDict()
        self._size = 0
        self._lock = Lock()  # several threads read

    def read(self, frames: Sequence[Frame]) -> Tensor:
        """(frames, 3, side, side), bytes. Raises UserError for a picture that cannot be read."""
        if not frames:
            return torch.zeros(0, 3, self.side, self.side, dtype=torch.uint8)
        return torch.stack([self._one(frame) for frame in frames])

    def derived(self, frames: Sequence[Frame], pictures: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
        """`work(picture)` of each picture, (frames, …), cached with it."""
        found = [self._get((frame.path, "derived")) for frame in frames]
        if lacking := [i for i, value in enumerate(found) if value is None]:
            for i, value in zip(lacking, work(pictures[lacking]), strict=True):
                found[i] = self._put((frames[i].path, "derived"), value.clone())
        return torch.stack([value for value in found if value is not None])

    def _one(self, frame: Frame) -> Tensor:
        if (kept := self._get((frame.path, "pixels"))) is not None:
            return kept
        from PIL import Image

        try:
            picture = load_upright(Path(frame.path))
            resized = picture.resize((self.side, self.side), Image.Resampling.BILINEAR)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError.at(frame.path, f"cannot be read as a picture: {error}") from error
        return self._put((frame.path, "pixels"), torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous())

    def _get(self, key: tuple[str, str]) -> Tensor | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _put(self, key: tuple[str, str], value: Tensor) -> Tensor:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = value
                self._size += value.nbytes
            while self._size > self.limit and len(self._kept) > 1:
                _, old = self._kept.popitem(last=False)
                self._size -= old.nbytes
        return value
