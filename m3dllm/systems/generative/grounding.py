"""A model that predicts for each mention whether the frames show it, and chooses the boxes: TIGER, H-Index.

It has a query for the mentions of each window and, if the document has frames with candidates, one for the regions that
show no mention.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from m3dllm.labels import LabelSet
from m3dllm.systems.generative import choice
from m3dllm.systems.generative.boxes import Candidate
from m3dllm.systems.generative.grounded import GroundedDraft, GroundedItem, mentions_of, unnamed_of
from m3dllm.systems.generative.model import Answer, Fused, GenerativeModel, Reply
from m3dllm.systems.generative.places import windows
from m3dllm.systems.generative.queries import MakeWalk, Query, QueryBatch
from m3dllm.systems.generative.seq2seq import IGNORED, Seq2Seq, text_loss
from m3dllm.systems.generative.spans import Words
from m3dllm.systems.supervised.data import pad
from m3dllm.systems.supervised.features import FrameFeatures
from m3dllm.tokens import tokenize
from m3dllm.types import Annotation, Document, Example


class AnswerForm(Protocol):
    """The text of a system's queries, and the form of their answers. A module with these functions will do."""

    def source(self, document: Document, words: Words) -> str:
        """The text of the query for the mentions of a window."""

    def mention_walk(
        self, document: Document, words: Words, labels: LabelSet, shown: Collection[str], longest: int
    ) -> MakeWalk:
        """The constraint for mentions of at most `longest` words; boxes may show only those of the types `shown`."""

    def region_walk(self, labels: LabelSet, most: int) -> MakeWalk:
        """The constraint for unnamed regions, at most `most` of a type."""

    def write(
        self, document: Document, words: Words, labels: LabelSet, said: Sequence[GroundedItem]
    ) -> tuple[str, ...]:
        """The parts of the gold answer."""


def mention_query(
    form: AnswerForm,
    document: Document,
    words: Words,
    labels: LabelSet,
    longest: int,
    frames: Sequence[int],
    candidates: Sequence[Candidate],
    gold: Annotation | None = None,
) -> Query:
    """The query for the mentions of a window, of at most `longest` words, with their boxes, and the gold ones in it."""
    said = [] if gold is None else mentions_of(document, words, candidates, gold)
    return Query(
        "entity",
        form.source(document, words),
        tuple(frames),
        tuple(candidates),
        walk=form.mention_walk(document, words, labels, labels.names("regions") if frames else (), longest),
        target=form.write(document, words, labels, said),
        overlaps=tuple(one.overlaps for one in said),
    )


def region_query(
    form: AnswerForm,
    document: Document,
    labels: LabelSet,
    most: int,
    frames: Sequence[int],
    candidates: Sequence[Candidate],
    gold: Annotation | None = None,
) -> Query:
    """The query for the regions that belong to no mention: of each type at most `most`, as many as a frame may have."""
    said = [] if gold is None else unnamed_of(document, labels, most, candidates, gold)
    return Query(
        "grounding",
        "",
        tuple(frames),
        tuple(candidates),
        walk=form.region_walk(labels, most),
        target=form.write(document, (), labels, said),
        overlaps=tuple(one.overlaps for one in said),
    )


