"""Turn a source into documents: find its subtitles, detect its language, write its frames, cut long films."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from m3dllm.corpora.bilingual import is_bilingual, language
from m3dllm.corpora.images import image_size
from m3dllm.errors import UserError
from m3dllm.extract.cutting import LONGEST_S, SHORTEST_S, Piece, cut
from m3dllm.extract.hearing import read_captions, transcribe
from m3dllm.extract.sources import Source
from m3dllm.files import cannot_write, read_bytes
from m3dllm.language import NAMES, decoded, language_of
from m3dllm.media import Media, Notes, probe, stills, track_list
from m3dllm.progress import progress
from m3dllm.sampling import Sampling
from m3dllm.subtitles import Cue, Subtitles, read_subtitles, read_track
from m3dllm.types import Document, Frame, Lang, Segment, Video
from m3dllm.videos import SUFFIXES as VIDEOS

log = logging.getLogger("m3dllm")

LATE_S = 60.0
"""Subtitles this long after the last frame belong to another version of the film, or to another film."""
_ENDS = frozenset(".,;:?!…。，、；：？！—-–\"'”’）)》」』")
_TRACK_LANGUAGES: dict[Lang, frozenset[str]] = {
    "en": frozenset(("en", "eng")),
    "zh": frozenset(("zh", "chi", "zho", "cmn", "yue")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The options of reading sources, which determine the documents."""

    lang: Lang | None = None
    every: int | None = None
    fps: float | None = None
    at_subtitles: bool = False
    longest_side: int = 1280
    """Larger frames are scaled down to this many pixels; 0: no limit."""
    least_change: float = 0.0
    track: int | None = None
    transcribe: str | None = None
    ocr: bool = False
    shortest_s: float = SHORTEST_S
    longest_s: float = LONGEST_S

    def __post_init__(self) -> None:
        if sum((self.every is not None, self.fps is not None, self.at_subtitles)) > 1:
            raise UserError("--every, --fps and --at-subtitles exclude one another: give one of them")
        if self.every is not None and self.every < 1:
            raise UserError(f"--every {self.every}: expected 1 or more")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise UserError(f"--fps {self.fps:g}: expected more than 0, and at most 1000")
        if not 0 <= self.least_change <= 1:
            raise UserError(f"--min-change {self.least_change:g}: expected a share from 0 to 1")
        if self.longest_side < 0:
            raise UserError(f"--longest-side {self.longest_side}: expected pixels, or 0")
        if not 0 < self.shortest_s <= self.longest_s / 2:
            limits = f"--shortest {self.shortest_s:g} --longest {self.longest_s:g}"
            raise UserError(f"{limits}: the longest must be at least twice the shortest")

    def sampling(self, cues: Sequence[Cue]) -> Sampling:
        """Which frames are sampled. At subtitles: the frame in the middle of each cue."""
        if self.at_subtitles:
            return Sampling(at_s=tuple((cue.start_s + cue.end_s) / 2 for cue in cues))
        if self.fps is not None:
            return Sampling(fps=Fraction(str(self.fps)))
        return Sampling(every=self.every or 24)


@dataclass(slots=True)
class Read:
    """The documents of a source, frames by paths in its folder; `facts`: its properties and how it was read."""

    documents: list[Document]
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_source(source: Source, name: str, reading: Reading, folder: Path) -> Read:
    """The documents of `source`, named `name`; its frames are written into `folder`/frames/`name`.

    Raises UserError if it cannot be read, or is in an unsupported language.
    """
    if source.kind == "film":
        return _film(source, name, reading, folder)
    return (_text if source.kind == "text" else _picture)(source, name, reading, folder)


# --- texts and pictures -----------------------------------------------------------------------------------------------


def _text(source: Source, name: str, reading: Reading, folder: Path) -> Read:
    assert source.path is not None
    text, encoding = _decoded(source.path)
    if not text.strip():
        raise UserError.at(source.path, "is empty; expected a text")
    lang = _lang(source.path, text, reading.lang)
    return Read(
        [Document(name, lang, text, title=source.name)], {"kind": "text", "encoding": encoding, "language": lang}
    )


