"""The training losses, eq. 19 to 24; every document has the same weight, whatever its length and batch.

Class imbalance: among the N decisions of a task, a class with n of them, of C classes, has the weight (N / (C n)) **
`balance`. Chains and relations have two classes, no and yes (any type); slots of frames likewise none and some. With
`balance` 0 all weights are 1, as in the paper. Patches, nearly all of which show nothing, use the focal loss instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from m3dllm.rng import rand
from m3dllm.systems.supervised.config import Config
from m3dllm.systems.supervised.data import (
    Gold,
    LabelIndex,
    MentionBatch,
    chain_pairs,
    joinable,
    make_mention_batch,
    once,
    pad,
    to_device,
)
from m3dllm.systems.supervised.scorers import patch_centres
from m3dllm.types import Task

FOCUS = 2.0
"""The exponent of the focal loss."""


@dataclass(frozen=True, slots=True)
class ClassWeights:
    """The weights of (no, yes) in the losses of chains, relations and region types."""

    chain: tuple[float, float] = (1.0, 1.0)
    relation: tuple[float, float] = (1.0, 1.0)
    region: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of(cls, golds: Sequence[Gold], types: LabelIndex, config: Config) -> ClassWeights:
        """The weights, from counts over the train documents."""
        pairs = same = possible = related = slots = regions = 0
        for gold in golds:
            n, chain = len(gold.mentions), gold.mentions.chain
            if "chain" not in gold.unannotated:
                pairs += n * (n - 1) // 2
                same += (int((chain[:, None] == chain[None]).sum()) - n) // 2
            kinds = gold.mentions.chain_type
            joins = types.joins[kinds[:, None], kinds[None]]
            n_possible = joins.sum() - joins.diagonal(dim1=0, dim2=1).sum()
            if config.decision == "argmax":
                n_possible = torch.tensor(len(kinds) * (len(kinds) - 1))
            if "relation" not in gold.unannotated:
                possible += int(n_possible)
                related += len(gold.relations)
            slots += int(gold.annotated.sum()) * max(config.slots, 1)
            regions += min(len(gold.region_frame), int(gold.annotated.sum()) * max(config.slots, 1))
        power = config.balance
        return cls(
            _weights(pairs - same, same, power),
            _weights(possible - related, related, power),
            _weights(slots - regions, regions, power),
        )


def _weights(no: int, yes: int, power: float) -> tuple[float, float]:
    total = no + yes
    return tuple((total / (2 * max(n, 1))) ** power if total else 1.0 for n in (no, yes))  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class GoldBatch:
    """The gold of a batch."""

    documents: Sequence[Gold]
    mentions: MentionBatch
    """Their gold mentions and chains."""
    weights: ClassWeights

    @classmethod
    def of(cls, documents: Sequence[Gold], weights: ClassWeights, device: torch.device) -> GoldBatch:
        return cls(documents, to_device(make_mention_batch([gold.mentions for gold in documents]), device), weights)

    def known(self, task: Task) -> Tensor:
        """(documents,), booleans: whether the task is annotated; other documents have no loss."""
        known = [task not in gold.unannotated for gold in self.documents]
        return torch.tensor(known, device=self.mentions.mask.device)


def entity_loss(nll: Tensor, word_mask: Tensor, known: Tensor | None = None) -> Tensor:
    """Eq. 19: the negative log-likelihood (documents,) of the tags, divided by the document's words."""
    n = word_mask.sum(1)
    return average(nll / n.clamp(min=1), n > 0, known)


def chain_loss(
    logits: Tensor, mentions: MentionBatch, weights: tuple[float, float], known: Tensor | None = None
) -> Tensor:
    """Eq. 20 over the pairs of mentions of a document, each pair once: the earlier first."""
    n = logits.shape[1]
    earlier = torch.ones(n, n, dtype=torch.bool, device=logits.device).triu(1)
    mask = earlier & mentions.mask[:, :, None] & mentions.mask[:, None, :]
    same = (mentions.chain[:, :, None] == mentions.chain[:, None, :]).long()
    each = F.cross_entropy(logits.flatten(0, 2), same.flatten(), reduction="none").view_as(same)
    weighted = each * torch.tensor(weights, device=logits.device)[same] * mask
    pairs = mask.sum((1, 2))
    return average(weighted.sum((1, 2)) / pairs.clamp(min=1), pairs > 0, known)


