"""Damaged videos: frames, or one clear line; never a traceback."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from m3dllm.errors import UserError
from m3dllm.media import probe, stills, track_events
from m3dllm.sampling import Sampling
from tests.clips import write_clip

pytest.importorskip("av", reason="needs av (the extra video)")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.ts", "libx264"), ("a.avi", "mpeg4")]
)
def test_a_damaged_video_gives_frames_or_one_line(tmp_path: Path, name: str, codec: str):
    rng = random.Random(name)
    lines = [(0.0, 1.0, "Ada wrote.")] if name in ("a.mp4", "a.mkv") else []
    whole = write_clip(tmp_path / name, 60, codec=codec, options={"g": "12"}, subtitles=lines).read_bytes()
    damaged = tmp_path / f"damaged-{name}"
    for _ in range(60):
        data = bytearray(whole[: rng.choice((len(whole), len(whole), rng.randrange(len(whole))))])
        for _ in range(rng.randrange(1, 30) if data else 0):
            data[rng.randrange(len(data))] = rng.randrange(256)
        damaged.write_bytes(data)
        try:
            for track in probe(damaged).tracks:
                list(track_events(damaged, track.number))
            numbers = [still.number for still in stills(damaged, Sampling(every=10))]
            assert numbers == sorted(set(numbers))
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017
