"""CSV tables for spreadsheets: documents, segments, frames, mentions, relations, regions.

A cell that a spreadsheet would take as a formula has a `'` before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from m3dllm.export import FPS, PARTS, File, Item, Notes, Source, name_of, shown_at, spoken
from m3dllm.sheets import csv_lines, noted

HOLDS = PARTS - {"tokens", "glosses", "unannotated", "region relations"}
Row = Sequence[object]


def export(source: Source, notes: Notes, *, fps: float = FPS) -> Iterator[File]:
    """Six tables; each row names its document.

    - `fps`: Frames per second, to compute the times of frames that have none; 0: leave them without.
    """
    tables: dict[str, tuple[str, Callable[[Item], Iterable[Row]]]] = {
        "documents": ("split document lang title group text", _documents),
        "segments": ("document start end start_s end_s text", _segments),
        "frames": ("document frame time_s width_px height_px annotated path", lambda item: _frames(item, fps)),
        "mentions": ("document entity start end type text start_s end_s confidence link", _mentions),
        "relations": ("document head type tail head_name tail_name confidence", _relations),
        "regions": ("document frame time_s type entity x0 y0 x1 y1 confidence", lambda item: _regions(item, fps)),
    }
    for name, (head, rows_of) in tables.items():
        rows = chain([head.split()], chain.from_iterable(map(rows_of, source.items)))
        yield f"{name}.csv", csv_lines(noted(rows, notes.change, name))


def _documents(item: Item) -> Iterator[Row]:
    document = item.document
    yield item.split, document.id, document.lang, document.title, document.group, document.text


def _segments(item: Item) -> Iterator[Row]:
    for s in item.document.segments:
        yield item.document.id, s.start, s.end, s.start_s, s.end_s, item.document.text[s.start : s.end]


def _frames(item: Item, fps: float) -> Iterator[Row]:
    for frame in item.document.frames:
        size = frame.width_px, frame.height_px
        yield item.document.id, frame.index, shown_at(frame, fps), *size, int(frame.annotated), frame.path


def _mentions(item: Item) -> Iterator[Row]:
    document = item.document
    for entity in item.annotation.chains:
        for mention in entity.mentions:
            times = spoken(document, *mention.span) or (None, None)
            text = document.text[mention.start : mention.end]
            sure = mention.confidence, mention.link
            yield document.id, entity.id, *mention.span, mention.type, text, *times, *sure


def _relations(item: Item) -> Iterator[Row]:
    names = _names(item)
    for relation in item.annotation.relations:
        ends = relation.head, relation.type, relation.tail
        yield item.document.id, *ends, names[relation.head], names[relation.tail], relation.confidence


def _regions(item: Item, fps: float) -> Iterator[Row]:
    times = {frame.index: shown_at(frame, fps) for frame in item.document.frames}
    for region in item.annotation.regions:
        about = region.frame, times[region.frame], region.type, region.chain
        yield item.document.id, *about, *region.box, region.confidence


def _names(item: Item) -> dict[str, str]:
    return {entity.id: name_of(item.document, entity) for entity in item.annotation.chains}