def relation_target(gold: Gold, n_chains: int, n_types: int) -> Tensor:
    """(chains, chains, types), booleans."""
    target = torch.zeros(n_chains, n_chains, n_types, dtype=torch.bool)
    head, tail, kind = gold.relations.unbind(1)
    target[head, tail, kind] = True
    return target


def relation_loss(
    logits: Tensor,
    target: Tensor,
    mentions: MentionBatch,
    joins: Tensor,
    weights: tuple[float, float],
    *,
    decision: str,
    known: Tensor | None = None,
) -> Tensor:
    """Eq. 21 over the ordered pairs of chains of a document.

    argmax: cross-entropy over the types and none; a pair of several types has them as targets in equal parts.
    threshold: a binary decision for every type allowed between the two.
    """
    mask = chain_pairs(mentions)
    each = type_losses(logits, target, joinable(mentions, joins), weights, decision=decision)
    pairs = mask.sum((1, 2))
    return average((each * mask).sum((1, 2)) / pairs.clamp(min=1), pairs > 0, known)


def type_losses(
    logits: Tensor,
    target: Tensor,
    allowed: Tensor,
    weights: tuple[float, float] = (1.0, 1.0),
    *,
    decision: str,
) -> Tensor:
    """The loss of each pair, see `relation_loss`: (…,). target, allowed: (…, types), booleans; logits: (…, classes)."""
    no, yes = weights
    if decision == "argmax":
        target = target & allowed
        scores = torch.where(F.pad(allowed, (0, 1), value=True), logits, torch.full_like(logits, -1e4))
        some = target.any(-1)
        share = torch.cat([target, ~some[..., None]], -1).float()
        share = share / share.sum(-1, keepdim=True)
        return -(share * scores.log_softmax(-1)).sum(-1) * torch.where(some, yes, no)
    bits = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    return (bits * torch.where(target, yes, no) * allowed).sum(-1)


