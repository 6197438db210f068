"""Frames of a film: time compared with ffmpeg, memory for a long film, and documents per second.

    python -m benchmarks.film_speed [VIDEO…] [--hours 2]     without videos: only a synthetic film of this length

Each step is a separate process, and ffmpeg (if installed) writes the same frames in the same run. The
synthetic film is one minute of moving stripes with subtitles, repeated: two hours have 172,800 frames.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

SIZE = 360, 640
RATE = 24
OURS = """
import sys
from fractions import Fraction
from pathlib import Path
from m3dllm.media import stills
from m3dllm.sampling import Sampling
sampling = Sampling(every=24) if sys.argv[3] == "every" else Sampling(fps=Fraction(sys.argv[3]))
for still in stills(Path(sys.argv[1]), sampling):
    (Path(sys.argv[2]) / f"{still.number}.jpg").write_bytes(still.jpeg())
"""
READ = """
import sys
from pathlib import Path
from m3dllm.extract.reading import Reading, read_source
from m3dllm.extract.sources import find_sources
read = read_source(find_sources([Path(sys.argv[1])])[0], "film", Reading(), Path(sys.argv[2]))
print(len(read.documents), sum(len(d.frames) for d in read.documents))
"""


@dataclass(frozen=True)
class Cost:
    """The cost of a process: wall time, CPU time (little affected by other load), and peak memory."""

    wall_s: float
    cpu_s: float
    memory_mb: float

    def __str__(self) -> str:
        return f"{self.wall_s:.1f} s ({self.cpu_s:.1f} s of processors), {self.memory_mb:.0f} MB"


def measured(command: Sequence[str], *, quiet: bool = True) -> Cost:
    """The cost of a process; exits if it fails."""
    started = time.perf_counter()
    null = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, null, 1)] if quiet else []
    process = os.posix_spawnp(command[0], list(command), os.environ, file_actions=actions)
    _, status, usage = os.wait4(process, 0)
    os.close(null)
    if status:
        raise SystemExit(f"{command[0]} failed")
    return Cost(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


def long_film(path: Path, hours: float) -> None:
    """A minute of moving pictures, encoded once and repeated; with subtitles, one line every 5 s."""
    import av
    import numpy as np

    minute = path.with_name("minute.mp4")
    with av.open(str(minute), "w") as out:
        video = out.add_stream("libx264", rate=RATE)
        video.height, video.width = SIZE
        video.pix_fmt = "yuv420p"
        across, down = np.meshgrid(np.arange(SIZE[1]), np.arange(SIZE[0]))
        for i in range(60 * RATE):
            layers = [across + 3 * i, down + i, 2 * across - down + 5 * i]
            picture = np.stack([(layer % 256).astype(np.uint8) for layer in layers], axis=2)
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(video.encode(None))
    with av.open(str(path), "w") as out:
        stream: Any = None
        for n in range(round(60 * hours)):
            with av.open(str(minute)) as source:
                stream = stream or out.add_stream_from_template(source.streams.video[0])
                shift = int(60 * n / source.streams.video[0].time_base)
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                        out.mux(packet)
    times = range(0, round(3600 * hours), 5)
    clock = "{:02}:{:02}:{:02},000".format
    cues = (
        f"{n}\n{clock(t // 3600, t // 60 % 60, t % 60)} --> {clock(t // 3600, t // 60 % 60, t % 60 + 3)}\n"
        f"Ada Lovelace told line {n} to Charles Babbage in London.\n"
        for n, t in enumerate(times, start=1)
    )
    path.with_suffix(".srt").write_text("\n".join(cues), encoding="utf-8")


def beside_ffmpeg(video: Path, sampling: str, scratch: Path) -> None:
    ours, theirs = scratch / "ours", scratch / "theirs"
    for folder in (ours, theirs):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    own = measured([sys.executable, "-c", OURS, str(video), str(ours), sampling])
    said = f"{video.name}, {sampling}: {len(list(ours.iterdir()))} frames in {own}"
    if shutil.which("ffmpeg"):
        chosen = r"select=not(mod(n\,24))" if sampling == "every" else f"fps={sampling}"
        command = ["ffmpeg", "-v", "error", "-i", str(video), "-an", "-vf", chosen, "-vsync", "0", "-q:v", "3"]
        its = measured([*command, str(theirs / "%d.jpg")])
        ratios = f"{own.wall_s / its.wall_s:.2f} times its time, {own.cpu_s / its.cpu_s:.2f} times its processors'"
        said += f"; ffmpeg {len(list(theirs.iterdir()))} frames in {its}: {ratios}"
    print(said, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--hours", type=float, default=2.0)
    asked = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for video in asked.videos:
            for sampling in ("every", "1", str(Fraction(1, 10))):
                beside_ffmpeg(video, sampling, scratch)
        for hours in (asked.hours / 20, asked.hours):
            film = scratch / f"film-{hours:g}h.mkv"
            child = spawn.Process(target=long_film, args=(film, hours))  # a small parent: its memory counts as theirs
            child.start()
            child.join()
            for sampling in ("every", str(Fraction(1, 10))):
                beside_ffmpeg(film, sampling, scratch)
            read = measured([sys.executable, "-c", READ, str(film), str(scratch / "read")], quiet=False)
            print(f"{film.name}: read into documents in {read}", flush=True)
            shutil.rmtree(scratch / "read")


if __name__ == "__main__":
    main()
