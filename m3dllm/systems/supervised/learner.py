"""A supervised model as a `Learner`: training documents with gold, and their losses."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from m3dllm.devices import autocast, in_threads
from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.systems.supervised.checkpoint import Card, untaught_by
from m3dllm.systems.supervised.config import Config
from m3dllm.systems.supervised.data import Gold, Inputs, gold_of, to_device, words_of
from m3dllm.systems.supervised.decoding import Thresholds
from m3dllm.systems.supervised.encoders import text_encoder_name
from m3dllm.systems.supervised.losses import ClassWeights
from m3dllm.systems.supervised.model import Model
from m3dllm.systems.supervised.predict import decoders
from m3dllm.systems.supervised.text import Vocabulary
from m3dllm.systems.supervised.vision import TINY
from m3dllm.tokens import tokenize
from m3dllm.training import Learner, Schedule
from m3dllm.types import Document, Example, RawOutput

log = logging.getLogger("m3dllm")

PARTS = 2
"""A step of a small model is computed in this many parts on every machine, so that sums are the same."""


@dataclass(frozen=True, slots=True)
class TrainingItem:
    """A train document and its gold as tensors."""

    inputs: Inputs
    gold: Gold
    counts: Mapping[str, bool]
    """For each loss, whether the document has gold for it."""


class SupervisedLearner(Learner[TrainingItem]):
    """One item is one document; a loss is a mean over the documents that have gold for it."""

    model: Model

    def __init__(self, model: Model, labels: LabelSet, device: torch.device, fingerprint: str) -> None:
        config = model.config
        self.model, self.labels, self.device, self.fingerprint = model, labels, device, fingerprint
        self.tasks = model.tasks
        self.loss_weights = config.loss_weights
        self.class_weights = ClassWeights()
        for name in sorted(set(config.aux_loss) - set(model.auxiliary)):
            log.warning("--aux-loss %s: skipped, as the model does not read both text and frames", name)
        threads = model.threads(device)
        self.schedule = Schedule(
            epochs=config.epochs,
            batch_size=config.batch_size,
            micro_batch=-(-config.batch_size // PARTS) if threads and not config.whole_steps else 0,
            whole_steps=config.whole_steps,
            threads=threads,
            warmup=config.warmup,
            clip=config.clip,
            ema_decay=config.ema_decay,
            seed=config.seed,
        )

    def items(self, train: Sequence[Example]) -> list[TrainingItem]:
        """The documents as tensors; also counts the classes, and fits the relations of words."""
        items = [training_item(self.model, example) for example in train]
        self.class_weights = ClassWeights.of([item.gold for item in items], self.model.labels, self.model.config)
        if self.model.relation is not None:
            self.model.relation.learn_words([(item.inputs, item.gold) for item in items], self.class_weights)
        return items

    def length(self, item: TrainingItem) -> int:
        return len(item.inputs.words)

    def vary(self, item: TrainingItem, rng: random.Random) -> TrainingItem:
        varied = hidden(item, self.model.config.hide, rng)
        return item if varied is item else replace(varied, counts=self.model.counts(varied.gold))

    def losses(self, items: Sequence[TrainingItem]) -> dict[str, Tensor]:
        batch = to_device(self.model.batch([item.inputs for item in items]), self.device)
        with autocast(self.model.config.precision, self.device):
            states = self.model.encode(batch)
            means = self.model.losses(states, [item.gold for item in items], self.class_weights)
        counts = self.counts(items)
        return {name: counts[name] * mean for name, mean in means.items()}

    def counts(self, items: Sequence[TrainingItem]) -> dict[str, int]:
        return {name: sum(item.counts[name] for item in items) for name in items[0].counts}

    def weights(self) -> dict[str, Tensor]:
        return self.model.trained_weights()

    def parameter_groups(self) -> list[dict[str, Any]]:
        return parameter_groups(self.model)

    def predict(self, documents: Iterable[Document]) -> Iterator[RawOutput]:
        documents = list(documents)
        decoded = decoders(self.model, documents, self.device, self.schedule.batch_size)
        answers = in_threads(self.schedule.threads, lambda decoder: decoder.answers(Thresholds()), decoded)
        for document, payload in zip(documents, itertools.chain(*answers), strict=True):
            yield RawOutput(document.id, payload=payload)


def training_item(model: Model, example: Example) -> TrainingItem:
    """A train document as tensors."""
    inputs = model.inputs(example.document)
    gold = gold_of(inputs, example.gold, model.labels, example.unannotated)
    return TrainingItem(inputs, gold, model.counts(gold))


def hidden(item: TrainingItem, probability: float, rng: random.Random) -> TrainingItem:
    """The item; with this probability, if it has both modalities, without its text or its frames."""
    drawn = rng.random()
    if not (item.inputs.words and item.inputs.frames) or drawn >= probability:
        return item
    if drawn < probability / 2:
        return replace(item, inputs=item.inputs.without_text(), gold=item.gold.without_text())
    return replace(item, inputs=item.inputs.without_frames(), gold=item.gold.without_frames())


def parameter_groups(model: Model) -> list[dict[str, Any]]:
    """The parameter groups of AdamW, by learning rate; no weight decay on vectors (biases, norms)."""
    config, backbone = model.config, model.backbone
    rates = {id(p): config.fusion_lr or config.lr for p in backbone.parameters()}
    for features in (backbone.text, backbone.vision):
        if features is not None:
            rates |= {id(p): config.lr for p in features.parameters()}
            if features.encoder.pretrained:
                rates |= {id(p): config.encoder_lr for p in features.encoder.model.parameters()}
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    for p in model.parameters():
        if p.requires_grad:
            groups.setdefault((rates.get(id(p), config.lr), p.ndim > 1), []).append(p)
    return [
        {
            "params": params,
            "lr": rate,
            "weight_decay": config.weight_decay if decays else 0.0,
            "fused": True,
        }
        for (rate, decays), params in groups.items()
    ]


# --- before -----------------------------------------------------------------------------------------------------------


def describe(config: Config, labels: LabelSet, train: Sequence[Example], fingerprint: str = "") -> Card:
    """The card of a new model for these documents. Raises UserError if no text encoder reads them."""
    documents = [example.document for example in train]
    languages = tuple(sorted({document.lang for document in documents}))
    name = text_encoder_name(config, languages)
    vocabulary = None
    if name == "tiny":
        vocabulary = Vocabulary.of(map(_read, train))
    has_frames = any(document.frames for document in documents)
    if not has_frames and config.vision_encoder not in (*TINY, "none"):
        raise UserError(
            f"vision_encoder {config.vision_encoder}: no train document has frames: "
            "give --vision-encoder none, or a corpus with frames"
        )
    sees = has_frames and config.vision_encoder != "none"
    if name == "none" and not sees:
        raise UserError("neither text nor frames are read: give another --text-encoder, or a corpus with frames")
    return Card(
        config=config,
        labels=labels,
        languages=languages,
        text_encoder=name,
        vocabulary=vocabulary,
        sees=sees,
        grounds=any(frame.annotated for document in documents for frame in document.frames),
        untaught=untaught_by(train),
        fingerprint=fingerprint,
    )


def _read(example: Example) -> tuple[str, list[str], list[bool]]:
    """(group, words, whether each is in a mention) of a document."""
    document = example.document
    spans, words = words_of(document)
    mentions = [mention.span for mention in example.gold.mentions]
    inside = [any(first < end and start < last for first, last in mentions) for start, end in spans]
    return document.group or document.id, words, inside


def check_language(model: Model, train: Sequence[Example], *, most: float = 0.2) -> None:
    """Raises UserError if a pretrained text encoder does not know the words of a language."""
    encoder = model.backbone.text.encoder
    if not encoder.pretrained:
        return
    for lang in sorted({example.document.lang for example in train}):
        some = [example.document for example in train if example.document.lang == lang and example.document.text][:20]
        rows = [encoder.subwords(document.text, tokenize(document)).ids[:, 0] for document in some]
        ids = torch.cat(rows) if rows else torch.zeros(0)
        unknown = float((ids == encoder.tokenizer.unk_token_id).float().mean()) if len(ids) else 0.0
        if unknown > most:
            raise UserError(
                f"text_encoder {encoder.name}: does not know '{lang}': {unknown:.0%} of the subwords are unknown: "
                "give another --text-encoder, or another language by --lang"
            )


def options_of(config: Config) -> dict[str, Any]:
    """The options on which training depends."""
    return asdict(config)
