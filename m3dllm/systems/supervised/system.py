"""A supervised system: trains its model and predicts with it. A new one names its backbone."""

from __future__ import annotations

import itertools
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from m3dllm.devices import find_device, is_out_of_memory, memory_advice, one_thread_each, warn_of_emulation
from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.system import System
from m3dllm.systems.supervised.backbone import Backbone
from m3dllm.systems.supervised.checkpoint import (
    MODEL,
    Card,
    fill_model,
    new_encoders_of,
    save_model,
    saved_encoders_of,
)
from m3dllm.systems.supervised.config import Config
from m3dllm.systems.supervised.data import LabelIndex
from m3dllm.systems.supervised.decoding import Thresholds
from m3dllm.systems.supervised.encoders import Encoders
from m3dllm.systems.supervised.learner import SupervisedLearner, check_language, describe
from m3dllm.systems.supervised.model import Model
from m3dllm.systems.supervised.predict import decoders, tune
from m3dllm.training import Training, fingerprint_of
from m3dllm.types import TASKS, Document, Example, Failure, RawOutput, Task

log = logging.getLogger("m3dllm")

FIRST = "first"
"""The folder of the first of two trainings, removed after them."""


class Supervised(System):
    """Entities, chains, relations and regions by one model; takes given mentions and chains.

    A subclass names its `backbone`; one with its own heads overrides `make_model`.
    """

    backbone: ClassVar[type[Backbone]]

    def __init__(
        self,
        config: Config,
        *,
        labels: LabelSet,
        examples: Sequence[Example] = (),
        checkpoint: Path | None = None,
    ) -> None:
        """Raises UserError if the checkpoint is of another label set or other options, or is damaged."""
        super().__init__(config, labels=labels, examples=examples, checkpoint=checkpoint)
        self.device = find_device(config.device)
        self._fitted: tuple[Card, Model] | None = None
        if checkpoint is not None:
            card, weights = Card.of_checkpoint(checkpoint, config, labels)
            model = self.make_model(card, saved_encoders_of(card, checkpoint))
            fill_model(model, weights, checkpoint / MODEL)
            self._fitted = card, _taught(card, model).to(self.device).eval()

    def make_model(self, card: Card, encoders: Encoders) -> Model:
        """The model with these encoders and random weights."""
        return Model(card.config, LabelIndex.of(card.labels), self.backbone(card.config, *encoders))

    @property
    def at_once(self) -> int:
        return int(self.config.batch_size)

    @property
    def provenance(self) -> dict[str, str]:
        """The text encoder and the thresholds, for the run's record."""
        if self._fitted is None:
            return {}
        card, _ = self._fitted
        thresholds = ", ".join(f"{name} {value}" for name, value in asdict(card.thresholds).items())
        return {"text_encoder": card.text_encoder, "thresholds": thresholds}

    @property
    def unsupported(self) -> frozenset[Task]:
        """What it does not read, or had no gold to learn from."""
        return frozenset() if self._fitted is None else frozenset(TASKS).difference(self._fitted[1].tasks)

    # --- fit ----------------------------------------------------------------------------------------------------------

    def fit(self, train: Sequence[Example], dev: Sequence[Example], out: Path) -> None:
        """Train on `train`, select the epoch on `dev` (the last if it is empty), write the checkpoint into `out`.

        With `refit`, finally train on both, with thresholds from a first training without `dev`. An interrupted fit
        resumes from `out`. Raises UserError if there is nothing to train on, if an encoder is not available or cannot
        read the documents, or if memory runs out.
        """
        if not train:
            raise UserError("there are no train documents: choose a split by --train")
        warn_of_emulation(self.config.precision, self.device)
        fingerprint = fingerprint_of(asdict(self.config), self.labels, train, dev)
        refits = self.config.refit and bool(dev)
        learned, chosen_on = ((*train, *dev), ()) if refits else (train, dev)
        card = describe(self.config, self.labels, learned, fingerprint)
        advice = "try --batch-size 1, a smaller --frame-chunk, --checkpointing true, or --freeze text,vision"
        with memory_advice(advice):
            model = self.new_model(card)
            if not model.tasks:
                raise UserError("no train document has gold to learn from: neither mentions nor annotated frames")
            check_language(model, learned)
            done = self._finished(model, fingerprint, out)
            if done is None:
                with one_thread_each(model.threads(self.device)):
                    if refits and self.config.tune:
                        log.info("the first of two trainings, to choose the thresholds on dev")
                        card = replace(card, thresholds=self._first(train, dev, out / FIRST, fingerprint))
                    done = self._train(model, card, learned, out, dev=chosen_on, tuned_on=chosen_on)
        if refits:
            shutil.rmtree(out / FIRST, ignore_errors=True)
        self._fitted = done, model.eval()

    def new_model(self, card: Card) -> Model:
        """A model before training: pretrained encoders loaded, everything else random by the seed."""
        torch.manual_seed(card.config.seed)
        return _taught(card, self.make_model(card, new_encoders_of(card))).to(self.device)

    def _finished(self, model: Model, fingerprint: str, out: Path) -> Card | None:
        """The card of the same fit if it was finished before, with its weights loaded into the model; else None."""
        found = Card.of_finished(out, self.config, fingerprint)
        if found is None:
            return None
        card, weights = found
        fill_model(model, weights, out / MODEL)
        return card

    def _first(self, train: Sequence[Example], dev: Sequence[Example], out: Path, fingerprint: str) -> Thresholds:
        """The best thresholds on `dev` after all epochs on `train`."""
        card = describe(self.config, self.labels, train, fingerprint)
        model = self.new_model(card)
        done = self._finished(model, fingerprint, out) or self._train(model, card, train, out, tuned_on=dev)
        return done.thresholds

    def _train(
        self,
        model: Model,
        card: Card,
        train: Sequence[Example],
        out: Path,
        *,
        dev: Sequence[Example] = (),
        tuned_on: Sequence[Example] = (),
    ) -> Card:
        """Train and save; the epoch is selected on `dev`, the thresholds on `tuned_on`."""
        training = Training(SupervisedLearner(model, self.labels, self.device, card.fingerprint), train, dev, out)
        progress = training.fit()
        card = replace(card, history=tuple(progress.epochs))
        if training.is_main:
            if self.config.tune and tuned_on:
                card = replace(card, thresholds=tune(model, tuned_on, self.labels, self.device))
            save_model(out, card, model)
        training.finish()
        return card

    # --- predict ------------------------------------------------------------------------------------------------------

    def predict(self, documents: Sequence[Document]) -> Iterator[RawOutput]:
        """One answer per document, in order, in batches of `batch_size` documents of one pass.

        Raises UserError before the first answer if nothing was trained or loaded; a document that cannot be read, or
        in a language that the model was not trained on, gets an answer with the error.
        """
        if self._fitted is None:
            raise UserError("the model is not trained: run 'm3dllm fit', or give --checkpoint")
        yield from answered(documents, self.config.batch_size, self._answers)

    def _answers(self, documents: Sequence[Document]) -> list[RawOutput]:
        with one_thread_each(self._fitted[1].threads(self.device) if self._fitted else 0):
            payloads = self._payloads(documents)
        return [RawOutput(one.id, payload=payload) for one, payload in zip(documents, payloads, strict=True)]

    def _payloads(self, documents: Sequence[Document]) -> list[dict[str, Any]]:
        assert self._fitted is not None
        card, model = self._fitted
        if model.reads:
            card.check_languages(documents)
        (decoder,) = decoders(model, documents, self.device, len(documents))
        return decoder.answers(card.thresholds)


