"""Subtitles of any common format as plain cues: no styles, no repetitions, no two at one time.

SRT, WebVTT, ASS and SSA, SBV, SAMI and whatever else pysubs2 recognizes, TTML; files in any common encoding, and
the tracks of a video. Cues are sorted by time.
"""

from __future__ import annotations

import html
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from m3dllm.errors import UserError
from m3dllm.files import read_bytes
from m3dllm.language import decoded
from m3dllm.media import Notes, track_events

SUFFIXES = frozenset((".srt", ".vtt", ".ass", ".ssa", ".sbv", ".ttml", ".dfxp", ".smi", ".sami"))
_FORMATS = {".srt": "srt", ".sbv": "srt", ".vtt": "vtt", ".ass": "ass", ".ssa": "ssa", ".smi": "sami", ".sami": "sami"}
_STYLE = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{[^{}]*\}")
_TIMING = re.compile(r"\d[\d:.,]*\s*-->\s*\d|^\d+:\d+:\d+[.,]\d+,\d+:\d+:\d+[.,]\d+\s*$", re.MULTILINE)
_HEADS = (("WEBVTT", "vtt"), ("[Script Info]", "ass"), ("<SAMI", "sami"))
"""What the files of a format begin with, whatever their suffix says."""
_INLINE = re.compile(r"<\d+:[\d:.,]*>")
"""The time of a word in a cue: two in a line would be read as the times of another cue."""
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
"""Marks of direction, and spaces of no width: no part of what is said."""
_DECLARATION = re.compile(r"\s*<\?xml[^>]*\?>")
_OPEN = re.compile(r"\{(?=[^{}]*(?:\{|\Z))")
"""A brace that never closes: each makes pysubs2 scan the rest of its cue."""
LONGEST_S = 1e7
"""Longer than any film, in seconds."""
NO_TIME_S = 0.1
"""Cues at most this far apart, in seconds, count as adjacent."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A text with its start and end in seconds; its lines are separated by line ends."""

    start_s: float
    end_s: float
    text: str

    def __post_init__(self) -> None:
        if not 0 <= self.start_s <= self.end_s:
            raise ValueError(f"cue runs backwards in time: {self.start_s} s to {self.end_s} s")

    @property
    def lines(self) -> list[str]:
        return self.text.split("\n")


@dataclass(frozen=True, slots=True)
class Subtitles:
    """The cues of a film, and their source; `problems` lists what could not be used."""

    cues: tuple[Cue, ...]
    source: str
    encoding: str = ""
    problems: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return "\n".join(cue.text for cue in self.cues)


def read_subtitles(path: Path) -> Subtitles:
    """The cues of a subtitle file. Raises UserError if it cannot be read, or has none."""
    text, encoding = decoded(read_bytes(path))
    found = parse_subtitles(text, path)
    return replace(found, source=path.name, encoding=encoding)


def parse_subtitles(text: str, path: Path) -> Subtitles:
    """The cues of a file's text, whose format is known by its suffix or its first lines. Raises UserError."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    is_xml = path.suffix.lower() in (".ttml", ".dfxp") or re.match(r"\s*<(\?xml|tt[\s>:])", text)
    try:
        found = list(_ttml(text, path)) if is_xml else list(_pysubs2(_OPEN.sub("", _INLINE.sub("", text)), path))
    except RecursionError:
        raise UserError.at(path, "is nested too deeply to be subtitles") from None
    raw = [cue for cue in found if max(cue[:2]) < LONGEST_S]  # NaN and infinity are not
    problems = []
    if beyond := len(found) - len(raw):
        problems.append(f"{beyond} of its cues have impossible times")
    if not is_xml and (lost := len(_TIMING.findall(text)) - len(raw)) > 0:
        problems.append(f"{lost} of its timing lines cannot be read")
    if backwards := sum(end < start for start, end, _ in raw):
        problems.append(f"{backwards} of its cues end before they begin: they are taken to end where they begin")
    cues = tidy(Cue(max(start, 0.0), max(start, end, 0.0), plain(text)) for start, end, text in raw)
    if not cues:
        raise UserError.at(path, "contains no readable subtitles; expected SRT, WebVTT, ASS, SSA, SBV or TTML")
    return Subtitles(cues, path.name, problems=tuple(problems))


def read_track(video: Path, number: int) -> Subtitles:
    """The cues of a video's subtitle track. Raises UserError if there is no such track, or it is not text."""
    notes = Notes()
    events = track_events(video, number, notes)
    cues = tidy(Cue(start_s, max(start_s, end_s), plain(text)) for start_s, end_s, text in events)
    return Subtitles(cues, f"track {number}", problems=tuple(notes.problems))


