"""The choice of candidates for a record: one or none per frame, by the product of the decoder's states with the rows.

Among the rows of a frame (`rows.Rows`), the row of the frame itself means "none of its candidates". A share is a row's
probability in its frame (softmax); it is trained to match the candidates' overlaps with the gold regions, by KL
divergence (TIGER and H-Index, which have one picture and choose among all of its boxes).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pad_sequence

from m3dllm.systems.generative.boxes import Candidate
from m3dllm.systems.generative.queries import Encoded
from m3dllm.systems.generative.rows import Rows

Chosen = tuple[tuple[Candidate, ...], ...]
"""The chosen candidates of each record of an answer."""


class Seen(NamedTuple):
    """The rows of several queries, and their vectors, by which the decoder's states are multiplied."""

    rows: Rows
    vectors: Tensor
    """(queries, rows, width)."""


def log_shares(states: Tensor, query: Tensor, seen: Seen) -> Tensor:
    """States (records, width) and the query index of each -> log shares (records, rows); 0 on padding.

    s_r = h · v_r; share_r = exp(s_r) / sum of exp(s_q) over the rows q of r's frame.
    """
    frame, mask = seen.rows.frame[query], seen.rows.mask[query]
    scores = torch.einsum("nw,nrw->nr", states, seen.vectors[query]).float()
    scores = scores.masked_fill(~mask, -torch.inf)
    none = torch.zeros_like(scores)
    top = torch.full_like(scores, -torch.inf).scatter_reduce(1, frame, scores.detach(), "amax")  # by frame
    shifted = (scores - top.gather(1, frame)).masked_fill(~mask, -torch.inf)
    total = none.scatter_add(1, frame, shifted.exp())
    return (shifted - total.gather(1, frame).log()).masked_fill(~mask, 0.0)


def targets(items: Sequence[Encoded], query: Tensor, rows: Rows) -> Tensor:
    """The target shares (records, rows) of the records with regions, in the order of the queries.

    A frame's candidates get their overlaps, scaled to sum to 1; if none overlaps a region, the frame's own row gets 1.
    """
    frame, candidate, mask = rows.frame[query], rows.candidate[query], rows.mask[query]
    shown = [torch.tensor(overlaps) for one in items for overlaps in one.query.overlaps if overlaps is not None]
    overlap = pad_sequence([*shown, torch.zeros(candidate.shape[1])], batch_first=True)[:-1].to(frame.device)
    weight = overlap.gather(1, candidate.clamp(min=0)) * (mask & (candidate >= 0))
    total = torch.zeros_like(weight).scatter_add(1, frame, weight).gather(1, frame)
    alone = ((candidate < 0) & mask & (total == 0)).to(weight.dtype)
    return weight / total.masked_fill(total == 0, 1.0) + alone


def choice_loss(found: Tensor, gold: Tensor) -> Tensor:
    """The sum over records and frames of KL(gold || found); found: log shares, gold: shares."""
    return F.kl_div(found, gold, reduction="sum")


def choice_count(items: Iterable[Encoded]) -> int:
    """The number of terms of `choice_loss`: frames of records with regions."""
    return sum(len(one.query.frames) * sum(shown is not None for shown in one.query.overlaps) for one in items)


def best(found: Tensor, items: Sequence[Encoded], query: Tensor, rows: Rows) -> list[tuple[Candidate, ...]]:
    """For each record, the candidates with the greatest share of their frame."""
    frame, candidate, mask = rows.frame[query], rows.candidate[query], rows.mask[query]
    real = found.masked_fill(~mask, -torch.inf)
    top = torch.full_like(found, -torch.inf).scatter_reduce(1, frame, real, "amax").gather(1, frame)
    wins = (candidate >= 0) & mask & (real == top)
    chosen: list[list[Candidate]] = [[] for _ in range(len(query))]
    for record, row in wins.nonzero().tolist():
        chosen[record].append(items[int(query[record])].query.candidates[int(candidate[record, row])])
    return [tuple(candidates) for candidates in chosen]
