"""Draws the two short films of `examples/`, reproducibly: `python -m benchmarks.example_films`.

Each is a clip of the demo generator, with a seed that no corpus of the project has, as a video whose picture changes
where the clip has a frame, with its sentences as an SRT file beside it.
"""

from __future__ import annotations

import io
from pathlib import Path

import av
from PIL import Image

from m3dllm.corpora.demo import generate_demo
from m3dllm.types import Example, Lang

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SEED, FPS = 101, 24
LANGUAGES: tuple[Lang, ...] = ("en", "zh")
END_S = 2.0
"""How long the last picture is shown after the last sentence."""


def main() -> None:
    EXAMPLES.mkdir(exist_ok=True)
    made = generate_demo(SEED, documents={"test": 6}, languages=LANGUAGES, names_salt="examples")
    for lang in LANGUAGES:
        example = next(
            e for e in made.splits["test"] if e.document.lang == lang and e.document.text and e.document.frames
        )
        images = {f.index: Image.open(io.BytesIO(made.images[f.path])) for f in example.document.frames}  # type: ignore[arg-type]
        write_film(EXAMPLES / f"film.{lang}.mp4", example, images)
        (EXAMPLES / f"film.{lang}.srt").write_text(subtitles(example), encoding="utf-8")


def write_film(path: Path, example: Example, images: dict[int, Image.Image]) -> None:
    """`images` (of the frames with these numbers), each from its frame on; the first also before it."""
    last = max(*images, round((example.document.segments[-1].end_s + END_S) * FPS))
    shown = images[min(images)]
    with av.open(str(path), "w", options={"movflags": "+faststart", "fflags": "+bitexact"}) as out:
        video = out.add_stream("libx264", rate=FPS, options={"crf": "23", "g": "240", "threads": "1"})
        video.width, video.height, video.pix_fmt = *shown.size, "yuv420p"
        for number in range(last + 1):
            shown = images.get(number, shown)
            out.mux(video.encode(av.VideoFrame.from_image(shown.convert("RGB"))))
        out.mux(video.encode(None))


def subtitles(example: Example) -> str:
    """The segments of the document as SRT."""
    text = example.document.text
    cues = enumerate(example.document.segments, start=1)
    return "\n".join(f"{n}\n{_time(s.start_s)} --> {_time(s.end_s)}\n{text[s.start : s.end]}\n" for n, s in cues)


def _time(seconds: float) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"


if __name__ == "__main__":
    main()
