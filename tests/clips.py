"""Small clips made by PyAV: every frame shows its own number as stripes, black or white, the lowest bit on the left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

BITS = 10
STRIPE_PX = 8
SUBTITLE_HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def picture(number: int, *, height: int = 48) -> np.ndarray:
    """(height, BITS * STRIPE_PX, 3) bytes: the number in stripes; the upper quarter is grey, so that up can be told."""
    row = np.repeat([255 * (number >> bit & 1) for bit in range(BITS)], STRIPE_PX).astype(np.uint8)
    image = np.repeat(row[None, :, None], height, axis=0).repeat(3, axis=2)
    image[: height // 4] = 128
    return image


def shown_number(image: Any) -> int:
    """The number that an upright picture shows."""
    grey = np.asarray(image.convert("L").resize((BITS * STRIPE_PX, 48)))
    return sum(
        int(grey[24:, STRIPE_PX * bit + 2 : STRIPE_PX * (bit + 1) - 2].mean() > 128) << bit for bit in range(BITS)
    )


def write_clip(
    path: Path,
    n: int = 60,
    *,
    rate: int = 24,
    ticks: Sequence[int] = (),
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    turn: int = 0,
    aspect: Fraction | None = None,
    sound_s: float = 0,
    subtitles: Iterable[tuple[float, float, str]] = (),
    language: str = "eng",
    images: Sequence[np.ndarray] = (),
) -> Path:
    """A clip of `n` frames; `ticks` (of 1/1000 s) are their times where they are no steady `rate`."""
    import av

    with av.open(str(path), "w") as out:
        video = None
        if n:
            video = out.add_stream(codec, rate=rate, options=options or {"g": "12", "bf": "2"})
            video.height, video.width = images[0].shape[:2] if images else (48, BITS * STRIPE_PX)
            video.pix_fmt = "yuv420p"
            if aspect:
                video.codec_context.sample_aspect_ratio = aspect
            if turn:
                video.set_display_rotation(turn)
            if ticks:
                video.codec_context.time_base = Fraction(1, 1000)
        sound = out.add_stream("aac", rate=16000, layout="mono") if sound_s else None
        texts = out.add_stream("mov_text" if path.suffix == ".mp4" else "subrip") if subtitles else None
        if texts is not None:
            texts.metadata["language"] = language
            texts.codec_context.subtitle_header = SUBTITLE_HEADER
        for i in range(n):
            frame = av.VideoFrame.from_ndarray(images[i] if images else picture(i), "rgb24")
            if ticks:
                frame.pts, frame.time_base = ticks[i], Fraction(1, 1000)
            out.mux(video.encode(frame))
        if video is not None:
            out.mux(video.encode(None))
        if sound is not None:
            for i in range(int(sound_s * 16000) // 1024):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
                frame.sample_rate, frame.pts, frame.time_base = 16000, 1024 * i, Fraction(1, 16000)
                out.mux(sound.encode(frame))
            out.mux(sound.encode(None))
        for start_s, end_s, text in subtitles:
            data = text.encode()
            packet = av.Packet(len(data).to_bytes(2, "big") + data if path.suffix == ".mp4" else data)
            packet.stream, packet.time_base = texts, Fraction(1, 1000)
            packet.pts = packet.dts = round(1000 * start_s)
            packet.duration = round(1000 * (end_s - start_s))
            out.mux(packet)
    return path
