"""From the model's outputs to an answer: mentions, chains by clustering of pairs, relations, regions.

Thresholds say how sure a decision must be; 0.5 everywhere is "more likely than not". Answers have offsets, and boxes as
fractions; what the pipeline gave (mentions or chains) is kept as it was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.cluster import hierarchy
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from m3dllm.systems.supervised.batch import (
    Batch,
    Inputs,
    MentionBatch,
    Mentions,
    Types,
    make_mention_batch,
    mentions_of,
    spans_of_tags,
    to_device,
)
from m3dllm.systems.supervised.config import LinkageName
from m3dllm.systems.supervised.losses import joinable
from m3dllm.systems.supervised.model import DFFM, States
from m3dllm.types import Chain, Mention

MOST_BOXES = 100
"""Boxes of one frame that are looked at when overlapping ones are merged, the surest first."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How likely a link between mentions, a relation, or a region must be to be said."""

    chain: float = 0.5
    relation: float = 0.5
    region: float = 0.5
    given_chain: float = 0.5
    """Of links between given mentions: there are no wrong ones among them to be careful about."""
    given_relation: float = 0.5
    """Of relations between given chains."""


class Decoder:
    """What the model, in eval mode, says of a batch; what does not depend on a threshold is computed once."""

    def __init__(self, model: DFFM, batch: Batch, states: States, types: Types) -> None:
        self.model, self.batch, self.states, self.types = model, batch, states, types
        self.given = [_given(inputs) for inputs in batch.inputs]
        self._related: tuple[list[float], MentionBatch, Tensor] | None = None

    @torch.no_grad()
    def answers(self, thresholds: Thresholds, *, regions: bool = True) -> list[dict[str, Any]]:
        """One answer a document, in the offsets form; without regions where nobody asks."""
        chain_limits = [thresholds.given_chain if kind else thresholds.chain for kind in self.given]
        mentions = self._chains(chain_limits)
        found: list[dict[str, Any]] = []
        for one, inputs in zip(mentions, self.batch.inputs, strict=True):
            found.append({"chains": write_chains(one, inputs, self.types), "relations": [], "regions": []})
        if any(one.n_chains for one in mentions):
            limits = [thresholds.given_relation if kind else thresholds.relation for kind in self.given]
            for row, head, tail, kind in self._relations(mentions, chain_limits, limits).tolist():
                if self.given[row] != "mentions":
                    named = found[row]["chains"]
                    relation = {"head": named[head]["id"], "tail": named[tail]["id"]}
                    found[row]["relations"].append(relation | {"type": self.types.labels.relations[kind].name})
        if regions and self.model.vision is not None and self.batch.frame_mask.shape[1]:
            kinds, boxes = self._regions
            for i, inputs in enumerate(self.batch.inputs):
                if self.given[i] is None and inputs.frames:
                    own = slice(len(inputs.frames))
                    found[i]["regions"] = write_regions(
                        kinds[i, own], boxes[i, own], inputs, self.types, self.model, thresholds.region
                    )
        return found

    @cached_property
    def _mentions(self) -> list[Mentions]:
        return find_mentions(self.model, self.batch, self.states, self.types)

    @cached_property
    def _links(self) -> np.ndarray[Any, Any]:
        """(batch, mentions, mentions): how likely two mentions are one entity."""
        mentions = to_device(make_mention_batch(self._mentions), self.states.words.device)
        found: np.ndarray[Any, Any] = self.model.chain_logits(self.states, mentions).softmax(-1)[..., 1].cpu().numpy()
        return found

    @cached_property
    def _regions(self) -> tuple[Tensor, Tensor]:
        return self.model.region_outputs(self.states)

    def _chains(self, limits: Sequence[float]) -> list[Mentions]:
        """The mentions in chains; those of given chains as they were given."""
        if not any(len(one) for one in self._mentions):
            return self._mentions
        return [
            one if kind == "chains" else linked(one, links, limit, linkage=self.model.config.linkage)
            for one, kind, links, limit in zip(self._mentions, self.given, self._links, limits, strict=True)
        ]

    def _relations(self, mentions: list[Mentions], chain_limits: list[float], limits: Sequence[float]) -> Tensor:
        """See `choose_relations`; the logits are kept for the chains that these limits made."""
        if self._related is None or self._related[0] != chain_limits:
            together = to_device(make_mention_batch(mentions), self.states.words.device)
            shows = self.model.shows(self.states, together)
            self._related = chain_limits, together, self.model.relation_logits(self.states, together, shows)
        _, together, logits = self._related
        threshold = torch.tensor(limits, device=logits.device)
        return choose_relations(logits, together, self.types, threshold, decision=self.model.config.decision)


