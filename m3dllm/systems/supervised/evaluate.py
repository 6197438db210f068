"""What a model says of documents, how good that is on dev, and the thresholds that do best there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch

from m3dllm.labels import LabelSet
from m3dllm.normalize import normalize
from m3dllm.score import score
from m3dllm.systems.supervised.batch import Batch, Inputs, Types, to_device, words_of
from m3dllm.systems.supervised.config import Config
from m3dllm.systems.supervised.decode import Decoder, Thresholds
from m3dllm.systems.supervised.model import DFFM, States
from m3dllm.types import Chain, Document, Example, Given, GivenKind, RawOutput

GRID = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Thresholds that are tried on dev."""
TUNED: tuple[tuple[GivenKind | None, str, str], ...] = (
    (None, "chain", "chain"),
    (None, "relation", "relation"),
    (None, "grounding", "region"),
    ("mentions", "chain", "given_chain"),
    ("chains", "relation", "given_relation"),
)
"""What is given, the task, and the threshold that is chosen by it, in this order."""


def prepare(model: DFFM, document: Document) -> Inputs:
    """The document as numbers; without its frames where the model has no eyes."""
    spans, words = words_of(document)
    return Inputs(document, spans, model.text.encoder.pieces(words), document.frames if model.vision else ())


def mixed_precision(config: Config, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 where it is asked for, or where a GPU has it."""
    wanted = config.precision == "bf16" or (
        config.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    )
    return torch.autocast(device.type, dtype=torch.bfloat16) if wanted else nullcontext()


@torch.no_grad()
def encoded(
    model: DFFM, inputs: Iterable[Inputs], device: torch.device, batch_size: int
) -> Iterator[tuple[Batch, States]]:
    """The documents in batches, encoded. The model is in eval mode."""
    rows = list(inputs)
    for i in range(0, len(rows), batch_size):
        batch = to_device(model.text.batch(rows[i : i + batch_size]), device)
        with mixed_precision(model.config, device):
            yield batch, model.encode(batch)


def decoders(
    model: DFFM, documents: Iterable[Document], types: Types, device: torch.device, batch_size: int
) -> list[Decoder]:
    """The documents in batches, encoded and ready to be read."""
    inputs = [prepare(model, document) for document in documents]
    return [Decoder(model, batch, states, types) for batch, states in encoded(model, inputs, device, batch_size)]


def dev_scores(
    dev: Sequence[Example],
    decoded: Sequence[Decoder],
    labels: LabelSet,
    thresholds: Thresholds,
    *,
    regions: bool = True,
) -> dict[str, float]:
    """F1 of each task and their average, by the shared scorer, averaged over the languages of `dev`."""
    found = (answer for decoder in decoded for answer in decoder.answers(thresholds, regions=regions))
    predictions = [
        normalize(example.document, RawOutput(example.document.id, payload=answer), labels)
        for example, answer in zip(dev, found, strict=True)
    ]
    languages = score(dev, predictions, labels=labels).languages.values()
    rows: dict[str, list[float]] = {}
    for language in languages:
        named = language.end_to_end.tasks
        for name in ("entity", "chain", "relation", "grounding"):
            f1 = named[name].f1 if name in named else None
            if f1 is not None:
                rows.setdefault(name, []).append(f1)
        if language.end_to_end.average_f1 is not None:
            rows.setdefault("average", []).append(language.end_to_end.average_f1)
    return {name: sum(values) / len(values) for name, values in rows.items()}


def tune(model: DFFM, dev: Sequence[Example], labels: LabelSet, device: torch.device) -> Thresholds:
    """The thresholds that do best on dev, one after the other; 0.5 where they make no difference."""
    shown: dict[GivenKind | None, list[Document]] = {
        None: [e.document for e in dev],
        "mentions": [replace(e.document, given=Given(chains=_alone(e), kind="mentions")) for e in dev],
        "chains": [replace(e.document, given=Given(chains=e.gold.chains, kind="chains")) for e in dev],
    }
    best, ready = Thresholds(), {}
    for given, task, name in TUNED:
        if given not in ready:
            ready[given] = decoders(model, shown[given], Types.of(labels), device, model.config.batch_size)
        found = {}
        for value in GRID:
            tried = replace(best, **{name: value})
            scores = dev_scores(dev, ready[given], labels, tried, regions=task == "grounding")
            found[value] = scores.get(task, 0.0)
        best = replace(best, **{name: max(GRID, key=lambda value: (found[value], -abs(value - 0.5)))})
    return best


def _alone(example: Example) -> tuple[Chain, ...]:
    """Each gold mention as a chain of one; a span once."""
    mentions = {mention.span: mention for mention in example.gold.mentions}
    return tuple(Chain(f"m{i}", (mention,)) for i, mention in enumerate(sorted(mentions.values())))
