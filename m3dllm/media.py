"""The frames and subtitle tracks of a video. Needs PyAV, which brings its own ffmpeg.

A frame's number counts the frames in display order, from 0; its time is in seconds from the beginning of the file.
Frames are sampled as by ffmpeg's filters `select` and `fps`. They are yielded one at a time, upright and with square
pixels, so that a film of any length takes the memory of a few frames; frames that are not needed are not decoded.
"""

from __future__ import annotations

import io
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3dllm.columns import counted
from m3dllm.errors import UserError
from m3dllm.sampling import DisplayedFrame, Sampling, chosen, nearest

if TYPE_CHECKING:
    from PIL.Image import Image

ONE_PACKET_A_FRAME = frozenset(("h264", "hevc", "mjpeg", "mpeg2video", "mpeg4"))
"""Codecs whose packets tell the frames without decoding."""
UNREFERENCED = frozenset(("h264", "mpeg2video", "mpeg4"))
"""Codecs in which a picture marked as unreferenced can be skipped without harm to others."""
SHORTEST_JUMP = 48
"""The minimum run of unneeded packets that is skipped; decoding a shorter one costs less than a restart."""
QUALITY = 90
GRID = 16
"""Frames are compared by the mean brightness of GRID × GRID cells."""


@dataclass(frozen=True, slots=True)
class Track:
    """A subtitle track; `number` counts the file's subtitle tracks from 0, `text` is False for one of pictures."""

    number: int
    language: str
    title: str
    codec: str
    text: bool


@dataclass(frozen=True, slots=True)
class Media:
    """The streams of a file. `codec` is "" if there is no video, `duration_s` None if the file does not tell."""

    path: Path
    duration_s: float | None
    codec: str
    has_sound: bool
    tracks: tuple[Track, ...]


@dataclass(frozen=True, slots=True)
class Still:
    """A frame as a picture, upright and with square pixels."""

    number: int
    time_s: float
    image: Image

    def jpeg(self) -> bytes:
        data = io.BytesIO()
        self.image.save(data, "JPEG", quality=QUALITY)
        return data.getvalue()


@dataclass(slots=True)
class Notes:
    """Notes on reading a video: the number of frames, where it ended, and what was damaged."""

    frames: int = 0
    end_s: float = 0.0
    similar: int = 0
    problems: list[str] = field(default_factory=list)


def decoder_versions() -> dict[str, str]:
    """The versions of PyAV and its ffmpeg. Raises UserError if PyAV is not installed."""
    av = _av()
    libraries = {name: ".".join(map(str, av.library_versions[name])) for name in ("libavcodec", "libavformat")}
    return {"av": str(av.__version__), "ffmpeg": str(av.ffmpeg_version_info), **libraries}


def probe(path: Path) -> Media:
    """The streams of the file. Raises UserError if it cannot be read as a video or sound file."""
    with _opened(path) as container:
        video = _video_stream(container)
        tracks = tuple(
            Track(
                i,
                stream.metadata.get("language", ""),
                stream.metadata.get("title", ""),
                stream.codec_context.name if stream.codec_context else "unknown",
                bool(stream.codec_context and stream.codec_context.codec.text_sub),
            )
            for i, stream in enumerate(container.streams.subtitles)
        )
        return Media(
            path,
            container.duration / 1_000_000 if container.duration else None,
            video.codec_context.name if video else "",
            bool(container.streams.audio),
            tracks,
        )


def stills(
    path: Path,
    sampling: Sampling,
    *,
    longest_side: int | None = None,
    least_change: float = 0.0,
    notes: Notes | None = None,
) -> Iterator[Still]:
    """The sampled frames of a video in display order; fills `notes` on the way.

    Larger frames are scaled down to `longest_side` pixels. A frame is skipped if the brightness of no cell differs by
    more than `least_change` (a share of the range) from the last frame kept. Raises UserError if the file cannot be
    read or holds no video.
    """
    notes = Notes() if notes is None else notes
    scale = _scaler()
    turns: dict[int, Any] = {}
    last = None
    for number, time_s, frame, stream in _frames(path, sampling, notes):
        if least_change > 0:
            cells = scale(frame, GRID, GRID, "gray", "AREA").astype(int)
            if last is not None and abs(cells - last).max() <= least_change * 255:
                notes.similar += 1
                continue
            last = cells
        if frame.rotation not in turns:  # computed rarely: a frame whose side data was read stays in memory for long
            turns[frame.rotation] = _turn(frame)
        image = _picture(frame, stream.sample_aspect_ratio, longest_side, scale)
        turn = turns[frame.rotation]
        yield Still(number, time_s, image if turn is None else image.transpose(turn))


