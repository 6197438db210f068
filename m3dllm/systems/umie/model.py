"""The model of UMIE: the gate between frames and text, its training queries, and its answers about a document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from m3dllm.labels import LabelSet
from m3dllm.systems.generative.codec import Slots
from m3dllm.systems.generative.language import OBJECTS, object_name
from m3dllm.systems.generative.model import Answer, Fused, GenerativeModel, Reply
from m3dllm.systems.generative.places import windows
from m3dllm.systems.generative.queries import Query, QueryBatch
from m3dllm.systems.generative.rows import rows_of
from m3dllm.systems.generative.seq2seq import Seq2Seq
from m3dllm.systems.generative.system import Generative
from m3dllm.systems.supervised.data import pad, row_mask
from m3dllm.systems.supervised.features import FrameFeatures
from m3dllm.systems.umie import Config, tasks
from m3dllm.systems.umie.draft import Draft
from m3dllm.systems.umie.fusion import CodeGate, PaperGate, VisualEncoder
from m3dllm.tokens import tokenize
from m3dllm.types import Document, Example

GATES_KEPT = 2000
"""The number of gate values per task that a run records, the first ones."""


class UmieModel(GenerativeModel):
    """Text states h^e, frames and candidates h^v, and c = h^e + g M for the decoder (eq. 1 to 8)."""

    config: Config

    def __init__(self, config: Config, labels: LabelSet, text: Seq2Seq, vision: FrameFeatures | None) -> None:
        super().__init__(config, labels, text, vision)
        if vision is None:
            return
        width, heads, dropout = text.width, config.attention_heads, config.dropout
        self.visual = VisualEncoder(width, heads, dropout, config.max_frames)
        self.gate = PaperGate() if config.gate == "paper" else CodeGate(width, heads, dropout)
        names = [torch.tensor(text.codec.encode(object_name(n), Slots())) for n in range(OBJECTS)]
        self.register_buffer("names", pad(names, max(map(len, names))), persistent=False)
        self.register_buffer(
            "name_mask", row_mask([len(name) for name in names], max(map(len, names))), persistent=False
        )

    names: Tensor
    """(candidates, pieces): the pieces of the candidates' names."""
    name_mask: Tensor

    @classmethod
    def words(cls, config: Any, labels: LabelSet) -> Sequence[str]:
        return list(tasks.instructions(labels).values())

    def fuse(self, batch: QueryBatch, scene: Tensor) -> Fused:
        """The states of the text, with gated frames if there is a vision encoder."""
        text = self.text.encode(batch.pieces, batch.mask)
        if self.vision is None:
            return Fused(text, batch.mask)
        rows = rows_of(batch, scene)
        vectors = self.visual(rows, self._name_vectors())
        fused, gate = self.gate(text, batch.mask, vectors, rows.mask)
        return Fused(fused, batch.mask, gate)

    def _name_vectors(self) -> Tensor:
        """(candidates, width): the mean input embedding of their names."""
        embedded = self.text.model.get_input_embeddings()(self.names)
        share = self.name_mask.to(embedded.dtype)
        return torch.einsum("np,npw->nw", share / share.sum(1, keepdim=True), embedded)

    # --- what is asked ------------------------------------------------------------------------------------------------

    def training_queries(self, example: Example) -> list[Query]:
        document, gold, labels = example.document, example.gold, self.labels
        queries: list[Query] = []
        if document.text and "entity" in example.annotated:
            queries += self._mention_queries(document, gold.mentions)
        if gold.chains and "chain" in example.annotated:
            queries.append(tasks.chain_query(document, sorted(set(gold.mentions)), labels, gold.chains))
        if gold.chains and "relation" in example.annotated:
            chains = sorted(gold.chains, key=lambda chain: min(chain.mentions))
            queries.append(tasks.relation_query(document, chains, labels, gold.between_chains))
        if "grounding" in example.annotated:
            shown = {i for i, frame in enumerate(document.frames) if frame.annotated}
            known = [candidate for candidate in self.candidates(document) if candidate.frame in shown]
            queries += tasks.region_queries(document, known, labels, gold.regions)
        return queries

    def _mention_queries(self, document: Document, gold: Iterable[Any] = ()) -> list[Query]:
        known = list(gold)
        cut = windows(tokenize(document), document.text, self.config.window)
        return [tasks.mention_query(document, words, self.labels, self.config.longest_mention, known) for words in cut]

    # --- answers ------------------------------------------------------------------------------------------------------

    def answer(self, documents: Sequence[Document]) -> list[Answer]:
        """Mentions, then chains over them, then relations over these, and regions.

        With mentions given only chains are predicted, with chains given only relations. Tasks without gold in training
        are not predicted: mentions are then chains of one.
        """
        scene = self.look(documents)
        drafts = [Draft(document, self.labels) for document in documents]
        free = [(i, draft) for i, draft in enumerate(drafts) if draft.document.given is None]
        cuts = {i: windows(tokenize(d.document), d.document.text, self.config.window) for i, d in free}
        asked = [
            (i, words, tasks.mention_query(draft.document, words, self.labels, self.config.longest_mention))
            for i, draft in free
            for words in cuts[i]
            if "entity" not in self.untaught
        ]
        for (i, words, _), reply in zip(asked, self._ask([(i, q) for i, _, q in asked], scene), strict=True):
            drafts[i].read_mentions(reply, words)
        chained = [(i, draft) for i, draft in enumerate(drafts) if draft.wants_chains]
        if "chain" in self.untaught:
            for _, draft in chained:
                draft.finish_chains(draft.mentions)
            chained = []
        queries = [(i, tasks.chain_query(draft.document, draft.mentions, self.labels)) for i, draft in chained]
        for (_, draft), reply in zip(chained, self._ask(queries, scene), strict=True):
            draft.read_chains(reply)
        related = [(i, draft) for i, draft in enumerate(drafts) if draft.wants_relations]
        related = related if "relation" not in self.untaught else []
        queries = [(i, tasks.relation_query(draft.document, draft.chains, self.labels)) for i, draft in related]
        for (_, draft), reply in zip(related, self._ask(queries, scene), strict=True):
            draft.read_relations(reply)
        queries = [
            (i, query)
            for i, draft in free
            for query in tasks.region_queries(draft.document, self.candidates(draft.document), self.labels)
        ]
        for (i, _), reply in zip(queries, self._ask(queries, scene), strict=True):
            drafts[i].read_regions(reply)
        return [draft.answer() for draft in drafts]

    def _ask(self, queries: Sequence[tuple[int, Query]], scene: Tensor) -> list[Reply]:
        """The replies; their gates go into the record of the run."""
        replies = self.ask(queries, scene)
        gates = self.tally.setdefault("gate", {})
        for reply in replies:
            kept = gates.setdefault(reply.query.task, [])
            if reply.gate is not None and len(kept) < GATES_KEPT:
                kept.append(float(f"{reply.gate:.4g}"))
        return replies


class Umie(Generative):
    """The system `umie`."""

    model = UmieModel
