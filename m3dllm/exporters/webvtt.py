"""WebVTT: a metadata track per document, with mentions, relations and regions as JSON cues.

A cue of a segment has `mentions` (entity, name, type, text) and the `relations` between entities mentioned in it; a cue
of a frame has `regions` (entity, type, and `xywh` in percent of the frame); each has its `confidence`, if known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from m3dllm.confidence import confidences_of
from m3dllm.export import FPS, File, Item, Notes, Source, name_of, shown_at
from m3dllm.files import file_name
from m3dllm.types import Box, Segment
from m3dllm.wire import encode

HOLDS = frozenset(
    ("texts", "mentions", "overlaps", "repeats", "spaces", "chains", "relations", "frames", "regions", "segments")
) | {"region chains", "confidences"}


class _Cue(NamedTuple):
    start_s: float
    end_s: float
    payload: dict[str, Any]


def export(source: Source, notes: Notes, *, fps: float = FPS) -> Iterator[File]:
    """One file per document with something to show at a known time.

    - `fps`: Frames per second, to compute the times of frames that have none; 0: leave them without.
    """
    for item in source.items:
        cues = [*_said(item, notes), *_seen(item, notes, fps)]
        if cues:
            pieces = ["WEBVTT\n", *map(_block, sorted(cues, key=lambda cue: cue[:2]))]
            yield f"{item.split}/{file_name(item.document.id)}.vtt", "\n".join(pieces)
        else:
            notes.leave_out("document", "nothing in it has a time", item.document.id)


def _said(item: Item, notes: Notes) -> Iterator[_Cue]:
    """A cue for each segment with a mention; mentions outside of segments are noted."""
    document, found = item.document, item.annotation
    names = {chain.id: name_of(document, chain) for chain in found.chains}
    places = [(chain.id, mention) for chain in found.chains for mention in chain.mentions]
    written: set[int] = set()
    related: set[int] = set()
    for segment in document.segments:
        here = [n for n, (_, mention) in enumerate(places) if _holds(segment, mention.start)]
        entities = {places[n][0] for n in here}
        facts = [n for n, r in enumerate(found.relations) if {r.head, r.tail} <= entities]
        written.update(here)
        related.update(facts)
        if here:
            spoken = (
                (entity, mention, document.text[slice(*mention.span)])
                for entity, mention in map(places.__getitem__, here)
            )
            payload = {
                "text": document.text[segment.start : segment.end],
                "mentions": [
                    {"entity": e, "name": names[e], "type": m.type, "text": text} | confidences_of(m)
                    for e, m, text in spoken
                ],
                "relations": [
                    _fields(found.relations[n], "head", "type", "tail") | confidences_of(found.relations[n])
                    for n in facts
                ],
            }
            yield _Cue(segment.start_s, segment.end_s, payload)
    for n, (_, mention) in enumerate(places):
        if n not in written:
            notes.leave_out("mention", "its time is not known", f"{document.id}: {mention.start}")
    for n, relation in enumerate(found.relations):
        if n not in related:
            notes.leave_out("relation", "no segment mentions both its entities", f"{document.id}: {relation.type}")


def _holds(segment: Segment, start: int) -> bool:
    """Whether a mention that begins at `start` is in the segment, and the segment has a duration."""
    return segment.start <= start < segment.end and segment.start_s < segment.end_s


def _fields(value: object, *names: str) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names}


def _seen(item: Item, notes: Notes, fps: float) -> Iterator[_Cue]:
    """A cue for each frame with regions, as long as one frame of the clip."""
    for frame in item.document.frames:
        regions = [region for region in item.annotation.regions if region.frame == frame.index]
        start = shown_at(frame, fps)
        if regions and start is not None:
            seen = [{"entity": r.chain, "type": r.type, "xywh": _percent(r.box)} | confidences_of(r) for r in regions]
            yield _Cue(start, start + 1 / (fps or FPS), {"frame": frame.index, "regions": seen})
        for region in regions if start is None else ():
            notes.leave_out("region", "the time of its frame is not known", f"{item.document.id}: {region.frame}")


def _percent(box: Box) -> list[float]:
    return [100 * box.x0, 100 * box.y0, 100 * (box.x1 - box.x0), 100 * (box.y1 - box.y0)]


def _block(cue: _Cue) -> str:
    payload = encode(cue.payload).decode().replace("-->", "--\\u003e")  # no payload may hold an arrow
    return f"{_clock(cue.start_s)} --> {_clock(cue.end_s)}\n{payload}\n"


def _clock(seconds: float) -> str:
    minutes, millis = divmod(round(1000 * seconds), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{millis // 1000:02}.{millis % 1000:03}"