def track_events(path: Path, number: int, notes: Notes | None = None) -> Iterator[tuple[float, float, str]]:
    """(start, end, ASS event text) of the subtitle track `number`, times in seconds; damage is added to `notes`.

    Raises UserError if there is no such track, or it holds pictures.
    """
    media = probe(path)
    if not 0 <= number < len(media.tracks):
        raise UserError.at(path, f"has no subtitle track {number}; {track_list(media)}")
    if not media.tracks[number].text:
        what = f"subtitle track {number} contains images ({media.tracks[number].codec}), not text"
        raise UserError.at(path, f"{what}: give its text by --subtitles FILE")
    error_type, damaged = _av().error.FFmpegError, 0
    with _opened(path) as container:
        stream = container.streams.subtitles[number]
        begin_s = _begin_s(container)
        for packet in _packets(container, stream, notes):
            if packet.pts is None:
                continue
            start_s = float(packet.pts * packet.time_base) - begin_s
            end_s = start_s + float((packet.duration or 0) * packet.time_base)
            try:
                events = packet.decode()
            except error_type:
                damaged += 1
                continue
            for event in events:
                fields = event.ass.decode("utf-8", "replace").split(",", 8)  # the ninth is the text
                yield max(start_s, 0.0), max(end_s, 0.0), fields[-1]
    if damaged and notes is not None:
        notes.problems.append(f"skipped {counted(damaged, 'damaged packet')} of subtitle track {number}")


def track_list(media: Media) -> str:
    """The subtitle tracks in words."""
    if not media.tracks:
        return "it has no subtitle tracks"
    named = (f"{t.number} ({', '.join(filter(None, (t.language, t.title, t.codec)))})" for t in media.tracks)
    return f"its subtitle tracks are {'; '.join(named)}"


# --- which frames -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Packets:
    """The packets of a stream in decoding order: what is known without decoding them."""

    pts: array[int]
    durations: array[int]
    keys: list[int]
    """The positions at which decoding can begin."""


def _listed(container: Any, stream: Any) -> _Packets | None:
    """The packets, if they certainly correspond to the frames; None if only decoding tells."""
    codec = stream.codec_context.name
    if codec not in ONE_PACKET_A_FRAME:
        return None
    found = _Packets(array("q"), array("q"), [])
    for packet in _packets(container, stream):
        if not packet.size:
            continue
        if packet.pts is None or packet.is_corrupt or packet.is_discard:
            return None
        if packet.is_keyframe:
            found.keys.append(len(found.pts))
        found.pts.append(packet.pts)
        found.durations.append(packet.duration or 0)
    whole = found.keys[:1] == [0] and len(set(found.pts)) == len(found.pts)
    return found if whole else None


def _needed(packets: _Packets, wanted: set[int]) -> list[bool]:
    """Which packets must be decoded for the frames at the `wanted` times, including short gaps between them."""
    needed = [False] * len(packets.pts)
    bounds = [*packets.keys, len(packets.pts)]
    for group in range(len(packets.keys)):
        first, end = bounds[group], bounds[group + 1]
        places = [i for i in range(first, end) if packets.pts[i] in wanted]
        if not places:
            continue
        leads = any(packets.pts[i] < packets.pts[first] for i in places)  # it may refer to the group before
        begin = bounds[group - 1] if leads and group else first
        needed[begin : places[-1] + 1] = [True] * (places[-1] + 1 - begin)
    at = 0
    while at < len(needed):  # short gaps are decoded: a restart costs more
        end = next((i for i in range(at, len(needed)) if needed[i] != needed[at]), len(needed))
        if not needed[at] and end - at < SHORTEST_JUMP and at > 0 and end < len(needed):
            needed[at:end] = [True] * (end - at)
        at = end
    return needed


# --- decoding ---------------------------------------------------------------------------------------------------------