def _taught(card: Card, model: Model) -> Model:
    """The model, which answers only what it has gold to learn from."""
    model.untaught = frozenset((*card.untaught, *(() if card.grounds else ("grounding",))))
    return model


def answered(
    documents: Sequence[Document], size: int, answer: Callable[[Sequence[Document]], Sequence[RawOutput]]
) -> Iterator[RawOutput]:
    """The answers to the documents, in order, with their time in seconds; in batches of `size` of one pass."""
    for _, of_pass in itertools.groupby(documents, key=lambda document: document.given and document.given.kind):
        while batch := list(itertools.islice(of_pass, size)):
            yield from _together(batch, answer)


def _together(
    documents: Sequence[Document], answer: Callable[[Sequence[Document]], Sequence[RawOutput]]
) -> list[RawOutput]:
    """The answers of a batch; if it fails as a whole, each document is tried alone."""
    started = time.perf_counter()
    try:
        answers = answer(documents)
    except (UserError, ValueError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise
        if len(documents) > 1:
            return [raw for document in documents for raw in _together([document], answer)]
        return [RawOutput(documents[0].id, error=_failure(error))]
    seconds = (time.perf_counter() - started) / len(documents)
    return [replace(raw, seconds=seconds) for raw in answers]


def _failure(error: Exception) -> Failure:
    """Why a document was not answered; running out of memory is retryable."""
    if is_out_of_memory(error):
        return Failure("out of memory: a smaller --frame-chunk, or --device cpu, may help", retryable=True)
    return Failure(str(error))
