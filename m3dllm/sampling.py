"""Which frames of a video are sampled, by their times: as ffmpeg's filters `select` and `fps` do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Sampling:
    """How frames are sampled: every N-th, N per second, or those on screen at given times."""

    every: int | None = None
    fps: Fraction | None = None
    at_s: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.every, self.fps, self.at_s)) != 1:
            raise ValueError("choose exactly one of: every N-th frame, N frames per second, or given times")
        if self.every is not None and self.every < 1:
            raise ValueError(f"every {self.every} frames: expected 1 or more")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise ValueError(f"{float(self.fps):g} frames a second: expected more than 0 and at most 1000")


class DisplayedFrame(NamedTuple):
    """A frame in display order: its time and duration in ticks of the stream, from the file's beginning."""

    pts: int
    duration: int
    what: Any


def chosen(
    frames: Iterable[DisplayedFrame], sampling: Sampling, tick: Fraction
) -> Iterator[tuple[int, DisplayedFrame]]:
    """(number, frame) of the sampled frames. `tick`: the stream's time base, in seconds.

    Every N-th: as `select='not(mod(n,N))'`. N per second: as the filter `fps`, which rounds times to slots and fills
    each with the last frame in or before it, but each frame is used once. At times: the frame on screen. At least one
    frame is sampled of any video that has one.
    """
    if sampling.every is not None:
        yield from ((n, shown) for n, shown in enumerate(frames) if n % sampling.every == 0)
        return
    times = sorted(Fraction(t) / tick for t in sampling.at_s or ())
    slots = None if sampling.fps is None else sampling.fps * tick

    def between(pts: int, end: int) -> bool:
        """Whether a slot or time falls to the frame that is on screen from `pts` to `end`."""
        if slots is not None:
            return nearest(pts * slots) < nearest(end * slots)
        while times and times[0] < pts:
            times.pop(0)
        return bool(times) and times[0] < end

    held: tuple[int, DisplayedFrame] | None = None
    any_yet = False
    for n, shown in enumerate(frames):
        if held is None:
            times = [max(time, Fraction(shown.pts)) for time in times]
        elif between(held[1].pts, shown.pts):
            any_yet = True
            yield held
        held = n, shown
    if held is None:
        return
    end = held[1].pts + held[1].duration
    if times and times[-1] >= end:  # a time after the end: the last frame is the nearest
        end = math.floor(times[-1]) + 1
    if between(held[1].pts, end) or (slots is not None and not any_yet):
        yield held


def nearest(value: Fraction) -> int:
    """The nearest whole number; halves are rounded up."""
    return math.floor(value + Fraction(1, 2))