def _frames(path: Path, sampling: Sampling, notes: Notes) -> Iterator[tuple[int, float, Any, Any]]:
    """(number, time, frame, stream) of the sampled frames: from as few packets as possible, else from all."""
    with _opened(path) as container:
        stream = _require_video(path, container)
        tick, declared = stream.time_base, _declared_s(container, stream)
        begin = nearest(Fraction(_begin_s(container)).limit_denominator(1_000_000) / tick)
        packets = _listed(container, stream)
    done = -1
    if packets is not None:
        order = sorted(range(len(packets.pts)), key=packets.pts.__getitem__)
        shown = (DisplayedFrame(packets.pts[i] - begin, packets.durations[i], packets.pts[i]) for i in order)
        numbers = {s.what: n for n, s in chosen(shown, sampling, tick)}
        last = order[-1]
        notes.frames, notes.end_s = len(order), float((packets.pts[last] + packets.durations[last] - begin) * tick)
        for number, frame, stream in _decoded_few(path, packets, numbers):
            if number is None:
                break  # the packets did not match the frames: decode all
            done = number
            yield number, float(max(frame.pts - begin, 0) * tick), frame, stream
        else:
            _check_end(notes, declared)
            return
    for number, s in chosen(_decoded_all(path, begin, notes), sampling, tick):
        if number > done:
            frame, stream = s.what
            yield number, float(max(s.pts, 0) * tick), frame, stream
    _check_end(notes, declared)
    if not notes.frames:
        raise UserError.at(path, "has a video stream without any decodable frame: it is damaged")


def _decoded_few(path: Path, packets: _Packets, numbers: dict[int, int]) -> Iterator[tuple[int | None, Any, Any]]:
    """(number, frame, stream) of the frames whose times are in `numbers`; number None if one is missing."""
    needed = _needed(packets, set(numbers))
    due = sorted(numbers, reverse=True)
    with _opened(path) as container:
        stream = _require_video(path, container)
        context = stream.codec_context
        skips = context.name in UNREFERENCED
        restarted, passed_over = False, False
        position = -1
        for packet in _packets(container, stream):
            if packet.size:
                position += 1
                if position >= len(needed) or packet.pts != packets.pts[position]:
                    break
                if not needed[position]:
                    passed_over = True
                    continue
            try:
                frames = []
                if passed_over and packet.size:
                    frames = list(context.decode(None))
                    context.flush_buffers()
                    restarted, passed_over = True, False
                if skips and packet.size:
                    context.skip_frame = "DEFAULT" if packet.pts in numbers else "NONREF"
                frames += context.decode(packet if packet.size else None)
            except _av().error.FFmpegError:
                break
            for frame in frames:
                if restarted and frame.key_frame:
                    restarted = False
                    if frame.pict_type != 1:  # a gradual refresh: complete only some frames later
                        yield None, None, stream
                        return
                if due and frame.pts == due[-1] and not frame.is_corrupt:
                    yield numbers[due.pop()], frame, stream
        if due:
            yield None, None, stream


def _decoded_all(path: Path, begin: int, notes: Notes) -> Iterator[DisplayedFrame]:
    """Every frame of the video in display order, times from `begin`."""
    notes.frames = 0
    error_type = _av().error.FFmpegError
    with _opened(path) as container:
        stream = _require_video(path, container)
        step = _step(stream)
        next_pts = damaged = 0
        for packet in _packets(container, stream, notes):
            try:
                frames = packet.decode()
            except error_type:
                damaged += 1
                continue
            for frame in frames:
                pts = next_pts if frame.pts is None else frame.pts - begin
                duration = frame.duration or step
                next_pts = pts + duration
                notes.frames += 1
                notes.end_s = float(next_pts * stream.time_base)
                yield DisplayedFrame(pts, duration, (frame, stream))
        if damaged:
            notes.problems.append(f"skipped {counted(damaged, 'damaged packet')} of the video")


def _scaler() -> Callable[[Any, int, int, str, str], Any]:
    """A function of (frame, width, height, format, interpolation) that returns an array.

    It keeps a scaler for each format: a new one per frame, PyAV's default, takes twice the time and stays in memory
    until the garbage collector runs.
    """
    scalers: dict[str, Any] = defaultdict(_av().video.reformatter.VideoReformatter)

    def scale(frame: Any, width: int, height: int, kind: str, interpolation: str) -> Any:
        return scalers[kind].reformat(frame, width, height, kind, interpolation=interpolation).to_ndarray()

    return scale


