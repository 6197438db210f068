"""The system `dffm`: fits the model of the M3D paper and answers with it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.systems.supervised.batch import Types
from m3dllm.systems.supervised.checkpoint import Card, load_model
from m3dllm.systems.supervised.config import Config
from m3dllm.systems.supervised.evaluate import decoders
from m3dllm.systems.supervised.model import DFFM
from m3dllm.systems.supervised.train import find_device, fit, is_out_of_memory
from m3dllm.types import Document, Example, Failure, RawOutput


class Supervised:
    """Entities, chains, relations and regions by one model (DFFM and MMCM); takes given mentions and chains."""

    def __init__(
        self,
        config: Config,
        *,
        labels: LabelSet,
        examples: Sequence[Example] = (),
        checkpoint: Path | None = None,
    ) -> None:
        """Raises UserError where the checkpoint is not one of this label set and these options, or is damaged."""
        self.config, self.labels = config, labels
        self.types = Types.of(labels)
        self.device = find_device(config)
        self._fitted: tuple[Card, DFFM] | None = None
        if checkpoint is not None:
            card, model = load_model(checkpoint, config, labels)
            self._fitted = card, model.to(self.device).eval()

    @property
    def provenance(self) -> dict[str, str]:
        """What the run's record should say of the model: its text encoder, its thresholds."""
        if self._fitted is None:
            return {}
        card, _ = self._fitted
        thresholds = ", ".join(f"{name} {value}" for name, value in asdict(card.thresholds).items())
        return {"text_encoder": card.text_encoder, "thresholds": thresholds}

    def fit(self, train: Sequence[Example], dev: Sequence[Example], out: Path) -> None:
        """Learn from `train`, choose by `dev`, write the checkpoint into `out`; a killed fit goes on from there.

        Raises UserError, see `train.fit`.
        """
        self._fitted = fit(self.config, self.labels, train, dev, out)

    def predict(self, documents: Iterable[Document]) -> Iterator[RawOutput]:
        """One answer a document, in order, `batch_size` documents at a time.

        Raises UserError before the first answer where nothing was fitted or loaded; a document that cannot be read, or
        is in a language that the model did not learn, is answered with its error.
        """
        if self._fitted is None:
            raise UserError("the model is not fitted: fit it, or give --checkpoint")
        rest = iter(documents)
        while batch := list(itertools.islice(rest, self.config.batch_size)):
            yield from self._answer(batch)

    def _answer(self, documents: Sequence[Document]) -> list[RawOutput]:
        """The answers of a batch; where it fails as a whole, each document is tried alone."""
        started = time.perf_counter()
        try:
            payloads = self._payloads(documents)
        except (UserError, ValueError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not is_out_of_memory(error):
                raise
            if len(documents) > 1:
                return [answer for document in documents for answer in self._answer([document])]
            return [RawOutput(documents[0].id, error=failure(error))]
        seconds = (time.perf_counter() - started) / len(documents)
        return [
            RawOutput(document.id, payload=payload, seconds=seconds)
            for document, payload in zip(documents, payloads, strict=True)
        ]

    def _payloads(self, documents: Sequence[Document]) -> list[dict[str, Any]]:
        assert self._fitted is not None
        card, model = self._fitted
        for document in documents:
            if document.text and document.lang not in card.languages:
                known = " and ".join(card.languages)
                raise UserError(f"the document is in '{document.lang}', and the model was fitted on {known}")
        (decoder,) = decoders(model, documents, self.types, self.device, len(documents))
        found = decoder.answers(card.thresholds)
        if not card.grounds:
            found = [answer | {"regions": []} for answer in found]
        return found


def failure(error: Exception) -> Failure:
    """Why a document was not answered; memory that ran out may be there another time."""
    if is_out_of_memory(error):
        return Failure("memory ran out: a smaller --frame-chunk, or --device cpu, may help", retryable=True)
    return Failure(str(error))
