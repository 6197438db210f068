"""A generative system: trains its model and predicts with it. A new one names its model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from m3dllm.columns import counted
from m3dllm.devices import find_device, memory_advice, warn_of_emulation
from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.system import System
from m3dllm.systems.generative.boxes import read_boxes
from m3dllm.systems.generative.checkpoint import Card, check_language, describe, save_model
from m3dllm.systems.generative.config import Config
from m3dllm.systems.generative.language import check_types
from m3dllm.systems.generative.learner import GenerativeLearner
from m3dllm.systems.generative.model import DOCUMENTS_AT_ONCE, GenerativeModel
from m3dllm.systems.supervised.checkpoint import MODEL, REMEDY
from m3dllm.systems.supervised.system import answered
from m3dllm.training import Training, fingerprint_of
from m3dllm.types import Document, Example, RawOutput, Task
from m3dllm.weights import fill

log = logging.getLogger("m3dllm")

ADVICE = "try --batch-size 1, a smaller --frame-chunk, --checkpointing true, or --freeze vision"


class Generative(System):
    """Generates answers as text, parsed strictly. A subclass names its `model`."""

    model: ClassVar[type[GenerativeModel]]

    def __init__(
        self, config: Config, *, labels: LabelSet, examples: Sequence[Example] = (), checkpoint: Path | None = None
    ) -> None:
        """Raises UserError if the checkpoint is of another label set or other options, or is damaged."""
        super().__init__(config, labels=labels, examples=examples, checkpoint=checkpoint)
        check_types(labels)
        self.device = find_device(config.device)
        self._boxes = read_boxes(config.boxes)
        self._fitted: tuple[Card, GenerativeModel] | None = None
        if checkpoint is not None:
            card, weights = Card.of_checkpoint(checkpoint, config, labels)
            text = card.saved_text(checkpoint)
            model = self.model(config, labels, text, card.saved_vision(text.width, checkpoint))
            fill(model.trained_weights(), weights, checkpoint / MODEL, remedy=REMEDY)
            self._ready(card, model)

    @property
    def provenance(self) -> dict[str, str]:
        """The text model, for the run's record."""
        return {} if self._fitted is None else {"text_model": self._fitted[0].text_model}

    @property
    def unsupported(self) -> frozenset[Task]:
        """The tasks without gold in training; grounding also if there are no candidates to choose from."""
        untaught = frozenset() if self._fitted is None else self._fitted[1].untaught
        return untaught if self._fitted is not None and self._boxes else untaught | {"grounding"}

    @property
    def tally(self) -> Mapping[str, Any]:
        """Statistics that the model keeps of its answers, such as its gates."""
        return {} if self._fitted is None else self._fitted[1].tally

    # --- fit ----------------------------------------------------------------------------------------------------------

    def fit(self, train: Sequence[Example], dev: Sequence[Example], out: Path) -> None:
        """Train on `train`, select the epoch on `dev` (the last if it is empty), write the checkpoint into `out`.

        An interrupted fit resumes from there. Raises UserError if there is nothing to train on, if a model is not
        available or cannot read the documents, or if memory runs out.
        """
        if not train:
            raise UserError("there are no train documents: choose a split by --train")
        warn_of_emulation(self.config.precision, self.device)
        fingerprint = fingerprint_of(asdict(self.config), self.labels, train, dev, *self.config.sources().values())
        words = self.model.words(self.config, self.labels)
        card = describe(self.config, self.labels, train, fingerprint, words)
        if card.grounds:
            seen = [e.document.id for part in (train, dev) for e in part if e.document.frames]
            if len(self._without_boxes(seen, "it is fitted to")) == len(seen):
                where = ", ".join(self.config.boxes)
                raise UserError(
                    f"--boxes {where}: holds none of the train documents with frames: give answers about them"
                )
        with memory_advice(ADVICE):
            torch.manual_seed(self.config.seed)
            text = card.new_text()
            check_language(text, train)
            model = self.model(self.config, self.labels, text, card.new_vision(text.width)).to(self.device)
            self._prepare(card, model)
            done = self._finished(model, fingerprint, out)
            if done is None:
                training = Training(GenerativeLearner(model, self.labels, fingerprint), train, dev, out)
                if not training.items:
                    raise UserError("no train document has anything to train on: neither mentions nor candidates")
                done = replace(card, history=tuple(training.fit().epochs))
                if training.is_main:
                    save_model(out, done, model)
                training.finish()
        self._ready(done, model)

    def _ready(self, card: Card, model: GenerativeModel) -> None:
        self._prepare(card, model)
        model.tally = {}
        self._fitted = card, model.to(self.device).eval()

    def _prepare(self, card: Card, model: GenerativeModel) -> None:
        """Give it the candidates, and the tasks that it has no gold of."""
        model.boxes = self._boxes if card.grounds else {}
        model.untaught = frozenset((*card.untaught, *(() if card.grounds else ("grounding",))))

    def _finished(self, model: GenerativeModel, fingerprint: str, out: Path) -> Card | None:
        """The card of the same fit if it was finished before, with its weights loaded into the model; else None."""
        found = Card.of_finished(out, self.config, fingerprint)
        if found is None:
            return None
        card, weights = found
        fill(model.trained_weights(), weights, out / MODEL, remedy=REMEDY)
        return card

    # --- predict ------------------------------------------------------------------------------------------------------

    def predict(self, documents: Sequence[Document]) -> Iterator[RawOutput]:
        """One answer per document, in order, in batches of one pass.

        Raises UserError before the first answer if nothing was trained or loaded; a document that cannot be read, or
        in a language that the model was not trained on, gets an answer with the error.
        """
        if self._fitted is None:
            raise UserError("the model is not trained: run 'm3dllm fit', or give --checkpoint")
        if self._fitted[0].grounds and self._boxes:
            self._without_boxes([one.id for one in documents if one.frames and one.given is None], "it is asked about")
        yield from answered(documents, DOCUMENTS_AT_ONCE, self._answers)

    def _without_boxes(self, documents: Sequence[str], what: str) -> list[str]:
        """Those of the documents, which have frames, that no source of candidates knows: a warning says how many."""
        lacking = [name for name in documents if name not in self._boxes]
        if lacking:
            of = f"{len(lacking)} of {counted(len(documents), 'document')} with frames that {what}"
            log.warning(
                "--boxes: holds no answer about %s, such as '%s': none of their regions is found", of, lacking[0]
            )
        return lacking

    def _answers(self, documents: Sequence[Document]) -> list[RawOutput]:
        assert self._fitted is not None
        card, model = self._fitted
        card.check_languages(documents)
        return [
            RawOutput(document.id, payload=answer.payload, turns=answer.turns, issues=answer.issues)
            for document, answer in zip(documents, model.answer(documents), strict=True)
        ]