def _picture(frame: Any, aspect: Fraction | None, longest_side: int | None, scale: Callable[..., Any]) -> Image:
    """The frame with square pixels, scaled down to `longest_side`."""
    from PIL import Image as Images

    width, height = frame.width, frame.height
    if aspect and aspect != 1:
        width = max(1, round(width * aspect))
    if longest_side and max(width, height) > longest_side:
        share = longest_side / max(width, height)
        width, height = max(1, round(width * share)), max(1, round(height * share))
    kind = "AREA" if width * height < frame.width * frame.height else "BICUBIC"
    return Images.fromarray(scale(frame, width, height, "rgb24", kind))


def _turn(frame: Any) -> Any:
    """The Pillow transposition for the frame's display matrix; None if there is nothing to rotate or mirror."""
    from PIL.Image import Transpose

    side = frame.side_data.get("DISPLAYMATRIX")
    if side is None:
        return None
    a, b, _, c, d = memoryview(bytes(side)).cast("i")[:5]
    signs = tuple((value > 32768) - (value < -32768) for value in (a, b, c, d))  # 65536 is 1
    turns: dict[tuple[int, ...], Transpose] = {
        (0, 1, -1, 0): Transpose.ROTATE_270,
        (-1, 0, 0, -1): Transpose.ROTATE_180,
        (0, -1, 1, 0): Transpose.ROTATE_90,
        (-1, 0, 0, 1): Transpose.FLIP_LEFT_RIGHT,
        (1, 0, 0, -1): Transpose.FLIP_TOP_BOTTOM,
        (0, 1, 1, 0): Transpose.TRANSPOSE,
        (0, -1, -1, 0): Transpose.TRANSVERSE,
    }
    return turns.get(signs)


# --- the file ---------------------------------------------------------------------------------------------------------


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise UserError("reading a video needs 'av': pip install 'm3dllm[video]'") from error
    return av


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The opened file. Raises UserError if it is missing or cannot be read by ffmpeg."""
    av = _av()
    if not path.is_file():
        raise UserError.at(path, "is a folder" if path.is_dir() else "does not exist")
    if not path.stat().st_size:
        raise UserError.at(path, "is an empty file; expected a video")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UserError.at(
            path, f"cannot be read as a video ({why}): it is truncated, damaged or not a video"
        ) from error
    with container:
        yield container


def _packets(container: Any, stream: Any, notes: Notes | None = None) -> Iterator[Any]:
    """The packets of a stream, up to the end or the first unreadable place."""
    error_type = _av().error.FFmpegError
    while True:
        try:
            yield from container.demux(stream)
            return
        except IndexError:  # a stream that begins in mid-file, unknown to PyAV: skip its packet
            continue
        except error_type as error:
            if notes is not None:
                notes.problems.append(f"the file cannot be read on ({error.strerror})")
            return


def _video_stream(container: Any) -> Any:
    """The stream that ffmpeg selects as the video; None if there is at most a cover picture."""
    av = _av()
    cover = av.stream.Disposition.attached_pic
    best = container.streams.best("video")
    if best is None or best.codec_context is None or best.disposition & cover:
        return None
    best.thread_type = "AUTO"
    return best


def _require_video(path: Path, container: Any) -> Any:
    stream = _video_stream(container)
    if stream is None:
        what = "contains only sound" if container.streams.audio else "contains neither video nor sound"
        raise UserError.at(path, f"{what}: there are no frames to extract")
    return stream


def _begin_s(container: Any) -> float:
    """The start time of the file, which players show as 0."""
    return (container.start_time or 0) / 1_000_000


def _declared_s(container: Any, stream: Any) -> float:
    """The declared length of the video in seconds; 0 if not declared."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / 1_000_000


def _check_end(notes: Notes, declared_s: float) -> None:
    if notes.frames and notes.end_s < declared_s - max(1.0, 0.02 * declared_s):
        ends = f"the video ends after {notes.end_s:.1f} s of the {declared_s:.1f} s that the file declares"
        notes.problems.append(f"{ends}: it is truncated")


def _step(stream: Any) -> int:
    """The default duration of a frame, in ticks."""
    rate = Fraction(stream.guessed_rate or stream.average_rate or 25)
    return max(1, round(1 / (rate * Fraction(stream.time_base))))
