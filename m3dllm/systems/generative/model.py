"""A generating model: an encoder-decoder, frames beside its text, and what it is asked; a system adds how they meet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from m3dllm.devices import autocast
from m3dllm.labels import LabelSet
from m3dllm.systems.generative.boxes import Boxes, Candidate, candidates
from m3dllm.systems.generative.choice import Chosen, Seen
from m3dllm.systems.generative.grammar import Walk
from m3dllm.systems.generative.queries import Asked, Encoded, Query, QueryBatch, by_length, encode, make_query_batch
from m3dllm.systems.generative.seq2seq import Seq2Seq, text_loss
from m3dllm.systems.supervised.data import Inputs, make_batch, to_device
from m3dllm.systems.supervised.features import FrameFeatures
from m3dllm.systems.supervised.text import Subwords
from m3dllm.types import TASKS, Document, Example, Issue, Task, Turn

PIECES_AT_ONCE = 8192
"""Pieces of sources and what is seen beside them, padding too, that go through the model at once."""
DOCUMENTS_AT_ONCE = 16
"""Documents that are answered together."""


@dataclass(frozen=True, slots=True)
class Fused:
    """What the decoder reads of a batch of queries."""

    states: Tensor
    """(queries, places, width)."""
    mask: Tensor
    gate: Tensor | None = None
    """(queries,): how much of the frames was let in, where there is a gate."""
    seen: Seen | None = None
    """The rows, where the decoder chooses among them."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What was written to a query."""

    query: Query
    text: str
    turn: Turn
    pieces: tuple[int, ...] = ()
    """What was written, in pieces."""
    gate: float | None = None
    chosen: Chosen = ()
    """Of each record, the candidates that the decoder chose for it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered about a document, and what was wrong with what was written."""

    payload: Mapping[str, Any]
    turns: tuple[Turn, ...] = ()
    issues: tuple[Issue, ...] = ()


class GenerativeModel(nn.Module, ABC):
    """An encoder-decoder and a vision encoder. A system says what it asks, how text and frames meet, how it answers."""

    tasks: ClassVar[tuple[Task, ...]] = TASKS
    """The tasks that it answers."""

    def __init__(self, config: Any, labels: LabelSet, text: Seq2Seq, vision: FrameFeatures | None) -> None:
        """`vision` is None where no frames are read."""
        super().__init__()
        self.config, self.labels, self.text, self.vision = config, labels, text, vision
        self.boxes: Boxes = {}
        self.tally: dict[str, Any] = {}

    # --- of a system --------------------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def words(cls, config: Any, labels: LabelSet) -> Sequence[str]:
        """What its instructions say: words that the tiny vocabulary always has."""

    @abstractmethod
    def lessons(self, example: Example) -> list[Query]:
        """What it is trained on of a document: queries with their gold answers."""

    @abstractmethod
    def fuse(self, batch: QueryBatch, scene: Tensor) -> Fused:
        """Text and frames of a batch of queries; `scene` is what `look` gave."""

    @abstractmethod
    def answer(self, documents: Sequence[Document]) -> list[Answer]:
        """The answers to documents of one pass, in eval mode."""

    def losses(self, batch: QueryBatch, fused: Fused) -> dict[str, Tensor]:
        """The losses by name, each a sum over what `counts` counts."""
        scores, _ = self.decode(batch, fused, batch.labels)
        return {"text": text_loss(scores, batch.labels, self.config.label_smoothing)}

    def counts(self, queries: Sequence[Any]) -> dict[str, int]:
        """What the losses are sums over: pieces of the answers."""
        return {"text": sum(len(one.target) for one in queries)}

    def encode(self, query: Query) -> Encoded:
        """A query as numbers."""
        return encode(query, self.text.codec)

    def decode(self, batch: QueryBatch, fused: Fused, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(scores of what is written (queries, written, pieces), the decoder's states (queries, written, width)).

        labels: (queries, written), `IGNORED` on padding; each piece is predicted from those before it.
        """
        return self.text.decode(fused.states, fused.mask, labels)

    def write(self, batch: QueryBatch, fused: Fused, walks: Sequence[Walk] | None) -> list[list[int]]:
        """The answers in pieces, each with the end if it came; held to `walks`, where there are such."""
        return self.text.write(fused.states, fused.mask, walks, self.config.max_pieces)

    @property
    def end(self) -> int:
        """The piece that ends an answer."""
        return self.text.codec.end

    def spell(self, one: Encoded, written: Sequence[int]) -> str:
        """The text of an answer."""
        return self.text.codec.decode(written, one.slots)

    def choose(self, batch: QueryBatch, fused: Fused, written: Sequence[list[int]]) -> Sequence[Chosen]:
        """The candidates that each record of what was written to each query shows, where a system chooses any."""
        return [()] * len(batch)

    # --- shared -------------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def candidates(self, document: Document) -> tuple[Candidate, ...]:
        """The candidates for regions of a document."""
        return candidates(document, self.boxes, self.config.most_boxes) if self.vision is not None else ()

    def look(self, documents: Sequence[Document]) -> Tensor:
        """The frames of documents, encoded once for all queries about them: (documents, frames, patches, width).

        The patches of a frame lie in a square, row by row.
        """
        none = torch.zeros(0, dtype=torch.long)
        inputs = [Inputs(one, (), Subwords(none[:, None], none, none, none[:, None]), one.frames) for one in documents]
        batch = to_device(make_batch(inputs, window=1, overlap=0), self.device)
        if self.vision is None or not batch.frame_mask.any():
            return torch.zeros(len(documents), 0, 1, self.text.width, device=self.device)
        shape = (batch.frame_mask.shape[1], self.vision.n_patches)
        return self.vision(batch).last.unflatten(1, shape)

    def batch(self, asked: Sequence[Asked]) -> QueryBatch:
        return make_query_batch(asked, self.text.codec, self.device)

    @torch.no_grad()
    def ask(self, queries: Sequence[tuple[int, Query]], scene: Tensor) -> list[Reply]:
        """The replies to queries, each with the number of its document in the scene, in their order."""
        asked = [(number, self.encode(query)) for number, query in queries]
        place = {id(one): i for i, (_, one) in enumerate(asked)}
        replies: dict[int, Reply] = {}
        for part in by_length(asked, PIECES_AT_ONCE):
            for (_, one), reply in zip(part, self._write(self.batch(part), scene), strict=True):
                replies[place[id(one)]] = reply
        return [replies[i] for i in range(len(asked))]

    def _write(self, batch: QueryBatch, scene: Tensor) -> list[Reply]:
        walks: list[Walk] = []
        with autocast(self.config.precision, self.device):
            fused = self.fuse(batch, scene)
            if self.config.constrain:
                codec = self.text.codec
                walks = [one.query.walk(codec, one.slots) for one in batch.items if one.query.walk is not None]
            written = self.write(batch, fused, walks or None)
            chosen = self.choose(batch, fused, written)
        gates = [None] * len(batch) if fused.gate is None else fused.gate.tolist()
        rows = zip(batch.items, written, gates, chosen, strict=True)
        return [self._reply(one, row, gate, shown) for one, row, gate, shown in rows]

    def _reply(self, one: Encoded, row: list[int], gate: float | None, chosen: Chosen) -> Reply:
        text, finish = self.spell(one, row), "stop" if row[-1:] == [self.end] else "length"
        turn = Turn(one.query.task, text=text, finish=finish, tokens_in=len(one.source), tokens_out=len(row))
        return Reply(one.query, text, turn, tuple(row), gate, chosen)

    def trained_weights(self) -> dict[str, Tensor]:
        """The weights that are trained, by name."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}
