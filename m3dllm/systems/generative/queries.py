"""What is asked of a model about documents, and several such questions side by side."""

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


@dataclass(frozen=True, slots=True)
class Query:
    """One question about a document: a text for the encoder, with the frames and candidates that are seen beside it."""

    task: str
    source: str
    frames: tuple[int, ...]
    """The positions of the frames that are seen."""
    candidates: tuple[Candidate, ...] = ()
    """In the order of their names."""
    walk: Callable[[Codec, Slots], Walk] | None = None
    """What may be answered, from its beginning on."""
    target: tuple[str, ...] = ()
    """The pieces of the gold answer, each to be encoded by itself, where it is known."""
    overlaps: tuple[tuple[float, ...] | None, ...] = ()
    """Of each record of the gold answer, where records choose candidates: how far each overlaps (`boxes.overlaps`);
    None of a record that chooses none."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A query as numbers."""

    query: Query
    source: tuple[int, ...]
    target: tuple[int, ...]
    slots: Slots

    @property
    def length(self) -> int:
        """How much the encoder reads: pieces, and what is seen beside them."""
        return len(self.source) + len(self.query.frames) + len(self.query.candidates)


def encode(query: Query, codec: Codec) -> Encoded:
    """The query in pieces: what the source has no piece for has a slot, which the target may name."""
    slots = Slots()
    source = codec.encode(query.source, slots)
    target = [piece for row in codec.encode_all(query.target, slots) for piece in row]
    return Encoded(query, (*source, codec.end), (*target, codec.end), slots)


Asked = tuple[int, Encoded]
"""A query and the number of its document in the batch."""


@dataclass(frozen=True, slots=True)
class QueryBatch:
    """Several queries side by side."""

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


def make_query_batch(asked: Sequence[Asked], codec: Codec, device: torch.device) -> QueryBatch:
    """The queries side by side, on the device."""
    items = tuple(one for _, one in asked)
    sources, targets = ([torch.tensor(getattr(one, name)) for one in items] for name in ("source", "target"))
    longest, written = (max(map(len, rows)) for rows in (sources, targets))
    return QueryBatch(
        items,
        torch.tensor([number for number, _ in asked], device=device),
        pad(sources, longest, value=codec.pad).to(device),
        row_mask([len(row) for row in sources], longest).to(device),
        pad(targets, written, value=IGNORED).to(device),
    )


def by_length(asked: Sequence[Asked], most: int) -> list[list[Asked]]:
    """The queries in batches of about one length, which with their padding have at most `most` together (or of one)."""
    batches: list[list[Asked]] = []
    for one in sorted(asked, key=lambda one: one[1].length):
        longest, last = one[1].length, batches[-1] if batches else []
        if last and (1 + len(last)) * longest <= most and longest <= 2 * last[0][1].length:
            last.append(one)
        else:
            batches.append([one])
    return batches
