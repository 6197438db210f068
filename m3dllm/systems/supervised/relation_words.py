"""Relations from words alone: a logistic regression over the words of two chains, between them and around them.

Not in the paper: our presets average it with the relation head. It is fitted before the model, to the optimum, so that
few documents suffice; each feature is a word at a place, alone and together with the types of both chains.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor, nn

from m3dllm.progress import progress
from m3dllm.systems.supervised.data import Gold, Inputs, LabelIndex, Mentions, joinable, make_mention_batch
from m3dllm.systems.supervised.losses import relation_target
from m3dllm.systems.supervised.scorers import RARE, closest_mentions

Array = np.ndarray[Any, Any]

SLOTS = 2**14
"""The number of weights per relation type: features share them by their hash."""
DOCUMENTS = 2
"""The documents that must have a feature, for it to have a weight."""
SHARE = 2 / 3
"""The weight of its logits in the mean with those of the relation head; chosen over folds of M3D."""
PENALTY = 5.0
"""The weight of the squared weights in the loss, halved."""
STEPS = 200
"""The most iterations of the fit."""
MOST = 50_000
"""Pairs without a relation that the fit reads at most."""
FAR = 30
"""Words between two mentions are read if there are at most this many."""
NEAR = 3
"""The number of words read before the earlier mention and behind the later one."""
AT_ONCE = 2**12
"""Pairs whose features are in memory at once."""
HEAD, TAIL, BETWEEN, BEFORE, AFTER, DISTANCE, TYPES = range(0, 14, 2)
"""Where a word stands; the next number if the tail comes first."""


class RelationWords(nn.Module):
    """Logits of relations from words; all zero before `fit`."""

    weight: Tensor
    bias: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(SLOTS, classes))
        self.register_buffer("bias", torch.zeros(classes))

    def forward(self, inputs: Inputs, mentions: Mentions) -> Tensor:
        """The logits of the relations of a document: (chains, chains, types)."""
        n = mentions.n_chains
        pairs = np.stack(np.divmod(np.arange(n * n), max(n, 1)), 1)
        weight, bias = (part.double().cpu().numpy() for part in (self.weight, self.bias))
        found = [rows @ weight + bias for rows in features(inputs, mentions, pairs)]
        logits = np.concatenate(found or [np.zeros((0, len(bias)))]).reshape(n, n, len(bias))
        return torch.from_numpy(logits).to(self.weight)

    def fit(self, documents: Sequence[tuple[Inputs, Gold]], types: LabelIndex, weights: tuple[float, float]) -> None:
        """Learn from documents and their gold relations.

        `weights` of the classes no and yes, as in the loss of the relation head. Of more than `MOST` pairs, some
        without a relation are left out, and the others count for them.
        """
        pairs, wanted, allowed = [], [], []
        for _, gold in documents:
            joins = joinable(make_mention_batch([gold.mentions]), types.joins)[0].numpy()  # (chains, chains, types)
            target = relation_target(gold, gold.mentions.n_chains, len(types.relations)).numpy()
            pairs.append(np.argwhere(joins.any(-1)))
            wanted.append(target[tuple(pairs[-1].T)])
            allowed.append(joins[tuple(pairs[-1].T)])
        sizes = [len(own) for own in pairs]
        owners = np.repeat(np.arange(len(pairs)), sizes)
        if not len(owners) or not len(types.relations):
            return
        yes, known = np.concatenate(wanted), np.concatenate(allowed)
        related = yes.any(-1)
        share = min(1.0, MOST / max(1, (~related).sum()))
        kept = related | (np.random.default_rng(0).random(len(related)) < share)
        of_documents = np.split(kept, np.cumsum(sizes)[:-1])
        counts = np.where(yes, weights[1], weights[0]) * known * np.where(related, 1, 1 / share)[:, None]
        with progress("relations from words"):
            rows = [
                part
                for (inputs, gold), own, some in zip(documents, pairs, of_documents, strict=True)
                for part in features(inputs, gold.mentions, own[some])
            ]
            used, fitted = fit_weights(sparse.vstack(rows, format="csr"), yes[kept], counts[kept], owners[kept])
        self.weight[used] = torch.from_numpy(fitted[:-1]).to(self.weight)
        self.bias.copy_(torch.from_numpy(fitted[-1]))


def fit_weights(rows: sparse.csr_matrix, wanted: Array, counts: Array, owners: Array) -> tuple[Array, Array]:
    """(the features that have weights, their weights and last the bias: (features + 1, types)).

    rows: (pairs, slots); wanted: (pairs, types), booleans; counts: (pairs, types), how much each decision counts;
    owners: (pairs,), the document of each.
    """
    of_documents = sparse.csr_matrix((np.ones(len(owners)), (owners, np.arange(len(owners)))))
    used = np.flatnonzero(((of_documents @ rows) > 0).sum(0).A1 >= DOCUMENTS)
    some = rows[:, used]
    others = some.T.tocsr()
    shape = (len(used) + 1, wanted.shape[1])

    def loss(flat: Array) -> tuple[float, Array]:
        weight = flat.reshape(shape)
        logits = some @ weight[:-1] + weight[-1]
        each = np.logaddexp(0, logits) - wanted * logits
        miss = (expit(logits) - wanted) * counts
        down = np.concatenate([others @ miss + PENALTY * weight[:-1], miss.sum(0)[None]])
        return float((each * counts).sum() + PENALTY / 2 * (weight[:-1] ** 2).sum()), down.ravel()

    start = np.zeros(shape)
    start[-1] = RARE
    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": STEPS, "ftol": 1e-5})
    return used, found.x.reshape(shape)


# --- features ---------------------------------------------------------------------------------------------------------


def features(inputs: Inputs, mentions: Mentions, pairs: Array) -> Iterator[sparse.csr_matrix]:
    """The features of pairs of chains (pairs, 2), head and tail: zeros and ones, (some of the pairs, slots) each."""
    if not len(pairs):
        return
    text = inputs.document.text
    words = np.array([zlib.crc32(text[start:end].lower().encode()) for start, end in inputs.words], dtype=np.uint64)
    first, last, chain = mentions.first.numpy(), mentions.last.numpy(), mentions.chain.numpy()
    kinds = mentions.chain_type.numpy().astype(np.uint64)
    closest = [part[0].numpy() for part in closest_mentions(make_mention_batch([mentions]))]
    starts, terms = chain_terms(words, first, last, chain, len(kinds))
    sizes = np.diff(starts)
    for at in range(0, len(pairs), AT_ONCE):
        head, tail = pairs[at : at + AT_ONCE].T
        one, other = (part[head, tail] for part in closest)
        turned = first[one] > first[other]
        early, late = np.where(turned, other, one), np.where(turned, one, other)
        gap = first[late] - last[early] - 1
        before, after = np.maximum(first[early] - NEAR, 0), np.minimum(last[late] + 1 + NEAR, len(words))
        found = [
            (HEAD, *runs(starts[head], sizes[head], terms)),
            (TAIL, *runs(starts[tail], sizes[tail], terms)),
            (BETWEEN, *runs(last[early] + 1, np.where(gap <= FAR, gap, 0), words)),
            (BEFORE, *runs(before, first[early] - before, words)),
            (AFTER, *runs(last[late] + 1, after - last[late] - 1, words)),
            (DISTANCE, np.arange(len(head)), np.log2(np.maximum(gap, 0) + 1).astype(np.uint64)),
            (TYPES, np.arange(len(head)), np.zeros(len(head), np.uint64)),
        ]
        row = np.concatenate([rows for _, rows, _ in found])
        term = np.concatenate([own for _, _, own in found])
        place = np.concatenate([np.full(len(rows), kind, np.uint64) for kind, rows, _ in found])
        place += turned[row] * (place > TAIL)
        both = (1 + kinds[head] * np.uint64(2**16) + kinds[tail])[row]
        slots = np.concatenate([hashed(term, place, np.zeros_like(both)), hashed(term, place, both)])
        rows = sparse.csr_matrix((np.ones(len(slots)), (np.tile(row, 2), slots)), shape=(len(head), SLOTS))
        rows.data[:] = 1  # a word that stands there twice counts once
        yield rows


def chain_terms(words: Array, first: Array, last: Array, chain: Array, n_chains: int) -> tuple[Array, Array]:
    """(where the terms of each chain begin, (chains + 1,); the terms): its mentions' words, and pairs of neighbours."""
    mention, word = runs(first, last - first + 1, words)
    left, pair = runs(first, last - first, hashed(words[:-1], words[1:], np.zeros_like(words[1:]), 2**32))
    both = np.concatenate([chain[mention], chain[left]]).astype(np.uint64) << np.uint64(32)
    unique: Array = np.unique(both | np.concatenate([word, pair]))
    return np.searchsorted(unique >> np.uint64(32), np.arange(n_chains + 1)), unique & np.uint64(2**32 - 1)


def runs(starts: Array, sizes: Array, values: Array) -> tuple[Array, Array]:
    """(row, value) of `sizes` (rows,) values from `starts` (rows,) on; nothing where a size is below 1."""
    sizes = np.maximum(sizes, 0)
    row = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return row, values[starts[row] + place]


def hashed(one: Array, two: Array, three: Array, size: int = SLOTS) -> Array:
    """A number below `size` for each row of three."""
    mixed: Array = (
        one * np.uint64(0x9E3779B97F4A7C15)
        + two * np.uint64(0xC2B2AE3D27D4EB4F)
        + three * np.uint64(0x165667B19E3779F9)
    )
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    slots: Array = (mixed ^ (mixed >> np.uint64(29))) % np.uint64(size)
    return slots