def _given(inputs: Inputs) -> str | None:
    return None if inputs.document.given is None else inputs.document.given.kind


def find_mentions(model: DFFM, batch: Batch, states: States, types: Types) -> list[Mentions]:
    """The mentions of each document: those given, or those tagged, each as a chain of one."""
    tags = np.zeros(batch.word_mask.shape, dtype=np.int64)
    if any(inputs.words and inputs.document.given is None for inputs in batch.inputs):
        tags = model.tagger.crf.decode(model.tagger(states.words), states.word_mask).cpu().numpy()
    found = []
    for row, inputs in zip(tags, batch.inputs, strict=True):
        chains: Sequence[Chain]
        if inputs.document.given is not None:
            chains = inputs.document.given.chains if inputs.words else ()
        else:
            names = [label.name for label in types.labels.mentions]
            chains = [
                Chain(f"m{i}", (Mention(inputs.words[first][0], inputs.words[last][1], names[kind]),))
                for i, (first, last, kind) in enumerate(spans_of_tags(row[: len(inputs.words)]))
            ]
        found.append(mentions_of(inputs, chains, types))
    return found


def linked(mentions: Mentions, links: np.ndarray[Any, Any], threshold: float, *, linkage: LinkageName) -> Mentions:
    """The mentions in the chains that their links make; chains in the order of their first mentions.

    links: (mentions, mentions), the chances that two are one, of which the earlier mention's row counts. single: all
    that a path of links above the threshold joins; one wrong link joins two chains. average: from chains of one, the
    two with the greatest log-odds on average over their mentions are joined, while that is above the threshold's.
    """
    n = len(mentions)
    if n == 0:
        return mentions
    upper = np.triu(links[:n, :n], 1)
    if linkage == "single" or n == 1:
        _, part = connected_components(upper > threshold, directed=False)
    else:
        farthest = log_odds(1.0)
        tree = hierarchy.average(farthest - log_odds(upper[np.triu_indices(n, 1)]))
        part = hierarchy.fcluster(tree, farthest - log_odds(threshold), "distance")
    _, first, number = np.unique(part, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    chain = torch.from_numpy(order[number].reshape(-1))
    votes = torch.zeros(len(first), int(mentions.type.max()) + 1).index_put(
        (chain, mentions.type), torch.ones(n), accumulate=True
    )
    early = mentions.type[torch.from_numpy(np.sort(first))]
    votes[torch.arange(len(first)), early] += 0.5  # the first mention's type on a tie
    return replace(mentions, chain=chain, chain_type=votes.argmax(1))


def log_odds(chance: Any) -> Any:
    """log p / (1 - p); beyond a millionth of 0 or 1 all are the same."""
    inside = np.clip(np.asarray(chance, dtype=np.float64), 1e-6, 1 - 1e-6)
    return np.log(inside) - np.log1p(-inside)


def choose_relations(
    logits: Tensor, mentions: MentionBatch, types: Types, threshold: Tensor, *, decision: str
) -> Tensor:
    """The relations said: (relations, 4) of document, head chain, tail chain, type. A symmetric one is said once.

    argmax: the likeliest type of a pair, where it is likelier than none; threshold: every type likelier than that of
    the document, (batch,).
    """
    n_types = len(types.relations)
    joins, symmetric = types.joins.to(logits.device), types.symmetric.to(logits.device)
    allowed = joinable(mentions, joins)
    if decision == "argmax":
        scores = torch.cat([logits[..., :-1].masked_fill(~allowed, -1e4), logits[..., -1:]], -1)
        chance, none = scores.softmax(-1).split([n_types, 1], -1)
    else:
        chance, none = logits.sigmoid() * allowed, None
    chance = torch.where(symmetric, (chance + chance.transpose(1, 2)) / 2, chance)
    later = torch.ones(chance.shape[1:3], dtype=torch.bool, device=logits.device).tril()
    chance = chance.masked_fill(later[..., None] & symmetric, 0.0)
    if none is None:
        return (chance > threshold[:, None, None, None]).nonzero()
    if n_types == 0:
        return chance.nonzero()
    best = torch.zeros_like(chance, dtype=torch.bool).scatter(-1, chance.argmax(-1, keepdim=True), True)
    return (best & (chance > none)).nonzero()


def write_chains(mentions: Mentions, inputs: Inputs, types: Types) -> list[dict[str, Any]]:
    """The chains with ids c0, c1, …, or those that were given."""
    names = [label.name for label in types.labels.mentions]
    given = inputs.document.given
    if given is not None and given.kind == "chains":
        chains = given.chains if inputs.words else ()
        return [
            {"id": chain.id, "type": chain.type, "mentions": [_mention(m.span, m.type) for m in chain.mentions]}
            for chain in chains
        ]
    written: list[dict[str, Any]] = [
        {"id": f"c{i}", "type": names[kind], "mentions": []} for i, kind in enumerate(mentions.chain_type.tolist())
    ]
    for span, kind, chain in zip(mentions.spans, mentions.type.tolist(), mentions.chain.tolist(), strict=True):
        written[chain]["mentions"].append(_mention(span, names[kind]))
    return written


def _mention(span: tuple[int, int], kind: str) -> dict[str, Any]:
    return {"start": span[0], "end": span[1], "type": kind}


def write_regions(
    kinds: Tensor, boxes: Tensor, inputs: Inputs, types: Types, model: DFFM, threshold: float
) -> list[dict[str, Any]]:
    """The regions of one document. kinds: (frames, slots, types + 1), boxes: (frames, slots, 4).

    A slot is as sure as its likeliest type against none; of boxes of one type that overlap the surest stays.
    """
    chance = kinds.softmax(-1)
    if chance.shape[-1] < 2:
        return []
    best, kind = chance[..., :-1].max(-1)
    sure = best / (best + chance[..., -1])
    edges = torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1).clamp(0, 1)
    said = []
    for frame in (sure > threshold).any(-1).nonzero()[:, 0].tolist():
        slots = (sure[frame] > threshold).nonzero()[:, 0]
        slots = slots[sure[frame, slots].argsort(descending=True)][:MOST_BOXES]
        corners = edges[frame, slots].double().cpu().numpy()
        labels = kind[frame, slots].cpu().numpy()
        for i in merged(corners, labels, model.config.merge_iou):
            said.append(
                {
                    "frame": inputs.frames[frame].index,
                    "type": types.labels.regions[labels[i]].name,
                    "box": [float(edge) for edge in corners[i]],
                }
            )
    return said


def merged(corners: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], limit: float) -> list[int]:
    """Which of the boxes (n, 4), the surest first, stay: each that overlaps no surer one of its type beyond `limit`."""
    low = np.maximum(corners[:, None, :2], corners[None, :, :2])
    high = np.minimum(corners[:, None, 2:], corners[None, :, 2:])
    both = (high - low).clip(min=0).prod(-1)
    area = (corners[:, 2:] - corners[:, :2]).prod(-1)
    overlap = both / np.maximum(area[:, None] + area[None, :] - both, 1e-12)
    rival = (overlap > limit) & (labels[:, None] == labels[None, :])
    kept: list[int] = []
    for i in range(len(corners)):
        if not rival[i, kept].any():
            kept.append(i)
    return kept