class GroundingModel(GenerativeModel):
    """Entities and grounding. A system defines its queries, which states choose boxes, and how replies are read."""

    tasks: ClassVar = ("entity", "grounding")
    answer_form: ClassVar[AnswerForm]

    def __init__(self, config: Any, labels: LabelSet, text: Seq2Seq, vision: FrameFeatures | None) -> None:
        super().__init__(config, labels, text, vision)
        if vision is not None:
            self.rows = nn.Linear(text.width, text.width)

    # --- of a system --------------------------------------------------------------------------------------------------

    @abstractmethod
    def choosing(self, states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(the query index of each record, the state that chooses its boxes), in the order of writing.

        states: (queries, written, width), labels: (queries, written) -> (records,), (records, width).
        """

    @abstractmethod
    def read(self, draft: GroundedDraft, reply: Reply, words: Words) -> None:
        """Add the records of a reply to the draft; malformed ones are noted."""

    # --- queries ------------------------------------------------------------------------------------------------------

    def mention_query(
        self,
        document: Document,
        words: Words,
        frames: Sequence[int],
        candidates: Sequence[Candidate],
        gold: Annotation | None = None,
    ) -> Query:
        """The query for the mentions of a window with their boxes."""
        longest = self.config.longest_mention
        return mention_query(self.answer_form, document, words, self.labels, longest, frames, candidates, gold)

    def region_query(
        self,
        document: Document,
        frames: Sequence[int],
        candidates: Sequence[Candidate],
        gold: Annotation | None = None,
    ) -> Query:
        """The query for unnamed regions."""
        most = self.config.most_boxes
        return region_query(self.answer_form, document, self.labels, most, frames, candidates, gold)

    # --- training -----------------------------------------------------------------------------------------------------

    def training_queries(self, example: Example) -> list[Query]:
        """If regions are annotated, queries have the annotated frames and train the choice of boxes; else no frames."""
        document, gold = example.document, example.gold
        frames = [i for i, frame in enumerate(document.frames) if frame.annotated]
        if self.vision is None or "grounding" not in example.annotated:
            frames = []
        candidates = [candidate for candidate in self.candidates(document) if candidate.frame in frames]
        queries = []
        if "entity" in example.annotated:
            queries += [self.mention_query(document, words, frames, candidates, gold) for words in self._cut(document)]
        if candidates:
            queries.append(self.region_query(document, frames, candidates, gold))
        return queries

    def losses(self, batch: QueryBatch, fused: Fused) -> dict[str, Tensor]:
        """The cross entropy of the text, and KL(overlaps || shares) of the boxes."""
        scores, states = self.decode(batch, fused, batch.labels)
        losses = {"text": text_loss(scores, batch.labels, self.config.label_smoothing)}
        shown = [overlap is not None for one in batch.items for overlap in one.query.overlaps]
        if fused.seen is not None and any(shown):
            query, choosing = self.choosing(states, batch.labels)
            kept = torch.tensor(shown, device=query.device)
            query = query[kept]
            found = choice.log_shares(choosing[kept], query, fused.seen)
            losses["choice"] = choice.choice_loss(found, choice.targets(batch.items, query, fused.seen.rows))
        return losses

    def counts(self, queries: Sequence[Any]) -> dict[str, int]:
        return {**super().counts(queries), "choice": choice.choice_count(queries)}

    # --- answers ------------------------------------------------------------------------------------------------------

    def choose(self, batch: QueryBatch, fused: Fused, written: Sequence[list[int]]) -> Sequence[choice.Chosen]:
        """For each record, one candidate or none per frame."""
        if fused.seen is None or not any(one.query.candidates for one in batch.items):
            return super().choose(batch, fused, written)
        closed = [torch.tensor(row if row[-1:] == [self.end] else [*row, self.end]) for row in written]
        labels = pad(closed, max(map(len, closed)), value=IGNORED).to(self.device)
        _, states = self.decode(batch, fused, labels)
        query, choosing = self.choosing(states, labels)
        chosen = choice.best(choice.log_shares(choosing, query, fused.seen), batch.items, query, fused.seen.rows)
        return [tuple(one for n, one in zip(query.tolist(), chosen, strict=True) if n == i) for i in range(len(batch))]

    def answer(self, documents: Sequence[Document]) -> list[Answer]:
        """The mentions of each window with their boxes, and unnamed regions."""
        scene = self.look(documents)
        drafts = [GroundedDraft(document, self.labels) for document in documents]
        asked: list[tuple[int, Words, Query]] = []
        for i, document in enumerate(documents):
            seen = range(len(document.frames) if self.vision is not None else 0), self.candidates(document)
            cut = self._cut(document) if "entity" not in self.untaught else []
            asked += [(i, words, self.mention_query(document, words, *seen)) for words in cut]
            if seen[1]:
                asked.append((i, (), self.region_query(document, *seen)))
        for (i, words, _), reply in zip(asked, self.ask([(i, query) for i, _, query in asked], scene), strict=True):
            self.read(drafts[i], reply, words)
        return [draft.answer() for draft in drafts]

    def _cut(self, document: Document) -> list[Words]:
        return windows(tokenize(document), document.text, self.config.window)
