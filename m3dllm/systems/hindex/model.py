"""The model of H-Index: it points to words, flags and types, and chooses boxes by the states at the flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any, ClassVar

import torch
from torch import Tensor

from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.systems.generative.choice import Seen
from m3dllm.systems.generative.codec import Slots
from m3dllm.systems.generative.grammar import GrammarConstraint, Walk
from m3dllm.systems.generative.grounded import GroundedDraft
from m3dllm.systems.generative.grounding import AnswerForm, GroundingModel
from m3dllm.systems.generative.model import Fused, Reply
from m3dllm.systems.generative.queries import Encoded, Query, QueryBatch
from m3dllm.systems.generative.rows import rows_of
from m3dllm.systems.generative.seq2seq import Seq2Seq, shifted, until_end
from m3dllm.systems.generative.spans import Words
from m3dllm.systems.generative.system import Generative
from m3dllm.systems.hindex import Config, indices, pointers
from m3dllm.systems.hindex.indices import END, HIDDEN, SHOWN, START, Indices, Malformed
from m3dllm.systems.hindex.pointers import Pointers, Table
from m3dllm.systems.supervised.data import pad, row_mask
from m3dllm.systems.supervised.features import FrameFeatures


@dataclass(frozen=True, slots=True)
class Pointed(Encoded):
    """A query as numbers; its target is indices."""

    first: tuple[int, ...] = ()
    """The position of the first piece of each word."""


class HIndexModel(GroundingModel):
    """Rows beside the words, mentions as indices, and for mentions with boxes a row of every frame."""

    config: Config
    answer_form: ClassVar[AnswerForm] = indices

    def __init__(self, config: Config, labels: LabelSet, text: Seq2Seq, vision: FrameFeatures | None) -> None:
        super().__init__(config, labels, text, vision)
        self.indices = Indices(labels)
        self.pointers = Pointers(text, self.indices, config.pointer_dropout)
        self._start = int(text.model.config.bos_token_id)
        self._places = int(text.model.config.max_position_embeddings)

    @classmethod
    def words(cls, config: Any, labels: LabelSet) -> Sequence[str]:
        return indices.FLAGS

    def encode(self, query: Query) -> Pointed:
        """Encode words separately, between start and end. Raises UserError if they exceed the BART's positions."""
        codec, slots = self.text.codec, Slots()
        words = query.source.split(" ") if query.source else []
        pieces = [row or [self._start] for row in codec.encode_all([f" {word}" for word in words], slots)]
        first = tuple(accumulate(map(len, pieces), initial=1))[:-1]
        source = (self._start, *chain.from_iterable(pieces), codec.end)
        target = (*map(self.indices.index, query.target), END)
        if (n := max(len(source), len(target))) > self._places:
            raise UserError(
                f"window {self.config.window}: a window has {n} pieces, and text_model has {self._places} places: "
                "give a smaller --window"
            )
        return Pointed(query, source, target, slots, first)

    @property
    def end(self) -> int:
        return END

    def spell(self, one: Encoded, written: Sequence[int]) -> str:
        return self.indices.spell(written)

    def fuse(self, batch: QueryBatch, scene: Tensor) -> Fused:
        """The states of words and rows; without a vision encoder only of words."""
        bart, n = self.text.model, batch.pieces.shape[1]
        if self.vision is None:
            none = torch.zeros(len(batch), 0, self.text.width, device=self.device)
            return Fused(*pointers.encode(bart, batch.pieces, batch.mask, none, batch.mask[:, :0]))
        rows = rows_of(batch, scene)
        embedded = self.rows(rows.features)
        states, mask = pointers.encode(bart, batch.pieces, batch.mask, embedded, rows.mask)
        return Fused(states, mask, seen=Seen(rows, self.pointers.vectors(states[:, n:], embedded)))

    def decode(self, batch: QueryBatch, fused: Fused, labels: Tensor) -> tuple[Tensor, Tensor]:
        table = self._table(batch, fused)
        return self._point(table, fused, shifted(labels, START))

    def write(self, batch: QueryBatch, fused: Fused, walks: Sequence[Walk] | None) -> list[list[int]]:
        from transformers import DynamicCache, EncoderDecoderCache

        table, constraint = self._table(batch, fused), None if walks is None else GrammarConstraint(walks)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        written = torch.full((len(batch), 1), START, device=self.device)
        for _ in range(min(self.config.max_pieces, self._places - 1)):
            scores = self._point(table, fused, written[:, -1:], cache)[0][:, -1]
            scores = scores if constraint is None else constraint(written, scores)
            written = torch.cat([written, scores.argmax(-1, keepdim=True)], 1)
            if (written == END).any(1).all():
                break
        return [until_end(row, END) for row in written[:, 1:].tolist()]

    def _table(self, batch: QueryBatch, fused: Fused) -> Table:
        firsts = [torch.tensor(one.first, dtype=torch.long) for one in batch.items if isinstance(one, Pointed)]
        longest = max(map(len, firsts))
        place = pad(firsts, longest).to(self.device)[..., None]
        mask = row_mask([len(first) for first in firsts], longest).to(self.device)
        embed = self.text.model.get_input_embeddings()
        ends = embed(torch.tensor([self._start, self.text.codec.end], device=self.device))
        states, words = (x.take_along_dim(place, 1) for x in (fused.states, embed(batch.pieces)))
        return self.pointers.table(ends, states, words, mask)

    def _point(self, table: Table, fused: Fused, read: Tensor, cache: Any = None) -> tuple[Tensor, Tensor]:
        """(logits of the next index (queries, read, indices), the decoder's states)."""
        vectors = table.read.take_along_dim(read[..., None], 1)
        states = self.pointers.dropout(pointers.decode(self.text.model, vectors, fused.states, fused.mask, cache))
        scores = torch.einsum("qtw,qiw->qti", states, table.pointed)
        return scores.masked_fill(~table.mask[:, None], -torch.inf), states

    # --- replies ------------------------------------------------------------------------------------------------------

    def choosing(self, states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The states that read the flags, one position after each flag."""
        query, place = ((labels == SHOWN) | (labels == HIDDEN)).nonzero(as_tuple=True)
        return query, states[query, place + 1]

    def read(self, draft: GroundedDraft, reply: Reply, words: Words) -> None:
        where = draft.turn(reply)
        for n, record in enumerate(self.indices.read(reply.pieces)):
            place = f"{where}.{n}"
            if isinstance(record, Malformed):
                draft.note("bad_shape", place, f"{record.text!r} is not a record")
                continue
            named = reply.query.task == "entity"
            run = tuple(range(record.words[0], record.words[0] + len(record.words))) if record.words else ()
            if record.words != run or named != bool(run):
                draft.note(
                    "bad_shape", place, f"words {list(record.words)}: expected {'a run of' if named else 'no'} words"
                )
                continue
            chosen = reply.chosen[record.flag] if record.shown and record.flag < len(reply.chosen) else ()
            if named:
                span = words[run[0]][0], words[run[-1]][1]
                draft.add_mention(place, record.type, draft.document.text[slice(*span)], span, chosen)
            else:
                draft.add_regions(place, record.type, chosen)


class HIndex(Generative):
    """The system `h-index`."""

    model = HIndexModel
