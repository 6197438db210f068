"""A head for each task: its losses and its decoding.

The heads are independent modules over `States`. Chains are scored over mentions and relations over chains: gold ones
in training, and in prediction those that the heads before have added to the `Draft`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from m3dllm.systems.supervised.alignment import Alignment, FrameRelations, shown, with_frames
from m3dllm.systems.supervised.backbone import KINDS, Backbone, States
from m3dllm.systems.supervised.config import Config
from m3dllm.systems.supervised.data import (
    Gold,
    Inputs,
    LabelIndex,
    MentionBatch,
    joinable,
    make_mention_batch,
    pad,
    to_device,
)
from m3dllm.systems.supervised.decoding import (
    Draft,
    TagRow,
    Thresholds,
    choose_relations,
    link_all,
    mentions_in,
    write_regions,
)
from m3dllm.systems.supervised.losses import (
    ClassWeights,
    GoldBatch,
    alignment_loss,
    balanced,
    chain_loss,
    entity_loss,
    frames_loss,
    patch_owners,
    region_losses,
    relation_loss,
    relation_target,
    relations_in_frames,
    shows_target,
    type_losses,
)
from m3dllm.systems.supervised.relation_words import SHARE, RelationWords
from m3dllm.systems.supervised.scorers import ChainScorer, PatchScorer, RelationScorer, SlotScorer, Tagger
from m3dllm.types import Task


@dataclass(frozen=True, slots=True)
class Samples:
    """A sample of pairs that a head classifies, from all documents of a batch."""

    vectors: Tensor
    """(pairs, width)."""
    target: Tensor
    """(pairs, types), booleans."""
    allowed: Tensor
    """(pairs, types), booleans: the types allowed for the pair."""


class Head(nn.Module, ABC):
    """One task."""

    task: ClassVar[Task]
    reads: ClassVar[tuple[Task, ...]] = ()
    """The tasks on whose thresholds its scores depend."""
    sample_width: int = 0
    """The width of the vectors of `samples`; 0 if it has none."""

    @abstractmethod
    def losses(self, states: States, gold: GoldBatch) -> dict[str, Tensor]:
        """The losses of a batch by name; empty if it has no gold of this task."""

    @abstractmethod
    def counts(self, gold: Gold) -> dict[str, bool]:
        """For each loss, whether a document has gold for it: a loss is the mean over those documents."""

    def samples(self, states: States, gold: GoldBatch, most: int) -> Samples | None:
        """At most `most` pairs of gold mentions or chains, for losses over pairs; None if there are none."""
        return None

    def sample_losses(self, vectors: Tensor, samples: Samples, rows: Tensor) -> Tensor:
        """The losses (n,) of vectors (n, width) with the targets of the pairs `rows` (n,) of the samples."""
        raise NotImplementedError

    @abstractmethod
    def scores(self, states: States, draft: Draft) -> Any:
        """The scores for its decisions, independent of thresholds; None if there is nothing to decide."""

    @abstractmethod
    def decode(self, scores: Any, draft: Draft, thresholds: Thresholds) -> Draft:
        """The draft with the decisions of this task."""


class EntityHead(Head):
    """Mentions: BIO tags by a linear layer and a CRF (eq. 15, 19)."""

    task = "entity"

    def __init__(self, config: Config, labels: LabelIndex, backbone: Backbone) -> None:
        super().__init__()
        self.labels = labels
        self.tagger = Tagger(backbone.hidden, len(labels.mentions), config.dropout)

    def losses(self, states: States, gold: GoldBatch) -> dict[str, Tensor]:
        if not states.word_mask.any():
            return {}
        tags = pad([one.tags for one in gold.documents], states.word_mask.shape[1]).to(states.words.device)
        nll = self.tagger.crf.nll(self.tagger(states.words), tags, states.word_mask)
        return {"entity": entity_loss(nll, states.word_mask, gold.known(self.task))}

    def counts(self, gold: Gold) -> dict[str, bool]:
        return {"entity": len(gold.tags) > 0 and self.task not in gold.unannotated}

    def scores(self, states: States, draft: Draft) -> list[TagRow]:
        """The best tags of each document with marginals; zeros if all mentions are given."""
        inputs = draft.batch.inputs
        if not any(one.words and one.document.given is None for one in inputs):
            return [TagRow(*np.zeros((4, draft.batch.word_mask.shape[1]), dtype=np.int64)) for _ in inputs]
        emissions, crf = self.tagger(states.words), self.tagger.crf
        tags = crf.decode(emissions, states.word_mask)
        marginals = crf.marginals(emissions, tags, states.word_mask)
        parts = [part.cpu().numpy() for part in (tags, *marginals)]
        return [TagRow(*rows) for rows in zip(*parts, strict=True)]

    def decode(self, scores: list[TagRow], draft: Draft, thresholds: Thresholds) -> Draft:
        rows = zip(scores, draft.batch.inputs, strict=True)
        return replace(draft, mentions=tuple(mentions_in(inputs, row, self.labels) for row, inputs in rows))


class ChainHead(Head):
    """Chains: whether two mentions corefer (eq. 16, 20), and their clustering."""

    task = "chain"

    def __init__(self, config: Config, labels: LabelIndex, backbone: Backbone) -> None:
        super().__init__()
        self.linkage = config.linkage
        self.scorer = ChainScorer(
            backbone.hidden,
            size=config.pair_size,
            lexical=config.lexical,
            n_types=len(labels.mentions),
            dropout=config.pair_dropout,
            text_alone=config.text_alone,
        )
        self.sample_width = self.scorer.width(backbone.hidden)

    def logits(self, states: States, mentions: MentionBatch) -> Tensor:
        """(batch, mentions, mentions, 2)."""
        logits: Tensor = self.scorer(states.words, states.mention_vectors(mentions), mentions)
        return logits.float()

    def losses(self, states: States, gold: GoldBatch) -> dict[str, Tensor]:
        if not gold.mentions.mask.any():
            return {}
        logits, known = self.logits(states, gold.mentions), gold.known(self.task)
        return {"chain": chain_loss(logits, gold.mentions, gold.weights.chain, known)}

    def counts(self, gold: Gold) -> dict[str, bool]:
        return {"chain": len(gold.mentions) > 1 and self.task not in gold.unannotated}

    def samples(self, states: States, gold: GoldBatch, most: int) -> Samples | None:
        mentions = gold.mentions
        pairs = (mentions.mask[:, :, None] & mentions.mask[:, None, :]).triu(1) & gold.known(self.task)[:, None, None]
        same = mentions.chain[:, :, None] == mentions.chain[:, None, :]
        at = balanced(pairs, same, most)
        if not len(at):
            return None
        vectors = self.scorer.pair_vectors(states.words, states.mention_vectors(mentions), mentions, at)
        target = same[at[:, 0], at[:, 1], at[:, 2], None]
        return Samples(vectors, target, torch.ones_like(target))

    def sample_losses(self, vectors: Tensor, samples: Samples, rows: Tensor) -> Tensor:
        logits = self.scorer.classify(vectors).float()
        return nn.functional.cross_entropy(logits, samples.target[rows, 0].long(), reduction="none")

    def scores(self, states: States, draft: Draft) -> np.ndarray[Any, Any] | None:
        """(batch, mentions, mentions): the probability that two mentions are one entity."""
        if not any(len(one) for one in draft.mentions):
            return None
        mentions = to_device(make_mention_batch(draft.mentions), states.words.device)
        links: np.ndarray[Any, Any] = self.logits(states, mentions).softmax(-1)[..., 1].cpu().numpy()
        return links

    def decode(self, scores: np.ndarray[Any, Any] | None, draft: Draft, thresholds: Thresholds) -> Draft:
        if scores is None:
            return draft
        limits = thresholds.limits(self.task, draft.given)
        return replace(draft, mentions=link_all(draft, scores, limits, linkage=self.linkage))


class RelationHead(Head):
    """Relations between chains (eq. 17, 21), from their vectors, from words, and from the frames that show both."""

    task = "relation"
    reads = ("chain",)

    def __init__(self, config: Config, labels: LabelIndex, backbone: Backbone) -> None:
        super().__init__()
        self.labels, self.decision = labels, config.decision
        n_types = len(labels.mentions)
        self.scorer = RelationScorer(
            backbone.hidden,
            len(labels.relations) + (config.decision == "argmax"),
            size=config.pair_size,
            lexical=config.lexical,
            n_types=n_types,
            dropout=config.pair_dropout,
            kinds=KINDS,
        )
        self.sample_width = self.scorer.width(backbone.hidden)
        by_words = config.relation_words and config.lexical and config.decision == "threshold"
        self.by_words = RelationWords(len(labels.relations)) if by_words else None
        self.alignment = self.frame_relations = None
        if config.aligned and backbone.vision is not None:
            size = config.pair_size or backbone.hidden
            self.alignment = Alignment(backbone.hidden, size, n_types, config.dropout)
            self.frame_relations = FrameRelations(backbone.hidden, size, len(labels.relations), config.dropout)

    def alignment_logits(self, states: States, mentions: MentionBatch) -> Tensor | None:
        """Which chain a patch shows: (batch, frames, patches, chains + 1); None without `aligned`."""
        if self.alignment is None or not states.frame_mask.any():
            return None
        logits: Tensor = self.alignment(states.words, states.word_mask, states.patches, mentions)
        return logits.float()

    def frame_logits(self, states: States) -> Tensor:
        """The relations of the two chains that a frame shows: (batch, frames, relation types)."""
        assert self.frame_relations is not None
        logits: Tensor = self.frame_relations(states.patches)
        return logits.float()

    def shows(self, states: States, mentions: MentionBatch) -> Tensor | None:
        """The probability that a frame shows a chain: (batch, chains, frames); None without `aligned`."""
        logits = self.alignment_logits(states, mentions)
        return None if logits is None else shown(logits) * states.frame_mask[:, None]

    def logits(
        self, states: States, mentions: MentionBatch, shows: Tensor | None, of_words: Tensor | None = None
    ) -> Tensor:
        """(batch, chains, chains, relation types), and one more class for "none" if the decision is "argmax".

        `of_words`, of the same shape: the logits of words alone, with which those of the text are averaged.
        """
        logits = self._of_texts(states, mentions)
        if of_words is not None:
            logits = logits + SHARE * (of_words.to(logits) - logits)
        return logits if shows is None else with_frames(logits, self.frame_logits(states), shows)

    def _of_words(self, draft: Draft) -> Tensor | None:
        """The logits of words alone; None if nothing reads them."""
        if self.by_words is None:
            return None
        n = max(mentions.n_chains for mentions in draft.mentions)
        logits = torch.zeros(len(draft.mentions), n, n, len(self.labels.relations))
        for row, inputs, mentions in zip(logits, draft.batch.inputs, draft.mentions, strict=True):
            row[: mentions.n_chains, : mentions.n_chains] = self.by_words(inputs, mentions)
        return logits

    def learn_words(self, documents: Sequence[tuple[Inputs, Gold]], weights: ClassWeights) -> None:
        """Fit what reads words alone, which the losses do not train."""
        if self.by_words is not None:
            known = [(inputs, gold) for inputs, gold in documents if self.task not in gold.unannotated]
            self.by_words.fit(known, self.labels, weights.relation)

    def words(self, states: States) -> Tensor:
        """The words as the scorer reads them: (batch, words, kinds · hidden)."""
        return states.words if self.scorer.pairs is None else states.kinds

    def _of_texts(self, states: States, mentions: MentionBatch) -> Tensor:
        """The logits from the text, without the frames."""
        logits: Tensor = self.scorer(self.words(states), states.chain_vectors(mentions), mentions)
        return logits.float()

    def losses(self, states: States, gold: GoldBatch) -> dict[str, Tensor]:
        mentions, device = gold.mentions, states.words.device
        if not mentions.mask.any():
            return {}
        n_chains, terms = mentions.chain_type.shape[1], {}
        logits = self._of_texts(states, mentions)
        aligned = self.alignment_logits(states, mentions)
        if aligned is not None:
            truth, known = (part.to(device) for part in shows_target(gold.documents, n_chains, aligned.shape[1]))
            owner = patch_owners(gold.documents, aligned.shape[1:3], n_chains).to(device)
            of_frames = self.frame_logits(states)
            terms["alignment"] = alignment_loss(aligned, owner)
            terms["frame_relations"] = frames_loss(of_frames, gold.documents, self.labels)
            # half of the training pairs are true: the heads need not wait for the alignment to converge
            shows = shown(aligned) * states.frame_mask[:, None]
            shows = torch.where(known, (shows + truth) / 2, shows)
            logits = with_frames(logits, of_frames, shows)
        targets = [relation_target(one, n_chains, len(self.labels.relations)) for one in gold.documents]
        terms["relation"] = relation_loss(
            logits,
            torch.stack(targets).to(device),
            mentions,
            self.labels.joins.to(device),
            gold.weights.relation,
            decision=self.decision,
            known=gold.known(self.task),
        )
        return terms

    def counts(self, gold: Gold) -> dict[str, bool]:
        return {
            "relation": gold.mentions.n_chains > 1 and self.task not in gold.unannotated,
            "alignment": bool((gold.region_chain >= 0).any() and gold.annotated.any()),
            "frame_relations": bool(relations_in_frames(gold, self.labels)[1].any()),
        }

    def samples(self, states: States, gold: GoldBatch, most: int) -> Samples | None:
        mentions, device = gold.mentions, states.words.device
        n_chains = mentions.chain_type.shape[1]
        targets = [relation_target(one, n_chains, len(self.labels.relations)) for one in gold.documents]
        allowed = joinable(mentions, self.labels.joins.to(device))
        target = torch.stack(targets).to(device) & allowed
        pairs = allowed.any(-1) & gold.known(self.task)[:, None, None]
        at = balanced(pairs, target.any(-1), most)
        if not len(at):
            return None
        vectors = self.scorer.pair_vectors(self.words(states), states.chain_vectors(mentions), mentions, at)
        row, head, tail = at.unbind(1)
        return Samples(vectors, target[row, head, tail], allowed[row, head, tail])

    def sample_losses(self, vectors: Tensor, samples: Samples, rows: Tensor) -> Tensor:
        logits = self.scorer.classify(vectors).float()
        return type_losses(logits, samples.target[rows], samples.allowed[rows], decision=self.decision)

    def scores(self, states: States, draft: Draft) -> tuple[MentionBatch, Tensor] | None:
        """The chains, and the logits of their relations."""
        if not any(one.n_chains for one in draft.mentions):
            return None
        chains = to_device(make_mention_batch(draft.mentions), states.words.device)
        return chains, self.logits(states, chains, self.shows(states, chains), self._of_words(draft))

    def decode(self, scores: tuple[MentionBatch, Tensor] | None, draft: Draft, thresholds: Thresholds) -> Draft:
        if scores is None:
            return draft
        chains, logits = scores
        limits = torch.tensor(thresholds.limits(self.task, draft.given), device=logits.device)
        found, sure = choose_relations(logits, chains, self.labels, limits, decision=self.decision)
        wanted = [kind != "mentions" for kind in draft.given]  # with given mentions only chains are predicted
        rows = zip(found.tolist(), sure.tolist(), strict=True)
        return replace(draft, relations=tuple((*row, probability) for row, probability in rows if wanted[row[0]]))


class GroundingHead(Head):
    """Regions: types and boxes from frames or their patches (eq. 18, 22, 23)."""

    task = "grounding"

    def __init__(self, config: Config, labels: LabelIndex, backbone: Backbone) -> None:
        super().__init__()
        self.labels, self.slots, self.merge_iou = labels, config.slots, config.merge_iou
        self.scorer: nn.Module
        if config.slots:
            self.scorer = SlotScorer(backbone.hidden, config.slots, len(labels.regions))
        else:
            self.scorer = PatchScorer(backbone.hidden, backbone.grid, len(labels.regions))

    def outputs(self, states: States) -> tuple[Tensor, Tensor]:
        """Types (batch, frames, slots, region types + 1) and boxes (batch, frames, slots, 4), centre and size."""
        types, boxes = self.scorer(states.patches, states.frames)
        return types.float(), boxes.float()

    def losses(self, states: States, gold: GoldBatch) -> dict[str, Tensor]:
        if not states.frame_mask.any():
            return {}
        types, boxes = self.outputs(states)
        region, box = region_losses(types, boxes, gold.documents, gold.weights.region, slots=self.slots)
        return {"region": region, "box": box}

    def counts(self, gold: Gold) -> dict[str, bool]:
        return dict.fromkeys(("region", "box"), bool(gold.annotated.any()))

    def scores(self, states: States, draft: Draft) -> tuple[Tensor, Tensor] | None:
        """The result of `outputs`; None without frames."""
        return self.outputs(states) if draft.batch.frame_mask.shape[1] else None

    def decode(self, scores: tuple[Tensor, Tensor] | None, draft: Draft, thresholds: Thresholds) -> Draft:
        if scores is None:
            return draft
        limits = thresholds.limits(self.task, draft.given)
        regions = []
        for i, inputs in enumerate(draft.batch.inputs):
            own = slice(len(inputs.frames) if draft.given[i] is None else 0)
            kinds, boxes = (part[i, own] for part in scores)
            regions.append(write_regions(kinds, boxes, inputs, self.labels, limits[i], merge_iou=self.merge_iou))
        return replace(draft, regions=tuple(regions))
