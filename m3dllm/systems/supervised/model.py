"""A supervised model: a backbone and a head for each task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from m3dllm.devices import usable_cores
from m3dllm.rng import Dropout
from m3dllm.systems.supervised.auxiliary import ALL
from m3dllm.systems.supervised.auxiliary.base import Auxiliary
from m3dllm.systems.supervised.backbone import Backbone, States
from m3dllm.systems.supervised.config import Config
from m3dllm.systems.supervised.data import Batch, Gold, Inputs, LabelIndex
from m3dllm.systems.supervised.heads import ChainHead, EntityHead, GroundingHead, Head, RelationHead
from m3dllm.systems.supervised.losses import ClassWeights, GoldBatch
from m3dllm.systems.supervised.text import NoText
from m3dllm.tokens import tokenize
from m3dllm.types import Document, Task


class Model(nn.Module):
    """`encode` computes the states of a batch; the heads follow, each after those whose decisions it reads."""

    def __init__(self, config: Config, labels: LabelIndex, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.labels, self.backbone = config, labels, backbone
        self.untaught: frozenset[Task] = frozenset()
        """The tasks whose heads have no gold to learn from, and answer nothing."""
        self.grounding = GroundingHead(config, labels, backbone) if backbone.vision is not None else None
        self.reads = not isinstance(backbone.text.encoder, NoText)
        self.entity = EntityHead(config, labels, backbone) if self.reads else None
        self.chain = ChainHead(config, labels, backbone) if self.reads else None
        self.relation = RelationHead(config, labels, backbone) if self.reads else None
        known = [
            ALL[name] for name in config.aux_loss if self.reads and (backbone.vision or not ALL[name].reads_frames)
        ]
        self.auxiliary = nn.ModuleDict({kind.name: kind(backbone.hidden, tuple(self.heads)) for kind in known})

    @property
    def heads(self) -> Iterator[Head]:
        """The heads, each after those that it reads."""
        heads = (self.entity, self.chain, self.relation, self.grounding)
        yield from (head for head in heads if head is not None)

    @property
    def tasks(self) -> list[Task]:
        """What it answers."""
        return [head.task for head in self.heads if head.task not in self.untaught]

    @property
    def auxiliaries(self) -> Iterator[Auxiliary]:
        """The auxiliary losses."""
        return cast(Iterator[Auxiliary], iter(self.auxiliary.values()))

    def inputs(self, document: Document) -> Inputs:
        """The document as tensors, without what the model does not read."""
        spans = tokenize(document) if self.reads else ()
        frames = document.frames if self.backbone.vision is not None else ()
        subwords = self.backbone.text.encoder.subwords(document.text, spans)
        return Inputs(document, spans, subwords, frames, lexical=self.config.lexical)

    def batch(self, inputs: Sequence[Inputs]) -> Batch:
        """The padded batch of documents."""
        return self.backbone.text.batch(inputs)

    def encode(self, batch: Batch) -> States:
        states: States = self.backbone(batch)
        return states

    def losses(self, states: States, golds: Sequence[Gold], weights: ClassWeights | None = None) -> dict[str, Tensor]:
        """The losses of a batch against its gold, by name; "auxiliary" is the sum of the backbone's losses."""
        gold = GoldBatch.of(golds, weights or ClassWeights(), states.words.device)
        terms: dict[str, Tensor] = {}
        for head in self.heads:
            terms |= head.losses(states, gold)
        for one in self.auxiliaries:
            terms[one.name] = one.weight * one(states, gold, tuple(self.heads))
        if states.aux_losses:
            terms["auxiliary"] = torch.stack([loss.float() for loss in states.aux_losses.values()]).sum()
        return terms

    def counts(self, gold: Gold) -> dict[str, bool]:
        """For each loss, whether its mean includes this document."""
        counts = {"auxiliary": True}
        for head in self.heads:
            counts |= head.counts(gold)
        return counts | {one.name: one.counts(gold) for one in self.auxiliaries}

    def threads(self, device: torch.device) -> int:
        """The number of threads that compute parts of a step, or batches, at once; 0 if torch's own threads are better.

        The tiny encoders' operations are too small to be split among threads, unlike parts of a step, which synchronize
        once. Dropout without `m3dllm.rng` uses one generator for all threads, so that results would depend on timing:
        then there are no parts.
        """
        if any(
            isinstance(part, nn.modules.dropout._DropoutNd) and not isinstance(part, Dropout) for part in self.modules()
        ):
            return 0
        encoders = [features.encoder for features in (self.backbone.text, self.backbone.vision) if features is not None]
        if device.type != "cpu" or any(encoder.pretrained for encoder in encoders):
            return 0
        return usable_cores()

    def trained_weights(self) -> dict[str, Tensor]:
        """All weights that have gradients."""
        return {name: value for name, value in self.state_dict(keep_vars=True).items() if value.requires_grad}

    def kept_weights(self) -> dict[str, Tensor]:
        """The weights needed for prediction, without those of frozen encoders and auxiliary losses."""
        kept = (row for row in self.state_dict(keep_vars=True).items() if not row[0].startswith("auxiliary."))
        return {name: value for name, value in kept if value.requires_grad or not isinstance(value, nn.Parameter)}
