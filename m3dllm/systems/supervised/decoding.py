"""From scores to an answer: mentions, chains by clustering, relations, regions.

Thresholds are minimum probabilities of decisions; 0.5 is "more likely than not". Answers have offsets, and boxes as
fractions; given mentions or chains are kept unchanged. The confidence of a part is the probability that was compared
with the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.cluster import hierarchy
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from m3dllm.confidence import rounded
from m3dllm.errors import UserError
from m3dllm.systems.supervised.boxes import merged
from m3dllm.systems.supervised.config import LinkageName
from m3dllm.systems.supervised.data import (
    Batch,
    Inputs,
    LabelIndex,
    MentionBatch,
    Mentions,
    joinable,
    mentions_of,
    spans_of_tags,
)
from m3dllm.training import DIVERGED
from m3dllm.types import Chain, GivenKind, Mention

MOST_BOXES = 100
"""The most boxes of a frame in non-maximum suppression, the most probable ones."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The minimum probabilities of predicted links between mentions, relations and regions."""

    chain: float = 0.5
    relation: float = 0.5
    region: float = 0.5
    given_chain: float = 0.5
    """For links between given mentions, which contain no wrong ones."""
    given_relation: float = 0.5
    """For relations between given chains."""

    def limits(self, task: str, given: Sequence[GivenKind | None]) -> list[float]:
        """The threshold of a task for each document, by what was given."""
        name = "region" if task == "grounding" else task
        with_given = getattr(self, f"given_{name}", getattr(self, name))
        return [getattr(self, name) if kind is None else with_given for kind in given]


@dataclass(frozen=True, slots=True)
class Draft:
    """The decisions on a batch so far; each head adds its part."""

    batch: Batch
    mentions: tuple[Mentions, ...] = ()
    """The mentions of each document: chains of one until chains are decided."""
    relations: tuple[tuple[int, int, int, int, float], ...] = ()
    """(document, head chain, tail chain, type, probability) of each relation."""
    regions: tuple[list[dict[str, Any]], ...] = ()
    """The regions of each document, in the answer form."""

    @property
    def given(self) -> list[GivenKind | None]:
        """What was given with each document."""
        return [None if one.document.given is None else one.document.given.kind for one in self.batch.inputs]

    def answers(self, labels: LabelIndex) -> list[dict[str, Any]]:
        """One answer per document, with mentions as offsets."""
        written: list[dict[str, Any]] = []
        for i, inputs in enumerate(self.batch.inputs):
            chains = write_chains(self.mentions[i], inputs, labels) if self.mentions else []
            regions = self.regions[i] if self.regions else []
            written.append({"chains": chains, "relations": [], "regions": regions})
        for i, head, tail, kind, sure in self.relations:
            named = written[i]["chains"]
            ends = {"head": named[head]["id"], "tail": named[tail]["id"]}
            about = {"type": labels.labels.relations[kind].name, "confidence": rounded(sure)}
            written[i]["relations"].append(ends | about)
        return written


# --- mentions and chains ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TagRow:
    """The BIO tags of one document, and the marginals along them (see `crf.PathMarginals`), each (words,)."""

    tags: np.ndarray[Any, Any]
    tag: np.ndarray[Any, Any]
    step: np.ndarray[Any, Any]
    goes_on: np.ndarray[Any, Any]

    def mention(self, first: int, last: int) -> float:
        """The probability of a mention of the type from the first to the last word, and no further."""
        inside = self.step[first + 1 : last + 1].prod()
        return float(self.tag[first] * inside * (1 - self.goes_on[last]))


def mentions_in(inputs: Inputs, row: TagRow, labels: LabelIndex) -> Mentions:
    """The mentions of a document: those given, or those of its tags, each as a chain of one."""
    chains: Sequence[Chain]
    if inputs.document.given is not None:
        chains = inputs.document.given.chains if inputs.words else ()
    else:
        names = [label.name for label in labels.labels.mentions]
        chains = [
            Chain(
                f"m{i}",
                (
                    Mention(
                        inputs.words[first][0], inputs.words[last][1], names[kind], rounded(row.mention(first, last))
                    ),
                ),
            )
            for i, (first, last, kind) in enumerate(spans_of_tags(row.tags[: len(inputs.words)]))
        ]
    return mentions_of(inputs, chains, labels)


def link_all(
    draft: Draft, links: np.ndarray[Any, Any], limits: Sequence[float], *, linkage: LinkageName
) -> tuple[Mentions, ...]:
    """The mentions of each document in chains; given chains are kept."""
    return tuple(
        one if kind == "chains" else linked(one, own, limit, linkage=linkage)
        for one, kind, own, limit in zip(draft.mentions, draft.given, links, limits, strict=True)
    )


