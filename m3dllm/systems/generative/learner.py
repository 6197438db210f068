"""A generative model as a `Learner`: documents with their queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from m3dllm.devices import autocast
from m3dllm.labels import LabelSet
from m3dllm.systems.generative.model import DOCUMENTS_AT_ONCE, PIECES_AT_ONCE, GenerativeModel
from m3dllm.systems.generative.queries import Encoded, by_length
from m3dllm.training import Learner, Schedule
from m3dllm.types import Document, Example, RawOutput


@dataclass(frozen=True, slots=True)
class TrainingItem:
    """A train document and its encoded queries."""

    document: Document
    queries: tuple[Encoded, ...]


class GenerativeLearner(Learner[TrainingItem]):
    """One item is one document; the losses are means over the pieces of the answers of a step."""

    model: GenerativeModel

    def __init__(self, model: GenerativeModel, labels: LabelSet, fingerprint: str) -> None:
        config = model.config
        self.model, self.labels, self.fingerprint = model, labels, fingerprint
        self.tasks = tuple(task for task in model.tasks if task not in model.untaught)
        self.schedule = Schedule(
            epochs=config.epochs,
            batch_size=config.batch_size,
            warmup=config.warmup,
            clip=config.clip,
            seed=config.seed,
        )

    def items(self, train: Sequence[Example]) -> list[TrainingItem]:
        encoded = [
            tuple(self.model.encode(query) for query in self.model.training_queries(example)) for example in train
        ]
        return [TrainingItem(e.document, queries) for e, queries in zip(train, encoded, strict=True) if queries]

    def length(self, item: TrainingItem) -> int:
        return sum(one.length for one in item.queries)

    def counts(self, items: Sequence[TrainingItem]) -> Mapping[str, int]:
        return self.model.counts([one for item in items for one in item.queries])

    def losses(self, items: Sequence[TrainingItem]) -> dict[str, Tensor]:
        encoded = [(number, one) for number, item in enumerate(items) for one in item.queries]
        losses: dict[str, Tensor] = {}
        with autocast(self.model.config.precision, self.model.device):
            scene = self.model.look([item.document for item in items])
            for part in by_length(encoded, PIECES_AT_ONCE):
                batch = self.model.batch(part)
                for name, loss in self.model.losses(batch, self.model.fuse(batch, scene)).items():
                    losses[name] = losses.get(name, torch.zeros((), device=loss.device)) + loss
        return losses

    def predict(self, documents: Iterable[Document]) -> Iterator[RawOutput]:
        documents, size = list(documents), DOCUMENTS_AT_ONCE
        for batch in (documents[i : i + size] for i in range(0, len(documents), size)):
            for document, answer in zip(batch, self.model.answer(batch), strict=True):
                yield RawOutput(document.id, payload=answer.payload)

    def weights(self) -> dict[str, Tensor]:
        return self.model.trained_weights()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Each weight at its learning rate; no weight decay on vectors."""
        model, config = self.model, self.model.config
        parts = [model.text.model] if model.text.pretrained else []
        parts += [model.vision.encoder] if model.vision is not None and model.vision.encoder.pretrained else []
        pretrained = {id(p) for part in parts for p in part.parameters()}
        groups: dict[tuple[float, bool], list[Tensor]] = {}
        for p in model.parameters():
            if p.requires_grad:
                rate = config.pretrained_lr if id(p) in pretrained else config.lr
                groups.setdefault((rate, p.ndim > 1), []).append(p)
        return [
            {"params": params, "lr": rate, "weight_decay": config.weight_decay if decays else 0.0, "fused": True}
            for (rate, decays), params in groups.items()
        ]