# --- formats ----------------------------------------------------------------------------------------------------------


def _pysubs2(text: str, path: Path) -> Iterator[tuple[float, float, str]]:
    """(start, end, text with its styles) of each event that is shown."""
    try:
        import pysubs2
    except ImportError as error:
        raise UserError("reading subtitles needs 'pysubs2': pip install 'm3dllm[video]'") from error
    by_head = (name for head, name in _HEADS if text.lstrip().upper().startswith(head.upper()))
    kind = next(by_head, _FORMATS.get(path.suffix.lower()))
    try:
        with warnings.catch_warnings(action="ignore"):  # of styles, which are not read
            found: Any = pysubs2.SSAFile.from_string(text, format_=kind)
    except (pysubs2.Pysubs2Error, ValueError, IndexError, KeyError, TypeError) as error:
        why = str(error) or type(error).__name__
        raise UserError.at(
            path, f"cannot be read as subtitles ({why}); expected SRT, WebVTT, ASS, SSA or SBV"
        ) from error
    if found.format == "sami":
        _end_where_the_next_begins(found)
    for event in found:
        if not event.is_comment and not event.is_drawing:
            # else text after an unreadable timing line would belong to the cue before
            lines = re.split(r"(?:\\N|\n)(?:\d+(?:\\N|\n))?[^\\\n]*-->", event.text)[0]
            yield event.start / 1000, event.end / 1000, lines


def _end_where_the_next_begins(events: Any) -> None:
    """Times of SAMI, which writes no ends: what is shown stays until the next thing, or nothing, is."""
    events.sort()
    after = None
    for event, following in zip(reversed(events[:-1]), reversed(events[1:]), strict=True):
        after = following.start if following.start > event.start else after
        event.end = event.end if after is None else after


