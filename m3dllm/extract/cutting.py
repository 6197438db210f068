"""Cut a film into documents of one to two minutes, at gaps of its subtitles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from m3dllm.subtitles import Cue

SHORTEST_S, LONGEST_S = 60.0, 120.0
"""The minimum and maximum length of a document, in seconds."""
WIDEST_S = 5.0
"""A gap wider than this is no better to cut at."""
SENTENCE_END_S = 2.0
"""The end of a sentence is worth this many seconds of a gap."""
BEST_WORTH = WIDEST_S + SENTENCE_END_S
"""The worth of the best possible cut."""
STEP_S = 1.0
"""A long silence may be cut every so many seconds."""
_ENDS = tuple('.?!…。？！"”’」』')


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a film: half open in seconds, with the cues that begin in it. The pieces cover the whole film."""

    start_s: float
    end_s: float
    cues: tuple[Cue, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """A time at which a film may be cut: its worth, and the number of cues before it."""

    time_s: float
    worth: float
    cues: int


def cut(
    cues: Sequence[Cue], duration_s: float, *, shortest_s: float = SHORTEST_S, longest_s: float = LONGEST_S
) -> list[Piece]:
    """The film from 0 to `duration_s`, or to its last cue, in pieces; `cues` are sorted by time and do not overlap.

    Of all ways to cut it into pieces of `shortest_s` to `longest_s`, it takes the one with the fewest cuts that are not
    in a wide gap at the end of a sentence; a piece is longer or shorter only if there is no other way. In a silence
    longer than `shortest_s`, the film may be cut anywhere. A film no longer than `longest_s` is one piece.
    """
    if not 0 < shortest_s <= longest_s / 2:
        raise ValueError(f"pieces of {shortest_s} to {longest_s} s: the longest must be at least twice the shortest")
    end_s = max(duration_s, cues[-1].end_s if cues else 0.0)
    if end_s <= longest_s:
        return [Piece(0.0, end_s, tuple(cues))]
    places = _places(cues, end_s, shortest_s)
    bounds = _best(places, shortest_s, longest_s)
    return [Piece(a.time_s, b.time_s, tuple(cues[a.cues : b.cues])) for a, b in pairwise(bounds)]


def _places(cues: Sequence[Cue], end_s: float, shortest_s: float) -> list[_Place]:
    """The places where the film may be cut, from its beginning to its end."""
    spoken = [
        (0.0, 0.0, 0),
        *((cue.start_s, cue.end_s, i + 1) for i, cue in enumerate(cues)),
        (end_s, end_s, len(cues)),
    ]
    places = [_Place(0.0, 0.0, 0)]
    for (_, before_s, n), (after_s, _, _) in pairwise(spoken):
        gap_s = after_s - before_s
        worth = min(gap_s, WIDEST_S) + (SENTENCE_END_S if n and cues[n - 1].text.endswith(_ENDS) else 0.0)
        steps = math.ceil(gap_s / STEP_S) if gap_s > shortest_s else 1
        for step in range(steps):
            time_s = before_s + gap_s * (step + 0.5) / steps
            if places[-1].time_s < time_s < end_s:
                places.append(_Place(time_s, worth, n))
    return [*places, _Place(end_s, 0.0, len(cues))]


def _best(places: Sequence[_Place], shortest_s: float, longest_s: float) -> list[_Place]:
    """The places of the best cuts: each second beyond the limits outweighs all gaps together."""
    beyond = len(places) * BEST_WORTH
    costs, before = [0.0], [0]
    for j in range(1, len(places)):
        best, best_at = math.inf, j - 1
        for i in range(j - 1, -1, -1):
            length = places[j].time_s - places[i].time_s
            excess = max(0.0, length - longest_s)
            cost = costs[i] + beyond * (excess + max(0.0, shortest_s - length)) + BEST_WORTH - places[j].worth
            if cost <= best:  # of equally good ones the longest piece
                best, best_at = cost, i
            if excess > 0:  # earlier beginnings are only longer
                break
        costs.append(best)
        before.append(best_at)
    at, chosen = len(places) - 1, [places[-1]]
    while at:
        at = before[at]
        chosen.append(places[at])
    return chosen[::-1]