def linked(mentions: Mentions, links: np.ndarray[Any, Any], threshold: float, *, linkage: LinkageName) -> Mentions:
    """The mentions clustered by their links; chains are in the order of their first mentions.

    links: (mentions, mentions), the probability that two corefer, in the row of the earlier mention. single: connected
    components of links above the threshold, so that one wrong link joins two chains. average: starting from single
    mentions, the two chains with the highest mean log-odds are joined while that exceeds the threshold's.
    """
    n = len(mentions)
    if n == 0:
        return mentions
    upper = np.triu(links[:n, :n], 1)
    if linkage == "single" or n == 1:
        _, part = connected_components(upper > threshold, directed=False)
    else:
        farthest = log_odds(1.0)
        distances = farthest - log_odds(upper[np.triu_indices(n, 1)])
        if not np.isfinite(distances).all():
            raise UserError(DIVERGED)
        tree = hierarchy.average(distances)
        part = hierarchy.fcluster(tree, farthest - log_odds(threshold), "distance")
    _, first, number = np.unique(part, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    chain = torch.from_numpy(order[number].reshape(-1))
    votes = torch.zeros(len(first), int(mentions.type.max()) + 1).index_put(
        (chain, mentions.type), torch.ones(n), accumulate=True
    )
    early = mentions.type[torch.from_numpy(np.sort(first))]
    votes[torch.arange(len(first)), early] += 0.5  # the first mention's type on a tie
    return replace(mentions, chain=chain, chain_type=votes.argmax(1), link=links_to_earlier(upper, chain.numpy()))


def links_to_earlier(upper: np.ndarray[Any, Any], chain: np.ndarray[Any, Any]) -> tuple[float | None, ...]:
    """The mean probability that each mention corefers with those before it in its chain; None for a chain's first.

    upper: (mentions, mentions), in the row of the earlier mention; chain: (mentions,).
    """
    before = np.triu(chain[:, None] == chain[None, :], 1)
    number = before.sum(0)
    mean = (upper * before).sum(0) / np.maximum(number, 1)
    return tuple(rounded(sure) if n else None for sure, n in zip(mean.tolist(), number.tolist(), strict=True))


def log_odds(probability: Any) -> Any:
    """log p / (1 - p), with p clipped to a millionth from 0 and 1."""
    inside = np.clip(np.asarray(probability, dtype=np.float64), 1e-6, 1 - 1e-6)
    return np.log(inside) - np.log1p(-inside)


def choose_relations(
    logits: Tensor, mentions: MentionBatch, types: LabelIndex, threshold: Tensor, *, decision: str
) -> tuple[Tensor, Tensor]:
    """(the predicted relations (relations, 4): document, head chain, tail chain, type; their probabilities).

    A symmetric one is included once, by the mean over both directions. argmax: the most probable type of a pair, if it
    beats "none"; threshold: every type above the threshold of the document, (batch,).
    """
    n_types = len(types.relations)
    joins, symmetric = types.joins.to(logits.device), types.symmetric.to(logits.device)
    allowed = joinable(mentions, joins)
    if decision == "argmax":
        scores = torch.cat([logits[..., :-1].masked_fill(~allowed, -1e4), logits[..., -1:]], -1)
        probability, none = scores.softmax(-1).split([n_types, 1], -1)
        none = torch.where(symmetric, (none + none.transpose(1, 2)) / 2, none)
    else:
        probability, none = logits.sigmoid() * allowed, None
    probability = torch.where(symmetric, (probability + probability.transpose(1, 2)) / 2, probability)
    later = torch.ones(probability.shape[1:3], dtype=torch.bool, device=logits.device).tril()
    probability = probability.masked_fill(later[..., None] & symmetric, 0.0)
    if none is None:
        chosen = probability > threshold[:, None, None, None]
    elif n_types == 0:
        chosen = probability > 0
    else:
        best = torch.zeros_like(probability, dtype=torch.bool).scatter(-1, probability.argmax(-1, keepdim=True), True)
        chosen = best & (probability > none)
    return chosen.nonzero(), probability[chosen]


def write_chains(mentions: Mentions, inputs: Inputs, types: LabelIndex) -> list[dict[str, Any]]:
    """The chains with ids c0, c1, …, or the given ones."""
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
    of_each = zip(mentions.spans, mentions.type.tolist(), mentions.chain.tolist(), strict=True)
    for i, (span, kind, chain) in enumerate(of_each):
        sure = {"confidence": mentions.confidence[i], "link": mentions.link[i] if mentions.link else None}
        confidences = {name: value for name, value in sure.items() if value is not None}
        written[chain]["mentions"].append(_mention(span, names[kind]) | confidences)
    return written


def _mention(span: tuple[int, int], kind: str) -> dict[str, Any]:
    return {"start": span[0], "end": span[1], "type": kind}


def write_regions(
    kinds: Tensor, boxes: Tensor, inputs: Inputs, types: LabelIndex, threshold: float, *, merge_iou: float
) -> list[dict[str, Any]]:
    """The regions of one document. kinds: (frames, slots, types + 1), boxes: (frames, slots, 4).

    The confidence of a slot is that of its best type against "none"; overlapping boxes of one type are merged.
    """
    probability = kinds.softmax(-1)
    if probability.shape[-1] < 2:
        return []
    best, kind = probability[..., :-1].max(-1)
    sure = best / (best + probability[..., -1])
    edges = torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1).clamp(0, 1)
    found = []
    for frame in (sure > threshold).any(-1).nonzero()[:, 0].tolist():
        slots = (sure[frame] > threshold).nonzero()[:, 0]
        slots = slots[sure[frame, slots].argsort(descending=True)][:MOST_BOXES]
        corners = edges[frame, slots].double().cpu().numpy()
        labels = kind[frame, slots].cpu().numpy()
        for i in merged(corners, labels, merge_iou):
            found.append(
                {
                    "frame": inputs.frames[frame].index,
                    "type": types.labels.regions[labels[i]].name,
                    "box": [float(edge) for edge in corners[i]],
                    "confidence": rounded(float(sure[frame, slots[i]])),
                }
            )
    return found
