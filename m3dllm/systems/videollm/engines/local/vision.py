"""Frames and clips for the Qwen-VL families, by their own library: sizes, pixel budgets, videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from m3dllm.systems.videollm.families import SmartResize

if TYPE_CHECKING:
    from PIL.Image import Image

SHARE = 0.9
"""The share of the context for the tokens of a clip, as in the library for its own models."""


def prepare_frame(image: Image, bounds: SmartResize) -> Image:
    """The image in RGB, resized as by the library, without its extra copy."""
    size = bounds(image.size)
    return image if image.size == size else image.resize(size)


def prepare_clip(images: Sequence[Image], bounds: SmartResize, context: int) -> list[Image]:
    """The frames of a clip, all of one size: within `bounds` each, and together within their share of the context."""
    from PIL import Image as Images
    from qwen_vl_utils import vision_process as library

    first = images[0].size
    wanted = {
        "video": [image if image.size == first else image.resize(first) for image in images],
        "min_pixels": bounds.min_pixels,
        "max_pixels": bounds.max_pixels,
        "total_pixels": max(int(SHARE * context * bounds.factor**2), len(images) * bounds.min_pixels),
    }
    video = library.fetch_video(wanted, image_patch_size=_patch(bounds))  # (frames made even, 3, height, width)
    return [Images.fromarray(frame.byte().permute(1, 2, 0).numpy()) for frame in video[: len(images)]]


def _patch(bounds: SmartResize) -> int:
    """The patch size; the library multiplies it by its merge size, 2, to get the factor of the sides."""
    from qwen_vl_utils.vision_process import SPATIAL_MERGE_SIZE

    return bounds.factor // int(SPATIAL_MERGE_SIZE)
