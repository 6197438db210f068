"""Documents too long for the context: split into overlapping windows, and the merging of their answers.

No text is lost: every token is in a window, and a mention no longer than the overlap lies completely in at least one.
Windows begin and end with subtitle lines if such an edge is near, else with tokens. A frame belongs to only one window,
the one whose middle is nearest in time, so that each region is predicted once.

Answers are merged as follows (`merge`): a span is one mention, with the type of the first window that found it. Chains
that share a span are joined, so that a chain continues across windows through mentions in the overlaps; other chains
stay separate. Relations and regions move to the merged chains; repeated relations count once. Relations between chains
that are in no common window cannot be predicted.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from m3dllm.answers import Span
from m3dllm.confidence import confidences_of
from m3dllm.tokens import tokenize
from m3dllm.types import Annotation, Chain, Document, Frame, Given, Mention

OVERLAP = 0.25
"""The minimum overlap of neighbouring windows, as a share of a window."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a document, from offset `start`, as a separate document with its tokens, lines and frames."""

    start: int
    document: Document

    @property
    def end(self) -> int:
        return self.start + len(self.document.text)


def cut(document: Document, count: int, *, fps: float = 24.0) -> list[Window]:
    """The document in at most `count` windows of about equal length; given or proposed annotations are split too.

    A mention of up to `OVERLAP` of a window's length lies completely in at least one of them.
    """
    spans = _spans(document, count)
    owners = _owners(document, spans, fps)
    return [
        Window(start, _part(document, start, end, [f for f in document.frames if owners[f.index] == i]))
        for i, (start, end) in enumerate(spans)
    ]


def cut_annotation(annotation: Annotation, window: Window) -> Annotation:
    """The part of a document's annotation in a window: complete mentions, and regions of its frames."""
    start, end = window.start, window.end
    chains = tuple(
        Chain(chain.id, tuple(replace(m, start=m.start - start, end=m.end - start) for m in inside))
        for chain in annotation.chains
        if (inside := [m for m in chain.mentions if start <= m.start and m.end <= end])
    )
    frames = {frame.index for frame in window.document.frames}
    return Annotation.pruned(
        chains, annotation.relations, (region for region in annotation.regions if region.frame in frames)
    )


def merge(readings: Sequence[tuple[Window, Annotation]], *, known: Iterable[Chain] = ()) -> dict[str, Any]:
    """The answers about the windows as one answer about the document; see the module for the rules.

    Mentions are written as offsets, boxes as fractions. `known` are given chains of the document: they are
    in the answer unchanged.
    """
    links = _Links()
    for chain in known:
        links.join(chain.mentions)
    for window, found in readings:
        for chain in found.chains:
            at = window.start
            links.join(replace(m, start=m.start + at, end=m.end + at) for m in chain.mentions)
    chains, names = links.chains()
    relations: dict[tuple[str, str, str], dict[str, float]] = {}
    regions: list[dict[str, Any]] = []
    for window, found in readings:
        local = {
            c.id: names[c.mentions[0].start + window.start, c.mentions[0].end + window.start] for c in found.chains
        }
        for region in found.regions:
            row: dict[str, Any] = {"frame": region.frame, "type": region.type, "chain": local.get(region.chain or "")}
            row |= {"box": list(region.box)} | confidences_of(region)
            if region.id is not None:
                row["id"] = local[region.id] = f"r{len(regions)}"
            regions.append(row)
        for r in found.relations:
            relations.setdefault((local[r.head], local[r.tail], r.type), confidences_of(r))
    return {
        "chains": chains,
        "relations": [
            {"head": head, "tail": tail, "type": kind} | sure for (head, tail, kind), sure in relations.items()
        ],
        "regions": regions,
    }