def balanced(pairs: Tensor, positive: Tensor, most: int) -> Tensor:
    """(rows, 3): at most `most` of the `pairs` (batch, n, n) in random order, half of them `positive`.

    If one kind has too few, more of the other are taken.
    """
    at = pairs.nonzero()
    at = at[rand((len(at),), at.device).argsort()]
    is_positive = positive[at.unbind(1)]
    n_positive = int(is_positive.sum())
    n_negative = len(at) - n_positive
    kept = torch.where(
        is_positive,
        is_positive.cumsum(0) <= max(most // 2, most - n_negative),
        (~is_positive).cumsum(0) <= max(most - most // 2, most - n_positive),
    )
    return at[kept]


def shows_target(golds: Sequence[Gold], n_chains: int, n_frames: int) -> tuple[Tensor, Tensor]:
    """(which frames show which chains, where that is annotated): (batch, chains, frames) each, 0 or 1, and booleans.

    It is annotated in annotated frames of documents whose regions have chains.
    """
    truth = torch.zeros(len(golds), n_chains, n_frames)
    known = torch.zeros(len(golds), n_chains, n_frames, dtype=torch.bool)
    for i, gold in enumerate(golds):
        named = gold.region_chain >= 0
        truth[i, gold.region_chain[named], gold.region_frame[named]] = 1
        if named.any():
            known[i, : gold.mentions.n_chains, : len(gold.annotated)] = gold.annotated
    return truth, known


def patch_owners(golds: Sequence[Gold], shape: Sequence[int], n_chains: int) -> Tensor:
    """Which chain each patch shows: (batch, frames, patches); `n_chains`: none; -1: unknown.

    It is known in annotated frames of documents whose regions have chains.
    """
    owner = torch.full((len(golds), *shape), -1)
    for i, gold in enumerate(golds):
        n_frames = len(gold.annotated)
        if not (gold.region_chain >= 0).any():
            continue
        near = nearest_regions(gold, n_frames, shape[1])
        chains = torch.cat([gold.region_chain, torch.tensor([-1])])  # -1: the last
        chain = torch.where(near < 0, -1, chains[near])
        owner[i, :n_frames] = torch.where(gold.annotated[:, None], torch.where(chain < 0, n_chains, chain), -1)
    return owner


def alignment_loss(logits: Tensor, owner: Tensor) -> Tensor:
    """The cross-entropy of the chains that patches show; patches with and without chains have equal weight.

    logits: (batch, frames, patches, chains + 1), owner: (batch, frames, patches), see `patch_owners`.
    """
    none = logits.shape[-1] - 1
    each = F.cross_entropy(logits.flatten(0, 2), owner.clamp(min=0).flatten(), reduction="none").view_as(owner)
    total = each.new_zeros(len(owner))
    for mask in ((owner >= 0) & (owner != none), owner == none):
        n = mask.sum((1, 2))
        total = total + (each * mask).sum((1, 2)) / n.clamp(min=1)
    return average(total, (owner >= 0).any(2).any(1))


def frames_loss(logits: Tensor, golds: Sequence[Gold], types: LabelIndex) -> Tensor:
    """The binary cross-entropy of the relations of the two chains that a frame shows.

    logits: (batch, frames, relation types). A frame of two chains counts for the types allowed between them.
    """
    found = zip(*(relations_in_frames(gold, types) for gold in golds), strict=True)
    target, counted = (pad(rows, logits.shape[1]).to(logits.device) for rows in found)
    each = (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * counted).sum(2)
    frames = counted.any(2).sum(1)
    return average(each.sum(1) / frames.clamp(min=1), frames > 0)


@once
def relations_in_frames(gold: Gold, types: LabelIndex) -> tuple[Tensor, Tensor]:
    """(the relations of the two chains that a frame shows, those allowed between them): (frames, types) each."""
    n_chains, n_frames = gold.mentions.n_chains, len(gold.annotated)
    named = gold.region_chain >= 0
    if not named.any() or "relation" in gold.unannotated:
        none = torch.zeros(n_frames, len(types.relations))
        return none, none.bool()
    shows = torch.zeros(n_frames, n_chains)
    shows[gold.region_frame[named], gold.region_chain[named]] = 1
    both = shows[:, :, None] * shows[:, None] * (1 - torch.eye(n_chains))  # (frames, chains, chains)
    kinds = gold.mentions.chain_type
    joins = types.joins[kinds[:, None], kinds[None]].float()
    related = relation_target(gold, n_chains, len(types.relations)).float()
    target = torch.einsum("fcd,cdt->ft", both, related).clamp(max=1)
    return target, torch.einsum("fcd,cdt->ft", both, joins) > 0


def average(values: Tensor, mask: Tensor, known: Tensor | None = None) -> Tensor:
    """The mean of `values` (documents,) where `mask` (and `known`, if given) is true; 0 if nowhere."""
    mask = mask if known is None else mask & known
    return (values * mask).sum() / mask.sum().clamp(min=1)


# --- regions ----------------------------------------------------------------------------------------------------------


def region_losses(
    types: Tensor, boxes: Tensor, golds: Sequence[Gold], weights: tuple[float, float], *, slots: int
) -> tuple[Tensor, Tensor]:
    """Eq. 22 and 23 over annotated frames: (type loss, box loss).

    types: (batch, frames, slots, types + 1), boxes: (batch, frames, slots, 4). Slots are matched to the gold of their
    frame by the cheapest assignment; patches (`slots` 0) predict the gold whose centre is near.
    """
    none, n_frames, n_slots = types.shape[-1] - 1, types.shape[1], types.shape[2]
    if not any(gold.annotated.any() for gold in golds):
        zero = types.new_zeros(())
        return zero, zero
    if slots:
        rows = zip(types.detach(), boxes.detach(), golds, [len(gold.annotated) for gold in golds], strict=True)
        found = [match_slots(kinds[:n], places[:n], gold) for kinds, places, gold, n in rows]
    else:
        found = [match_patches(gold, len(gold.annotated), n_slots, none) for gold in golds]
    wanted = pad([kinds for kinds, _ in found], n_frames, value=none).to(types.device)
    box = pad([places for _, places in found], n_frames).to(types.device)
    annotated = pad([gold.annotated for gold in golds], n_frames).to(types.device)
    counted = annotated[..., None].expand_as(wanted)
    shown = counted & (wanted != none)
    n_shown = shown.sum((1, 2)).clamp(min=1)
    nll = F.cross_entropy(types.flatten(0, 2), wanted.flatten(), reduction="none").view_as(wanted)
    if slots:
        no, yes = weights
        weighted = (nll * torch.where(wanted == none, no, yes) * counted).sum((1, 2))
        region = weighted / counted.sum((1, 2)).clamp(min=1)
        apart = (boxes - box).abs().mean(-1)
    else:
        region = (nll * (1 - (-nll).exp()) ** FOCUS * counted).sum((1, 2)) / n_shown
        apart = 4 * (boxes - box).abs().mean(-1) + 1 - generalized_iou(boxes, box)
    apart = (apart * shown).sum((1, 2)) / n_shown
    documents = annotated.any(1)
    return average(region, documents), average(apart, documents)


def match_slots(types: Tensor, boxes: Tensor, gold: Gold) -> tuple[Tensor, Tensor]:
    """The target of each slot of one document: types (frames, slots), boxes (frames, slots, 4).

    The cost of a pair is the distance of the boxes minus the probability of the gold type; slots without a partner
    have "none" as their target.
    """
    none = types.shape[-1] - 1
    wanted = torch.full(types.shape[:2], none)
    target = torch.zeros(*types.shape[:2], 4)
    probability = types.softmax(-1).cpu()
    placed = boxes.cpu()
    for frame in gold.region_frame.unique().tolist():
        own = (gold.region_frame == frame).nonzero()[:, 0]
        apart = (placed[frame][:, None] - gold.region_box[own][None]).abs().mean(-1)  # (slots, regions)
        cost = (apart - probability[frame][:, gold.region_type[own]]).nan_to_num()  # a loss that is none is reported
        rows, columns = linear_sum_assignment(cost.numpy())
        wanted[frame, rows] = gold.region_type[own[columns]]
        target[frame, rows] = gold.region_box[own[columns]]
    return wanted, target


def match_patches(gold: Gold, n_frames: int, n_patches: int, none: int) -> tuple[Tensor, Tensor]:
    """The target of each patch of one document: types (frames, patches), boxes (frames, patches, 4)."""
    near = nearest_regions(gold, n_frames, n_patches)
    kinds = torch.cat([gold.region_type, torch.tensor([none])])  # -1: the last
    return kinds[near], torch.cat([gold.region_box, torch.zeros(1, 4)])[near]


@once
def nearest_regions(gold: Gold, n_frames: int, n_patches: int) -> Tensor:
    """The region that each patch of one document predicts, -1 for none: (frames, patches).

    A patch predicts a region whose centre lies in it or in a neighbouring patch, if the patch's own centre lies in the
    region; of several the smallest.
    """
    grid = round(n_patches**0.5)
    centres = patch_centres(grid)
    found = torch.full((n_frames, n_patches), -1)
    middle, size = gold.region_box[:, :2], gold.region_box[:, 2:]
    apart = (centres[None] - middle[:, None]).abs()  # (regions, patches, 2)
    near = (apart <= 1 / grid).all(-1) & (apart <= size[:, None] / 2).all(-1)
    near |= (apart <= 0.5 / grid).all(-1)
    for region in size.prod(-1).argsort(descending=True).tolist():  # the smallest comes last and wins
        found[gold.region_frame[region], near[region]] = region
    return found


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union, minus the share of the hull that neither covers. Boxes (…, 4) as centre and size."""
    (low_a, high_a), (low_b, high_b) = corners(a), corners(b)
    both = (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp(min=0).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - both
    hull = (torch.maximum(high_a, high_b) - torch.minimum(low_a, low_b)).prod(-1)
    return both / union.clamp(min=1e-9) - (hull - union) / hull.clamp(min=1e-9)


def corners(box: Tensor) -> tuple[Tensor, Tensor]:
    """The top left and bottom right corners of boxes given as centre and size."""
    return box[..., :2] - box[..., 2:] / 2, box[..., :2] + box[..., 2:] / 2
