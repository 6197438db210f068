"""The choice and size of a document's frames for a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from m3dllm.pictures import load_upright
from m3dllm.types import Document, Frame

if TYPE_CHECKING:
    from PIL.Image import Image

Choice = Literal["uniform", "subtitles", "annotated"]


def choose_frames(document: Document, most: int, *, how: Choice = "uniform", fps: float = 24.0) -> tuple[Frame, ...]:
    """At most `most` frames of the document, in order.

    uniform: spread evenly over all; annotated: spread evenly over the annotated ones (over all, if none is);
    subtitles: the one nearest to the middle of each of `most` equal parts of the timed subtitles (uniform, if they have
    no times), filled up evenly.
    """
    frames = sorted(document.frames, key=lambda frame: frame.index)
    if how == "annotated":
        frames = [frame for frame in frames if frame.annotated] or frames
    if len(frames) <= most:
        return tuple(frames)
    if how == "subtitles" and document.segments and fps > 0:
        return _by_subtitles(document, frames, most, fps)
    return tuple(_evenly(frames, most))


def _evenly(frames: Sequence[Frame], most: int) -> list[Frame]:
    """The frames in the middle of `most` equal parts."""
    return [frames[(2 * i + 1) * len(frames) // (2 * most)] for i in range(most)]


def _by_subtitles(document: Document, frames: Sequence[Frame], most: int, fps: float) -> tuple[Frame, ...]:
    spoken = sorted(document.segments, key=lambda segment: segment.start_s)
    shares = [spoken[len(spoken) * i // most : len(spoken) * (i + 1) // most] for i in range(min(most, len(spoken)))]
    middles = [(share[0].start_s + share[-1].end_s) / 2 for share in shares if share]
    chosen = {min(frames, key=lambda frame: (abs((frame.at_s(fps) or 0.0) - s), frame.index)).index for s in middles}
    for frame in _evenly(frames, most):
        if len(chosen) < most:
            chosen.add(frame.index)
    return tuple(frame for frame in frames if frame.index in chosen)


def shown_size(size: tuple[int, int], *, longest_side: int) -> tuple[int, int]:
    """(width, height) in pixels of a picture scaled down to `longest_side` if larger."""
    scale = min(1.0, longest_side / max(size))
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height


def blank(frame: Frame, *, longest_side: int) -> Image:
    """A black picture in the size of the frame for the model."""
    from PIL import Image as Images

    return Images.new("RGB", shown_size((frame.width_px, frame.height_px), longest_side=longest_side))


def load_image(frame: Frame, *, longest_side: int) -> Image:
    """The picture in RGB, scaled down to `longest_side` if larger: by an integer factor with box averaging, which takes
    a tenth of the time, then by the rest with bicubic interpolation.

    Raises ValueError, with the file, if it cannot be read.
    """
    from PIL import Image as Images

    try:
        image = load_upright(Path(frame.path))
    except (OSError, ValueError, SyntaxError, Images.DecompressionBombError) as error:
        raise ValueError(f"frame {frame.index} ({frame.path}) cannot be read: {error}") from error
    size = shown_size(image.size, longest_side=longest_side)
    return image if size == image.size else image.resize(size, Images.Resampling.BICUBIC, reducing_gap=1.0)


def pad_to_square(image: Image) -> Image:
    """The image in the middle of a grey square."""
    from PIL import Image as Images

    side = max(image.size)
    square = Images.new("RGB", (side, side), (127, 127, 127))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