def _picture(source: Source, name: str, reading: Reading, folder: Path) -> Read:
    assert source.path is not None
    try:
        size = image_size(source.path)
    except ValueError as error:
        raise UserError.at(source.path, str(error)) from error
    caption = _decoded(source.subtitles[0])[0].strip() if source.subtitles else ""
    lang = _lang(source.subtitles[0], caption, reading.lang) if caption else reading.lang or "en"
    path = f"frames/{name}/0{source.path.suffix.lower()}"
    _write(folder / path, read_bytes(source.path))
    document = Document(name, lang, caption, title=source.name, frames=(Frame(0, path, *size),))
    return Read([document], {"kind": "picture", "caption": bool(caption), "language": lang})


def _decoded(path: Path) -> tuple[str, str]:
    text, encoding = decoded(read_bytes(path))
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"), encoding


# --- films ------------------------------------------------------------------------------------------------------------


def _film(source: Source, name: str, reading: Reading, folder: Path) -> Read:
    media = None if source.path is None else probe(source.path)
    found, lang = _subtitles(source, media, reading)
    cues = found.cues if found else ()
    read = Read([], {"kind": "film", "language": lang})
    read.problems += found.problems if found else ()
    if found:
        read.facts |= {"subtitles": found.source, "encoding": found.encoding, "cues": len(cues)}
        kept = in_language(cues, lang)
        if len(kept) < len(cues) or kept != tuple(cues):
            read.problems.append(f"the subtitles are in two languages: only {NAMES[lang]} is used")
            cues = kept
    frames: list[Frame] = []
    if media is not None and media.codec:
        frames = _frames(media, name, reading, cues, folder, read)
    elif not cues:
        what = "contains neither video frames nor subtitles" if media else "contains no subtitles"
        raise UserError.at(source.files[0], f"{what}; use --transcribe for its sound, or --subtitles FILE")
    elif media is not None:
        read.problems.append("there is only sound: its documents have no frames")
    if not found:
        hint = "give --subtitles, --transcribe or --ocr" if media and media.has_sound else "give --subtitles or --ocr"
        read.problems += [
            f"its subtitle track {t.number} contains images ({t.codec}), not text: ignored"
            for t in (media.tracks if media else ())
            if not t.text
        ]
        read.problems.append(f"no subtitles: its documents have frames and no text ({hint})")
    if frames and (late := sum(cue.start_s > (frames[-1].time_s or 0.0) + LATE_S for cue in cues)):
        read.problems.append(
            f"{late} of {len(cues)} subtitles come after the last frame: do they belong to this video?"
        )
    duration_s = max([media.duration_s or 0.0 if media else 0.0, *(f.time_s or 0.0 for f in frames[-1:])])
    pieces = cut(cues, duration_s, shortest_s=reading.shortest_s, longest_s=reading.longest_s)
    read.documents += _documents(pieces, frames, name, source.name, lang, _video(media, name))
    read.facts |= {"duration_s": round(duration_s, 3), "frames": len(frames), "documents": len(read.documents)}
    return read


def _frames(media: Media, name: str, reading: Reading, cues: Sequence[Cue], folder: Path, read: Read) -> list[Frame]:
    """The film's frames, each written as a JPEG file as it comes."""
    notes = Notes()
    frames: list[Frame] = []
    sampling = reading.sampling(cues)
    side = reading.longest_side or None
    with progress(f"{media.path}: seconds", media.duration_s) as step:
        for still in stills(media.path, sampling, longest_side=side, least_change=reading.least_change, notes=notes):
            path = f"frames/{name}/{still.number}.jpg"
            _write(folder / path, still.jpeg())
            step(still.time_s - (frames[-1].time_s or 0.0 if frames else 0.0))
            frames.append(Frame(still.number, path, *still.image.size, time_s=round(still.time_s, 6)))
    read.facts |= {"codec": media.codec, "frames_in_film": notes.frames}
    if notes.similar:
        read.facts["similar_frames_passed_over"] = notes.similar
    read.problems += notes.problems
    return frames


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise cannot_write(path, error) from error


def _video(media: Media | None, name: str) -> str | None:
    """The film's path in the corpus, if it has pictures."""
    suffix = media.path.suffix.lower() if media is not None and media.codec else ""
    return f"videos/{name}{suffix}" if suffix in VIDEOS else None