class _Links:
    """Mentions being joined to chains: a union-find over their spans."""

    def __init__(self) -> None:
        self._above: dict[Span, Span] = {}
        self._mentions: dict[Span, Mention] = {}

    def join(self, mentions: Iterable[Mention]) -> None:
        """Join these mentions."""
        first: Span | None = None
        for mention in mentions:
            self._above.setdefault(mention.span, mention.span)
            self._mentions.setdefault(mention.span, mention)
            if first is not None:
                self._above[self._top(mention.span)] = self._top(first)
            first = first or mention.span

    def _top(self, span: Span) -> Span:
        while self._above[span] != span:
            self._above[span] = self._above[self._above[span]]
            span = self._above[span]
        return span

    def chains(self) -> tuple[list[dict[str, Any]], Mapping[Span, str]]:
        """(the chains in the answer form, in the order of their first mentions; span -> chain)."""
        groups: dict[Span, list[Span]] = {}
        for span in sorted(self._above):
            groups.setdefault(self._top(span), []).append(span)
        chains = []
        names: dict[Span, str] = {}
        for i, spans in enumerate(groups.values()):
            found = [self._mentions[span] for span in spans]
            kind = Counter(mention.type for mention in found).most_common(1)[0][0]
            mentions = [{"start": m.start, "end": m.end, "type": m.type} | confidences_of(m) for m in found]
            chains.append({"id": f"c{i}", "type": kind, "mentions": mentions})
            names |= dict.fromkeys(spans, f"c{i}")
        return chains, names


# --- cutting ----------------------------------------------------------------------------------------------------------


def _spans(document: Document, count: int) -> list[Span]:
    """The spans of the windows: equal ones, with edges moved outwards to nearby boundaries."""
    text, tokens = document.text, sorted(tokenize(document))
    if count < 2 or not tokens:
        return [(0, len(text))]
    starts, ends = [start for start, _ in tokens], sorted(end for _, end in tokens)
    lines = [(_from(starts, s.start), _before(ends, s.end)) for s in document.segments]
    line_starts = sorted({start for start, _ in lines if start is not None})
    line_ends = sorted({end for _, end in lines if end is not None})
    width = len(text) / (count - (count - 1) * OVERLAP)
    spans: list[Span] = []
    for i in range(count):
        left, right = i * width * (1 - OVERLAP), i * width * (1 - OVERLAP) + width
        start = _near(_before(line_starts, left), left, width) or _before(starts, left) or 0
        end = _near(_from(line_ends, right), right, width) or _from(ends, right) or len(text)
        span = (start if i else 0, end if i < count - 1 else len(text))
        if not spans or span[1] > spans[-1][1]:
            spans.append(span)
    return spans


def _before(edges: Sequence[int], at: float) -> int | None:
    """The last of the edges that is not after `at`."""
    i = bisect_right(edges, at)
    return edges[i - 1] if i else None


def _from(edges: Sequence[int], at: float) -> int | None:
    """The first of the edges that is not before `at`."""
    i = bisect_left(edges, at)
    return edges[i] if i < len(edges) else None


def _near(edge: int | None, at: float, width: float) -> int | None:
    """The edge, if it is at most one overlap away: windows are not extended further to reach a line."""
    return edge if edge is not None and abs(edge - at) <= OVERLAP * width else None


def _part(document: Document, start: int, end: int, frames: Sequence[Frame]) -> Document:
    """The document from `start` to `end`, with these frames."""
    given, proposed = document.given, document.proposed
    part = replace(
        document,
        text=document.text[start:end],
        tokens=tuple((a - start, b - start) for a, b in tokenize(document) if start <= a and b <= end),
        segments=tuple(
            replace(s, start=max(s.start, start) - start, end=min(s.end, end) - start)
            for s in document.segments
            if s.start < end and start < s.end
        ),
        frames=tuple(frames),
        given=None,
        proposed=None,
    )
    if proposed is not None:
        part = replace(part, proposed=cut_annotation(proposed, Window(start, part)))
    if given is None:
        return part
    inside = cut_annotation(given, Window(start, part))
    return replace(part, given=Given(inside.chains, inside.relations, inside.regions, given.kind))


def _owners(document: Document, spans: Sequence[Span], fps: float) -> dict[int, int]:
    """The window of each frame, by the frame's number."""
    timed = [s for s in document.segments if s.end_s > 0] if fps > 0 else []
    owners = {}
    for rank, frame in enumerate(sorted(document.frames, key=lambda frame: frame.index)):
        at = (rank + 0.5) / len(document.frames) * len(document.text)
        if timed:
            moment = frame.at_s(fps) or 0.0
            line = min(timed, key=lambda s: (max(s.start_s - moment, moment - s.end_s, 0.0), s.start))
            at = (line.start + line.end) / 2
        owners[frame.index] = min(range(len(spans)), key=lambda i: abs(sum(spans[i]) / 2 - at))
    return owners
