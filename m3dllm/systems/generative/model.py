"""A generative model: an encoder-decoder with frames, and its queries; a system adds the fusion of text and frames."""

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
from m3dllm.systems.generative.queries import (
    DocumentQuery,
    Encoded,
    Query,
    QueryBatch,
    by_length,
    encode,
    make_query_batch,
)
from m3dllm.systems.generative.seq2seq import Seq2Seq, text_loss
from m3dllm.systems.supervised.data import Inputs, make_batch, to_device
from m3dllm.systems.supervised.features import FrameFeatures
from m3dllm.systems.supervised.text import Subwords
from m3dllm.types import TASKS, Document, Example, Issue, Task, Turn

PIECES_AT_ONCE = 8192
"""The most input pieces, frames and candidates, including padding, of one batch."""
DOCUMENTS_AT_ONCE = 16
"""The number of documents that are answered together."""


@dataclass(frozen=True, slots=True)
class Fused:
    """The input of the decoder for a batch of queries."""

    states: Tensor
    """(queries, places, width)."""
    mask: Tensor
    gate: Tensor | None = None
    """(queries,): the gate of the frames, if there is one."""
    seen: Seen | None = None
    """The rows, if the decoder chooses among them."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The model's answer to a query."""

    query: Query
    text: str
    turn: Turn
    pieces: tuple[int, ...] = ()
    """Its pieces."""
    gate: float | None = None
    chosen: Chosen = ()
    """The candidates that the decoder chose for each record."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer about a document, with Issues of the replies."""

    payload: Mapping[str, Any]
    turns: tuple[Turn, ...] = ()
    issues: tuple[Issue, ...] = ()


class GenerativeModel(nn.Module, ABC):
    """An encoder-decoder and a vision encoder. A system defines queries, fusion, and how replies become answers."""

    tasks: ClassVar[tuple[Task, ...]] = TASKS
    """The tasks that it answers."""

    def __init__(self, config: Any, labels: LabelSet, text: Seq2Seq, vision: FrameFeatures | None) -> None:
        """`vision` is None if the model reads no frames."""
        super().__init__()
        self.config, self.labels, self.text, self.vision = config, labels, text, vision
        self.boxes: Boxes = {}
        self.untaught: frozenset[Task] = frozenset()
        """The tasks that it has no gold to learn from: it is not asked for them."""
        self.tally: dict[str, Any] = {}

    # --- of a system --------------------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def words(cls, config: Any, labels: LabelSet) -> Sequence[str]:
        """The texts of its instructions, whose words the tiny vocabulary always has."""

    @abstractmethod
    def training_queries(self, example: Example) -> list[Query]:
        """The training queries about a document, with gold answers."""

    @abstractmethod
    def fuse(self, batch: QueryBatch, scene: Tensor) -> Fused:
        """Fuse text and frames of a batch of queries; `scene` is the result of `look`."""

    @abstractmethod
    def answer(self, documents: Sequence[Document]) -> list[Answer]:
        """The answers to documents of one pass, in eval mode."""

    def losses(self, batch: QueryBatch, fused: Fused) -> dict[str, Tensor]:
        """The losses by name, each a sum over the items in `counts`."""
        scores, _ = self.decode(batch, fused, batch.labels)
        return {"text": text_loss(scores, batch.labels, self.config.label_smoothing)}

    def counts(self, queries: Sequence[Any]) -> dict[str, int]:
        """The number of terms of each loss: pieces of the answers."""
        return {"text": sum(len(one.target) for one in queries)}

    def encode(self, query: Query) -> Encoded:
        """The encoded query."""
        return encode(query, self.text.codec)

    def decode(self, batch: QueryBatch, fused: Fused, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(logits of the next piece (queries, written, pieces), the decoder's states (queries, written, width)).

        labels: (queries, written), `IGNORED` on padding; each piece is predicted from those before it.
        """
        return self.text.decode(fused.states, fused.mask, labels)

    def write(self, batch: QueryBatch, fused: Fused, walks: Sequence[Walk] | None) -> list[list[int]]:
        """The answers in pieces, each with the end if it was reached; constrained by `walks`, if given."""
        return self.text.write(fused.states, fused.mask, walks, self.config.max_pieces)

    @property
    def end(self) -> int:
        """The piece that ends an answer."""
        return self.text.codec.end

    def spell(self, one: Encoded, written: Sequence[int]) -> str:
        """The text of an answer."""
        return self.text.codec.decode(written, one.slots)

    def choose(self, batch: QueryBatch, fused: Fused, written: Sequence[list[int]]) -> Sequence[Chosen]:
        """The candidates of each record of each reply, if the system chooses any."""
        return [()] * len(batch)

    # --- shared -------------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def candidates(self, document: Document) -> tuple[Candidate, ...]:
        """The candidates for regions of a document."""
        return candidates(document, self.boxes, self.config.most_boxes) if self.vision is not None else ()

    def look(self, documents: Sequence[Document]) -> Tensor:
        """The encoded frames of documents, used by all queries about them: (documents, frames, patches, width).

        The patches of a frame form a square grid, row by row.
        """
        none = torch.zeros(0, dtype=torch.long)
        inputs = [Inputs(one, (), Subwords(none[:, None], none, none, none[:, None]), one.frames) for one in documents]
        batch = to_device(make_batch(inputs, window=1, overlap=0), self.device)
        if self.vision is None or not batch.frame_mask.any():
            return torch.zeros(len(documents), 0, 1, self.text.width, device=self.device)
        shape = (batch.frame_mask.shape[1], self.vision.n_patches)
        return self.vision(batch).last.unflatten(1, shape)

    def batch(self, queries: Sequence[DocumentQuery]) -> QueryBatch:
        return make_query_batch(queries, self.text.codec, self.device)

    @torch.no_grad()
    def ask(self, queries: Sequence[tuple[int, Query]], scene: Tensor) -> list[Reply]:
        """The replies to queries, each given with the index of its document in the scene, in order."""
        encoded = [(number, self.encode(query)) for number, query in queries]
        place = {id(one): i for i, (_, one) in enumerate(encoded)}
        replies: dict[int, Reply] = {}
        for part in by_length(encoded, PIECES_AT_ONCE):
            for (_, one), reply in zip(part, self._write(self.batch(part), scene), strict=True):
                replies[place[id(one)]] = reply
        return [replies[i] for i in range(len(encoded))]

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
