"""The model of TIGER: rows after the words of a T5, and boxes chosen by the states that write `in the image`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from m3dllm.labels import LabelSet
from m3dllm.systems.generative.choice import Seen
from m3dllm.systems.generative.codec import Slots
from m3dllm.systems.generative.grounded import GroundedDraft
from m3dllm.systems.generative.grounding import AnswerForm, GroundingModel
from m3dllm.systems.generative.language import RECORD
from m3dllm.systems.generative.model import Fused, Reply
from m3dllm.systems.generative.places import Places
from m3dllm.systems.generative.queries import QueryBatch
from m3dllm.systems.generative.rows import rows_of
from m3dllm.systems.generative.spans import Words
from m3dllm.systems.generative.system import Generative
from m3dllm.systems.tiger import Config, sentences


class TigerModel(GroundingModel):
    """Rows after the words (W f), a sentence for each mention, and for mentions with boxes a row of every frame."""

    config: Config
    answer_form: ClassVar[AnswerForm] = sentences

    @classmethod
    def words(cls, config: Any, labels: LabelSet) -> Sequence[str]:
        return sentences.WORDS

    def fuse(self, batch: QueryBatch, scene: Tensor) -> Fused:
        """The states of words and rows; without a vision encoder only of words."""
        if self.vision is None:
            return Fused(self.text.encode(batch.pieces, batch.mask), batch.mask)
        rows = rows_of(batch, scene)
        vectors = self.rows(rows.features)
        return Fused(*self.text.encode_with(batch.pieces, batch.mask, vectors, rows.mask), seen=Seen(rows, vectors))

    def choosing(self, states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of the states that write `in the image` in each sentence, divided by the square root of their width.

        Sentences end before a mark or before the end; those of a query are in order.
        """
        codec = self.text.codec
        n_pieces = len(codec.encode(sentences.IMAGE, Slots()))
        ends = (labels == codec.encode(RECORD, Slots())[0]) | (labels == codec.end)
        ends[:, 0] &= labels[:, 0] != codec.end  # an empty answer
        query, end = ends.nonzero(as_tuple=True)
        place = end[:, None] - 1 - torch.arange(n_pieces, device=end.device)
        return query, states[query[:, None], place.clamp(min=0)].mean(1) / self.text.width**0.5

    def read(self, draft: GroundedDraft, reply: Reply, words: Words) -> None:
        where, places = draft.turn(reply), Places(draft.document.text, words)
        for n, written in enumerate(reply.text.split(RECORD) if reply.text.strip() else ()):
            sentence = sentences.read(written)
            if sentence is None:
                draft.note("bad_shape", f"{where}.{n}", f"{' '.join(written.split())[:80]!r} is not a sentence")
                continue
            chosen = reply.chosen[n] if sentence.shown and n < len(reply.chosen) else ()
            if reply.query.task == "grounding":
                draft.add_regions(f"{where}.{n}", sentence.type, chosen)
            else:
                draft.add_mention(f"{where}.{n}", sentence.type, sentence.text, places.take(sentence.text), chosen)


class Tiger(Generative):
    """The system `tiger`."""

    model = TigerModel
