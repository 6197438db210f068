"""The predictions of a model, and the tuning of thresholds on dev."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from m3dllm.devices import autocast, in_threads
from m3dllm.labels import LabelSet
from m3dllm.systems.supervised.backbone import States
from m3dllm.systems.supervised.data import Batch, Inputs, to_device
from m3dllm.systems.supervised.decoding import Draft, Thresholds
from m3dllm.systems.supervised.heads import Head
from m3dllm.systems.supervised.model import Model
from m3dllm.training import f1_scores
from m3dllm.types import Chain, Document, Example, Given, GivenKind, RawOutput

GRID = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The thresholds that are tried on dev."""
TUNED: tuple[tuple[GivenKind | None, str, str], ...] = (
    (None, "chain", "chain"),
    (None, "relation", "relation"),
    (None, "grounding", "region"),
    ("mentions", "chain", "given_chain"),
    ("chains", "relation", "given_relation"),
)
"""(what is given, task, threshold) in the order of tuning."""


class Decoder:
    """The answers of a model, in eval mode, to a batch; results independent of thresholds are computed once."""

    def __init__(self, model: Model, batch: Batch, states: States) -> None:
        self.model, self.batch, self.states = model, batch, states
        self._scores: dict[str, tuple[Any, Any]] = {}

    @torch.no_grad()
    def answers(self, thresholds: Thresholds, *, regions: bool = True) -> list[dict[str, Any]]:
        """One answer per document, with mentions as offsets; optionally without regions.

        Without trained chains each mention is a chain of one; given mentions and chains are in every answer.
        """
        draft = Draft(self.batch)
        tasks = {*self.model.tasks} - ({"grounding"} if not regions else set())
        for head in self.model.heads:
            if head.task in tasks or (head.task == "entity" and any(draft.given)):
                draft = head.decode(self._scores_of(head, draft, thresholds), draft, thresholds)
        return draft.answers(self.model.labels)

    def _scores_of(self, head: Head, draft: Draft, thresholds: Thresholds) -> Any:
        """The scores of a head, cached while the decisions that they depend on are the same."""
        key = [thresholds.limits(task, draft.given) for task in head.reads]
        if head.task not in self._scores or self._scores[head.task][0] != key:
            self._scores[head.task] = key, head.scores(self.states, draft)
        return self._scores[head.task][1]


def decoders(model: Model, documents: Iterable[Document], device: torch.device, batch_size: int) -> list[Decoder]:
    """The documents in batches, encoded and ready to be decoded. The model is in eval mode."""

    @torch.no_grad()
    def encoded(inputs: Sequence[Inputs]) -> Decoder:
        batch = to_device(model.batch(inputs), device)
        with autocast(model.config.precision, device):
            states = model.encode(batch)
        return Decoder(model, batch, states.full())

    inputs = [model.inputs(document) for document in documents]
    batches = [inputs[i : i + batch_size] for i in range(0, len(inputs), batch_size)]
    return in_threads(model.threads(device), encoded, batches)


def dev_scores(
    dev: Sequence[Example],
    decoded: Sequence[Decoder],
    labels: LabelSet,
    thresholds: Thresholds,
    *,
    regions: bool = True,
) -> dict[str, float]:
    """F1 of each task and their average, averaged over the languages of `dev`."""
    found = (answer for decoder in decoded for answer in decoder.answers(thresholds, regions=regions))
    raws = [RawOutput(example.document.id, payload=answer) for example, answer in zip(dev, found, strict=True)]
    return f1_scores(dev, raws, labels)


def tune(model: Model, dev: Sequence[Example], labels: LabelSet, device: torch.device) -> Thresholds:
    """The thresholds with the best F1 on dev, tuned one after the other; 0.5 if they make no difference."""
    documents: dict[GivenKind | None, list[Document]] = {
        None: [e.document for e in dev],
        "mentions": [replace(e.document, given=Given(chains=_alone(e), kind="mentions")) for e in dev],
        "chains": [replace(e.document, given=Given(chains=e.gold.chains, kind="chains")) for e in dev],
    }
    best, ready = Thresholds(), {}
    for given, task, name in TUNED:
        if task not in model.tasks:
            continue
        if given not in ready:
            ready[given] = decoders(model, documents[given], device, model.config.batch_size)
        found = {}
        for value in GRID:
            tried = replace(best, **{name: value})
            scores = dev_scores(dev, ready[given], labels, tried, regions=task == "grounding")
            found[value] = scores.get(task, 0.0)
        best = replace(best, **{name: max(GRID, key=lambda value: (found[value], -abs(value - 0.5)))})
    return best


def _alone(example: Example) -> tuple[Chain, ...]:
    """Each gold mention as a chain of one; each span once."""
    mentions = {mention.span: mention for mention in example.gold.mentions}
    return tuple(Chain(f"m{i}", (mention,)) for i, mention in enumerate(sorted(mentions.values())))