def _documents(
    pieces: Sequence[Piece], frames: Sequence[Frame], name: str, title: str, lang: Lang, film: str | None
) -> list[Document]:
    """A document for each piece that has text or frames."""
    starts = [piece.start_s for piece in pieces]
    shown: list[list[Frame]] = [[] for _ in pieces]
    for frame in frames:
        shown[max(0, bisect_right(starts, frame.time_s or 0.0) - 1)].append(frame)
    documents = []
    for n, (piece, its) in enumerate(zip(pieces, shown, strict=True), start=1):
        text, segments = joined(piece.cues, lang)
        if text or its:
            own = name if len(pieces) == 1 else f"{name}-{n:03}"
            video = film and Video(film, round(piece.start_s, 3), round(piece.end_s, 3))
            documents.append(Document(own, lang, text, title, name, (), segments, tuple(its), video or None))
    return documents


def joined(cues: Sequence[Cue], lang: Lang) -> tuple[str, tuple[Segment, ...]]:
    """The cues as one text, and its segments with times. Chinese that ends in punctuation is joined without a space."""
    text, segments = "", []
    for cue in cues:
        lines = _run_on(cue.lines, lang)
        text = _run_on([text, lines], lang) if text else lines
        segments.append(Segment(len(text) - len(lines), len(text), cue.start_s, cue.end_s))
    return text, tuple(segments)


def _run_on(lines: Sequence[str], lang: Lang) -> str:
    text = ""
    for line in lines:
        tight = lang == "zh" and text and text[-1] in _ENDS and not text[-1].isascii()
        text += line if not text or tight else f" {line}"
    return text


def in_language(cues: Sequence[Cue], lang: Lang) -> tuple[Cue, ...]:
    """The cues without the lines of the other language, if the subtitles have both."""
    if not is_bilingual("\n".join(cue.text for cue in cues)):
        return tuple(cues)
    kept = (replace(cue, text="\n".join(x for x in cue.lines if language(x) in (lang, None))) for cue in cues)
    return tuple(cue for cue in kept if cue.text)


# --- subtitles and language -------------------------------------------------------------------------------------------


def _subtitles(source: Source, media: Media | None, reading: Reading) -> tuple[Subtitles | None, Lang]:
    """The film's subtitles and language: those given, beside it, in it, transcribed or read; None if there are none."""
    if source.subtitles and (source.given or reading.track is None):
        return _chosen([read_subtitles(path) for path in source.subtitles], source.subtitles[0], reading.lang)
    if media is not None and source.path is not None:
        if reading.track is not None:
            if reading.track >= len(media.tracks):
                raise UserError.at(source.path, f"has no subtitle track {reading.track}; {track_list(media)}")
            return _chosen([read_track(source.path, reading.track)], source.path, reading.lang)
        tracks = [t for t in media.tracks if t.text]
        wanted = [lang for lang in _TRACK_LANGUAGES if reading.lang in (lang, None)]
        tagged = [t for lang in wanted for t in tracks if t.language in _TRACK_LANGUAGES[lang]]
        read = [s for t in tagged or tracks if (s := read_track(source.path, t.number)).cues]
        if read:
            return _chosen(read, source.path, reading.lang)
        if reading.transcribe is not None:
            return _chosen([transcribe(source.path, reading.transcribe, lang=reading.lang)], source.path, reading.lang)
        if reading.ocr and media.codec and (captions := read_captions(source.path)).cues:
            return _chosen([captions], source.path, reading.lang)
    return None, reading.lang or "en"


def _chosen(found: Sequence[Subtitles], path: Path, lang: Lang | None) -> tuple[Subtitles, Lang]:
    """The first in the requested language, or in a supported one. Raises UserError if there is none."""
    names = {NAMES[lang]} if lang else set(NAMES.values())
    first = next((one for one in found if language_of(one.text) in names), found[0])
    return first, _lang(path, first.text, lang)


def _lang(path: Path, text: str, lang: Lang | None) -> Lang:
    """The language of a text, as given or detected. Raises UserError for an unsupported language."""
    if lang is not None:
        return lang
    name = language_of(text) or "English"
    for known, known_name in NAMES.items():
        if name == known_name:
            return known
    what = f"is in {name}: only English and Chinese are read"
    raise UserError.at(path, f"{what}. Use others, or override the language by --lang en or --lang zh")
