"""Queries to a model about documents, and their batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from m3dllm.systems.generative.boxes import Candidate
from m3dllm.systems.generative.codec import Codec, Slots
from m3dllm.systems.generative.grammar import Walk
from m3dllm.systems.generative.seq2seq import IGNORED
from m3dllm.systems.supervised.data import pad, row_mask

MakeWalk = Callable[[Codec, Slots], Walk]
"""Makes the constraint of one answer."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question about a document: a text for the encoder, with frames and candidates beside it."""

    task: str
    source: str
    frames: tuple[int, ...]
    """The indices of its frames in the document."""
    candidates: tuple[Candidate, ...] = ()
    """Its candidates, in the order of their names."""
    walk: MakeWalk | None = None
    """The constraint of the answer; None: unconstrained."""
    target: tuple[str, ...] = ()
    """The parts of the gold answer, each encoded separately; empty if unknown."""
    overlaps: tuple[tuple[float, ...] | None, ...] = ()
    """For each record of the gold answer, the overlaps of candidates (`boxes.overlaps`); None if it chooses none."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A query as numbers."""

    query: Query
    source: tuple[int, ...]
    target: tuple[int, ...]
    slots: Slots

    @property
    def length(self) -> int:
        """The length of the encoder's input: pieces, frames and candidates."""
        return len(self.source) + len(self.query.frames) + len(self.query.candidates)


def encode(query: Query, codec: Codec) -> Encoded:
    """The query in pieces; words of the source without a piece get slots, which the target may use."""
    slots = Slots()
    source = codec.encode(query.source, slots)
    target = [piece for row in codec.encode_all(query.target, slots) for piece in row]
    return Encoded(query, (*source, codec.end), (*target, codec.end), slots)


DocumentQuery = tuple[int, Encoded]
"""(the number of its document in the batch, the query)."""


@dataclass(frozen=True, slots=True)
class QueryBatch:
    """A padded batch of queries."""

    items: tuple[Encoded, ...]
    document: Tensor
    """(queries,): the number of the document of each."""
    pieces: Tensor
    """(queries, pieces)."""
    mask: Tensor
    labels: Tensor
    """(queries, written): the gold answer, `IGNORED` on padding."""

    def __len__(self) -> int:
        return len(self.items)


def make_query_batch(queries: Sequence[DocumentQuery], codec: Codec, device: torch.device) -> QueryBatch:
    """The padded batch of the queries, on the device."""
    items = tuple(one for _, one in queries)
    sources, targets = ([torch.tensor(getattr(one, name)) for one in items] for name in ("source", "target"))
    longest, written = (max(map(len, rows)) for rows in (sources, targets))
    return QueryBatch(
        items,
        torch.tensor([number for number, _ in queries], device=device),
        pad(sources, longest, value=codec.pad).to(device),
        row_mask([len(row) for row in sources], longest).to(device),
        pad(targets, written, value=IGNORED).to(device),
    )


def by_length(queries: Sequence[DocumentQuery], most: int) -> list[list[DocumentQuery]]:
    """The queries in batches of similar length, with at most `most` pieces including padding (or a single query)."""
    batches: list[list[DocumentQuery]] = []
    for one in sorted(queries, key=lambda one: one[1].length):
        longest, last = one[1].length, batches[-1] if batches else []
        if last and (1 + len(last)) * longest <= most and longest <= 2 * last[0][1].length:
            last.append(one)
        else:
            batches.append([one])
    return batches