def _ttml(text: str, path: Path) -> Iterator[tuple[float, float, str]]:
    """(start, end, text) of each paragraph of a TTML file, or of each of its spans that have times of their own.

    Its namespace may be any. What has no end has infinity.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UserError.at(path, "declares a document type, which TTML does not use: it is not read")
    try:
        root = ElementTree.fromstring(_DECLARATION.sub("", text, count=1).encode("utf-8"))  # noqa: S314 (no document type, so no entities)
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError.at(path, f"is not valid TTML ({error})") from error
    parameters = {_local(name): value for name, value in root.attrib.items()}
    rate, tick_rate = _rate(parameters.get("frameRate"), 30), _rate(parameters.get("tickRate"), 1)

    def seconds(value: str | None) -> float | None:
        if clock := re.fullmatch(r"(\d{1,9}):(\d{1,9}):(\d+(?:\.\d+)?)(?::(\d+(?:\.\d+)?))?", value or ""):
            hours, minutes, whole, frames = clock.groups()
            return int(hours) * 3600 + int(minutes) * 60 + float(whole) + float(frames or 0) / rate
        if offset := re.fullmatch(r"(\d+(?:\.\d+)?)(ms|h|m|s|f|t)", value or ""):
            number, unit = offset.groups()
            scale = {"h": 3600, "m": 60, "s": 1, "ms": 0.001, "f": 1 / rate, "t": 1 / tick_rate}
            return float(number) * scale[unit]
        return None

    def walk(element: Any, parent_s: float, parent_end_s: float | None) -> Iterator[tuple[float, float, str]]:
        begin = seconds(element.get("begin"))
        start_s = parent_s + (begin or 0.0)
        end, duration = seconds(element.get("end")), seconds(element.get("dur"))
        end_s = start_s + duration if duration is not None else parent_s + end if end is not None else parent_end_s
        if _local(element.tag) in ("p", "span") and not any(part.get("begin") for part in [*element.iter()][1:]):
            words = _ttml_text(element)
            if words.strip():
                yield start_s, math.inf if end_s is None else end_s, words
            return
        for child in element:
            yield from walk(child, start_s, end_s)

    yield from walk(root, 0.0, None)


def _rate(text: str | None, otherwise: int) -> float:
    """Frames or ticks per second: a number above 0, else `otherwise`."""
    return float(text) if re.fullmatch(r"0*[1-9]\d{0,8}(?:\.\d+)?", text or "") and text else otherwise


def _ttml_text(element: Any) -> str:
    """The text of an element, with line ends for breaks, and other white space as one space."""
    text = re.sub(r"\s+", " ", element.text or "")
    for child in element:
        if _local(child.tag) != "metadata":
            text += "\n" if _local(child.tag) == "br" else _ttml_text(child)
        text += re.sub(r"\s+", " ", child.tail or "")
    return text


def _local(name: Any) -> str:
    return name.rpartition("}")[2] if isinstance(name, str) else ""


def plain(text: str) -> str:
    """The text of an event without its styles: lines of single spaces, none of them empty."""
    text = _STYLE.sub("", text.replace(r"\N", "\n").replace(r"\n", "\n").replace(r"\h", " "))
    lines = (" ".join(line.split()) for line in _INVISIBLE.sub("", html.unescape(text)).split("\n"))
    return "\n".join(line for line in lines if line)


# --- repetitions and overlaps -----------------------------------------------------------------------------------------


def tidy(cues: Iterable[Cue]) -> tuple[Cue, ...]:
    """The cues by time, without empty ones, without repetitions by layers or rolling captions, and without overlaps."""
    ordered = sorted((cue for cue in cues if cue.text), key=lambda cue: (cue.start_s, cue.end_s))
    return tuple(_apart(_unrolled(_merged(ordered))))


def _merged(cues: Iterable[Cue]) -> list[Cue]:
    """Cues with the same start as one; a cue that repeats a text still on screen extends it."""
    kept: list[Cue] = []
    last: dict[str, int] = {}  # the last cue of each text
    for start_s, together in groupby(cues, key=lambda cue: cue.start_s):
        lines: list[str] = []
        seen: set[str] = set()
        texts: list[str] = []
        end_s = start_s
        for cue in together:
            same = last.get(cue.text)
            if same is not None and start_s < kept[same].end_s:
                kept[same] = replace(kept[same], end_s=max(kept[same].end_s, cue.end_s))
                continue
            lines += [line for line in cue.lines if line not in seen]
            seen.update(cue.lines)
            texts, end_s = texts or [cue.text], max(end_s, cue.end_s)
        if lines:
            kept.append(Cue(start_s, end_s, "\n".join(lines)))
            last |= dict.fromkeys([*texts, kept[-1].text], len(kept) - 1)
    return kept


def _unrolled(cues: Sequence[Cue]) -> list[Cue]:
    """Drop the lines that rolling captions repeat before a new one, in files with such captions."""

    def repeated(before: Cue, cue: Cue) -> int:
        """How many of the first lines of `cue` are the last ones of the cue right before."""
        if cue.start_s > before.end_s + NO_TIME_S:
            return 0
        sizes = range(min(len(before.lines), len(cue.lines)), 0, -1)
        return next((n for n in sizes if before.lines[-n:] == cue.lines[:n]), 0)

    rolls = sum(0 < repeated(before, cue) < len(cue.lines) for before, cue in pairwise(cues))
    if rolls < max(2, len(cues) / 10):
        return list(cues)
    kept = list(cues[:1])
    for before, cue in pairwise(cues):
        new = cue.lines[repeated(before, cue) :]
        if new:
            kept.append(replace(cue, text="\n".join(new)))
        elif kept:
            kept[-1] = replace(kept[-1], end_s=max(kept[-1].end_s, cue.end_s))
    return kept


def _apart(cues: Sequence[Cue]) -> Iterator[Cue]:
    """The cues with the end of each no later than the beginning of the next."""
    for cue, after in pairwise(cues):
        yield replace(cue, end_s=min(cue.end_s, after.start_s))
    yield from cues[-1:]
