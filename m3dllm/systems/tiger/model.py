"""TIGER at work: rows behind the words of a T5, and boxes chosen by the states that write `in the image`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from m3dllm.labels import LabelSet
from m3dllm.systems.generative import choice
from m3dllm.systems.generative.boxes import Candidate
from m3dllm.systems.generative.codec import Slots
from m3dllm.systems.generative.grounded import GroundedDraft
from m3dllm.systems.generative.language import RECORD
from m3dllm.systems.generative.model import Answer, Fused, GenerativeModel, Reply
from m3dllm.systems.generative.places import Places, windows
from m3dllm.systems.generative.queries import Query, QueryBatch
from m3dllm.systems.generative.rows import rows_of
from m3dllm.systems.generative.seq2seq import IGNORED, Seq2Seq, text_loss
from m3dllm.systems.generative.spans import Words
from m3dllm.systems.generative.system import Generative
from m3dllm.systems.supervised.data import pad
from m3dllm.systems.supervised.features import FrameFeatures
from m3dllm.systems.tiger import Config, sentences
from m3dllm.tokens import tokenize
from m3dllm.types import Document, Example


class TigerModel(GenerativeModel):
    """Rows behind the words (W f), a sentence for each mention, and for those that are shown a row of every frame."""

    config: Config
    tasks: ClassVar = ("entity", "grounding")

    def __init__(self, config: Config, labels: LabelSet, text: Seq2Seq, vision: FrameFeatures | None) -> None:
        super().__init__(config, labels, text, vision)
        if vision is not None:
            self.rows = nn.Linear(text.width, text.width)

    @classmethod
    def words(cls, config: Any, labels: LabelSet) -> Sequence[str]:
        return sentences.WORDS

    def fuse(self, batch: QueryBatch, scene: Tensor) -> Fused:
        """The states of words and rows together. Without a vision encoder there are words alone."""
        if self.vision is None:
            return Fused(self.text.encode(batch.pieces, batch.mask), batch.mask)
        rows = rows_of(batch, scene)
        vectors = self.rows(rows.features)
        return Fused(
            *self.text.encode_with(batch.pieces, batch.mask, vectors, rows.mask), seen=choice.Seen(rows, vectors)
        )

    # --- training -----------------------------------------------------------------------------------------------------

    def lessons(self, example: Example) -> list[Query]:
        """Where regions are annotated, the annotated frames are seen, and what shows them is learned; else none is."""
        document, gold = example.document, example.gold
        frames = [i for i, frame in enumerate(document.frames) if frame.annotated]
        if self.vision is None or "grounding" not in example.annotated:
            frames = []
        candidates = [candidate for candidate in self.candidates(document) if candidate.frame in frames]
        queries = []
        if "entity" in example.annotated:
            queries += [self._mention_query(document, words, frames, candidates, gold) for words in self._cut(document)]
        if candidates:
            queries.append(
                sentences.region_query(document, self.labels, self.config.most_boxes, frames, candidates, gold)
            )
        return queries

    def losses(self, batch: QueryBatch, fused: Fused) -> dict[str, Tensor]:
        """The cross entropy of the pieces, and KL(overlaps || shares) of what is shown."""
        scores, states = self.text.decode(fused.states, fused.mask, batch.labels)
        losses = {"text": text_loss(scores, batch.labels, self.config.label_smoothing)}
        shown = [overlap is not None for one in batch.items for overlap in one.query.overlaps or (None,)]
        if fused.seen is not None and any(shown):
            query, of_image = self._states(states, batch.labels)
            kept = torch.tensor(shown, device=query.device)
            query = query[kept]
            found = choice.log_shares(of_image[kept], query, fused.seen)
            losses["choice"] = choice.choice_loss(found, choice.targets(batch.items, query, fused.seen.rows))
        return losses

    def counts(self, queries: Sequence[Any]) -> dict[str, int]:
        return {**super().counts(queries), "choice": choice.choice_count(queries)}

    def _states(self, states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The number of the query of each sentence, and the mean of the states that write its `in the image`.

        Sentences end before a mark, or before the end; those of a query are in their order.
        """
        codec = self.text.codec
        n_pieces = len(codec.encode(sentences.IMAGE, Slots()))
        ends = (labels == codec.encode(RECORD, Slots())[0]) | (labels == codec.end)
        query, end = ends.nonzero(as_tuple=True)
        place = end[:, None] - 1 - torch.arange(n_pieces, device=end.device)
        return query, states[query[:, None], place.clamp(min=0)].mean(1)

    # --- answers ------------------------------------------------------------------------------------------------------

    def choose(self, batch: QueryBatch, fused: Fused, written: Sequence[list[int]]) -> Sequence[choice.Chosen]:
        """Of each sentence a candidate of each frame, or none of the frame."""
        if fused.seen is None or not any(one.query.candidates for one in batch.items):
            return super().choose(batch, fused, written)
        end = self.text.codec.end
        closed = [torch.tensor(row if row[-1:] == [end] else [*row, end]) for row in written]
        labels = pad(closed, max(map(len, closed)), value=IGNORED).to(self.device)
        _, states = self.text.decode(fused.states, fused.mask, labels)
        query, of_image = self._states(states, labels)
        chosen = choice.best(choice.log_shares(of_image, query, fused.seen), batch.items, query, fused.seen.rows)
        return [tuple(one for n, one in zip(query.tolist(), chosen, strict=True) if n == i) for i in range(len(batch))]

    def answer(self, documents: Sequence[Document]) -> list[Answer]:
        """The mentions of each window with what shows them, and what the frames show besides."""
        scene = self.look(documents)
        drafts = [GroundedDraft(document, self.labels) for document in documents]
        asked: list[tuple[int, Words, Query]] = []
        for i, document in enumerate(documents):
            seen = range(len(document.frames) if self.vision is not None else 0), self.candidates(document)
            asked += [(i, words, self._mention_query(document, words, *seen)) for words in self._cut(document)]
            if seen[1]:
                asked.append((i, (), sentences.region_query(document, self.labels, self.config.most_boxes, *seen)))
        for (i, words, _), reply in zip(asked, self.ask([(i, query) for i, _, query in asked], scene), strict=True):
            _read(drafts[i], reply, words)
        return [draft.answer() for draft in drafts]

    def _cut(self, document: Document) -> list[Words]:
        return windows(tokenize(document), document.text, self.config.window)

    def _mention_query(
        self, document: Document, words: Words, frames: Sequence[int], candidates: Sequence[Candidate], gold: Any = None
    ) -> Query:
        longest = self.config.longest_mention
        return sentences.mention_query(document, words, self.labels, longest, frames, candidates, gold)


def _read(draft: GroundedDraft, reply: Reply, words: Words) -> None:
    """The sentences of a reply; what is none is noted."""
    where, places = draft.turn(reply), Places(draft.document.text, words)
    for n, written in enumerate(reply.text.split(RECORD) if reply.text.strip() else ()):
        sentence = sentences.read(written)
        if sentence is None:
            draft.note("bad_shape", f"{where}.{n}", f"{' '.join(written.split())[:80]!r} is no sentence")
            continue
        chosen = reply.chosen[n] if sentence.shown and n < len(reply.chosen) else ()
        if reply.query.task == "grounding":
            draft.add_regions(f"{where}.{n}", sentence.type, chosen)
        else:
            draft.add_mention(f"{where}.{n}", sentence.type, sentence.text, places.take(sentence.text), chosen)


class Tiger(Generative):
    """The system `tiger`."""

    model = TigerModel
