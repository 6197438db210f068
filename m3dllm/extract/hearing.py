"""Subtitles for a film that has none: transcribed by a program or Whisper, or read from its frames."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from m3dllm.errors import UserError
from m3dllm.media import stills
from m3dllm.sampling import Sampling
from m3dllm.subtitles import Cue, Subtitles, parse_subtitles, tidy

WHISPER = "whisper"
"""The value that selects faster-whisper instead of a program; whisper:NAME names its model."""
OCR_FPS = 1
"""Frames per second that are read."""
CAPTION_AREA = 0.6
"""Burnt-in captions lie below this fraction of the height."""
LEAST_SURE = 0.6
"""Text with a lower confidence is ignored."""


def transcribe(video: Path, command: str, *, lang: str | None) -> Subtitles:
    """The transcript of a video. `command` is "whisper", "whisper:MODEL", or a program that prints SRT.

    The program is called with the video in place of {}, or as its last argument, without a shell. Raises UserError if
    it cannot be run, fails, or prints no SRT.
    """
    if command.partition(":")[0] == WHISPER:
        return _whispered(video, command.partition(":")[2] or "small", lang)
    words = shlex.split(command)
    if not words:
        raise UserError("--transcribe is empty; expected whisper, or a program that prints SRT")
    words = [word.replace("{}", str(video)) for word in words] if "{}" in command else [*words, str(video)]
    try:
        done = subprocess.run(words, capture_output=True, check=False)  # noqa: S603 (the user's own program)
    except OSError as error:
        raise UserError(f"--transcribe {command}: cannot be run: {error.strerror}") from error
    if done.returncode:
        last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it printed no message"])[-1]
        raise UserError(f"--transcribe {command}: ended with {done.returncode} for {video}: {last}")
    try:
        found = parse_subtitles(done.stdout.decode("utf-8", "replace"), Path("transcript.srt"))
    except UserError as error:
        raise UserError(f"--transcribe {command}: printed no SRT for {video}") from error
    return Subtitles(found.cues, f"transcribed by {words[0]}", problems=found.problems)


def _whispered(video: Path, model: str, lang: str | None) -> Subtitles:
    try:
        import faster_whisper
    except ImportError as error:
        raise UserError("--transcribe whisper needs 'faster_whisper': pip install 'm3dllm[whisper]'") from error
    try:
        whisper = faster_whisper.WhisperModel(model)
    except Exception as error:  # from the hub, the network, or the runtime
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the whisper model '{model}' cannot be loaded ({why}): give its folder, whisper:DIR"
        ) from error
    segments, _ = whisper.transcribe(str(video), language=lang)
    cues = tidy(Cue(max(0.0, s.start), max(0.0, s.start, s.end), s.text.strip()) for s in segments)
    return Subtitles(cues, f"transcribed by faster-whisper {faster_whisper.__version__}, model {model}")


def read_captions(video: Path) -> Subtitles:
    """The captions burnt into a video's frames. Raises UserError if rapidocr is not installed."""
    read = _reader()
    lines = ((still.time_s, read(still.image)) for still in stills(video, Sampling(fps=Fraction(OCR_FPS))))
    return Subtitles(tuple(_held(lines)), "captions read by rapidocr")


def _reader() -> Callable[[Any], str]:
    """A function that returns the text in the lower part of a frame, its lines from top to bottom."""
    try:
        import rapidocr
    except ImportError as error:
        raise UserError("--ocr needs 'rapidocr': pip install 'm3dllm[ocr]'") from error
    import logging

    import numpy as np

    engine = rapidocr.RapidOCR()
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)

    def read(image: Any) -> str:
        lower = image.crop((0, int(CAPTION_AREA * image.height), image.width, image.height))
        found = engine(np.asarray(lower)[:, :, ::-1])  # it expects blue, green, red
        if found.txts is None:
            return ""
        sure = zip(found.boxes, found.txts, found.scores, strict=True)
        return in_rows([(box, text.strip()) for box, text, score in sure if score >= LEAST_SURE and text.strip()])

    return read


def in_rows(found: Sequence[tuple[Any, str]]) -> str:
    """The texts of (corners, text) as lines from top to bottom: texts at the same height form one line."""
    boxes = []
    for corners, text in found:
        across, down = [float(x) for x, _ in corners], [float(y) for _, y in corners]
        boxes.append(((min(down) + max(down)) / 2, max(down) - min(down), min(across), text))
    rows: list[list[tuple[float, float, float, str]]] = []
    for box in sorted(boxes):
        if rows and box[0] - rows[-1][0][0] < rows[-1][0][1] / 2:
            rows[-1].append(box)
        else:
            rows.append([box])
    return "\n".join(_side_by_side([text for *_, text in sorted(row, key=lambda box: box[2])]) for row in rows)


def _side_by_side(texts: Sequence[str]) -> str:
    line = texts[0]
    for text in texts[1:]:
        line += text if not line[-1].isascii() and not text[0].isascii() else f" {text}"  # Chinese has no spaces
    return line


def _held(lines: Iterator[tuple[float, str]]) -> Iterator[Cue]:
    """A cue for each text, from the first frame with it to the first without it."""
    since_s, held, last_s = 0.0, "", 0.0
    for time_s, text in lines:
        if text != held:
            if held:
                yield Cue(since_s, time_s, held)
            since_s, held = time_s, text
        last_s = time_s
    if held:
        yield Cue(since_s, last_s + 1 / OCR_FPS, held)
