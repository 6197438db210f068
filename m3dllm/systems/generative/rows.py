"""The visual input beside a query: a row for each frame, and one for each candidate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from m3dllm.systems.generative.queries import QueryBatch
from m3dllm.systems.supervised.data import pad, row_mask


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of several queries: frames first, then candidates. A query without any has one row of zeros."""

    features: Tensor
    """(queries, rows, width): the mean of a frame's patches, or of a candidate's patches, weighted by coverage."""
    boxes: Tensor
    """(queries, rows, 5): corners and area, as fractions of the frame."""
    frame: Tensor
    """(queries, rows): the index of the frame among those of the query."""
    candidate: Tensor
    """(queries, rows): the index of the candidate, -1 for a frame."""
    mask: Tensor
    """(queries, rows)."""


def rows_of(batch: QueryBatch, scene: Tensor) -> Rows:
    """The rows of a batch of queries; scene: (documents, frames, patches, width)."""
    device, grid = scene.device, round(scene.shape[2] ** 0.5)
    queries = [one.query for one in batch.items]
    n_frames, n_boxes = (max(len(getattr(q, name)) for q in queries) for name in ("frames", "candidates"))
    frames = pad([torch.tensor(q.frames, dtype=torch.long) for q in queries], n_frames).to(device)
    shown = pad([torch.tensor([c.frame for c in q.candidates], dtype=torch.long) for q in queries], n_boxes).to(device)
    boxes = torch.zeros(len(queries), n_boxes, 4)
    for i, query in enumerate(queries):
        boxes[i, : len(query.candidates)] = torch.tensor([list(c.box) for c in query.candidates]).reshape(-1, 4)
    boxes = boxes.to(device)
    frame_mask, box_mask = (
        row_mask([len(getattr(q, name)) for q in queries], n).to(device)
        for name, n in (("frames", n_frames), ("candidates", n_boxes))
    )
    document = batch.document[:, None]
    whole = scene.mean(2)[document, frames] if n_frames else scene.new_zeros(len(queries), 0, scene.shape[3])
    covered = whole[:, :0]
    if n_boxes:
        covered = _covered(document * scene.shape[1] + shown, cover(boxes, grid).to(scene.dtype), scene, box_mask)
    full = torch.tensor([0.0, 0.0, 1.0, 1.0], device=device).expand(len(queries), n_frames, 4)
    corners = torch.cat([full, boxes], 1)
    area = (corners[..., 2:] - corners[..., :2]).prod(-1, keepdim=True)
    order = torch.arange(n_frames, device=device).expand(len(queries), -1)
    of_box = ((shown[:, :, None] == frames[:, None, :]) & frame_mask[:, None, :]).int()
    in_order = of_box.argmax(2) if n_frames else torch.zeros_like(shown)
    candidate = torch.arange(n_boxes, device=device).expand(len(queries), -1)
    mask = torch.cat([frame_mask, box_mask], 1)
    rows = Rows(
        torch.cat([whole, covered], 1) * mask[..., None],
        torch.cat([corners, area], 2) * mask[..., None],
        torch.cat([order, in_order], 1),
        torch.cat([torch.full_like(frames, -1), candidate], 1),
        mask,
    )
    return _never_none(rows)


def _covered(place: Tensor, shares: Tensor, scene: Tensor, mask: Tensor) -> Tensor:
    """The mean of a frame's patches under each candidate, without a copy of the patches for each of them.

    place and mask: (queries, candidates), the index of its frame among those of all documents;
    shares: (queries, candidates, patches) -> (queries, candidates, width)
    """
    frames = scene.flatten(0, 1)
    covered = scene.new_zeros(*place.shape, scene.shape[3])
    for frame in place[mask].unique().tolist():
        here = mask & (place == frame)
        covered[here] = shares[here] @ frames[frame]
    return covered


def cover(boxes: Tensor, grid: int) -> Tensor:
    """The share of a box in each patch: (…, 4) -> (…, grid * grid), which sums to 1 (0 for an empty box)."""
    edges = torch.linspace(0, 1, grid + 1, device=boxes.device)
    low, high = edges[:-1], edges[1:]
    across = (torch.minimum(high, boxes[..., 2:3]) - torch.maximum(low, boxes[..., 0:1])).clamp(min=0)
    down = (torch.minimum(high, boxes[..., 3:4]) - torch.maximum(low, boxes[..., 1:2])).clamp(min=0)
    shared = (down[..., :, None] * across[..., None, :]).flatten(-2)
    return shared / shared.sum(-1, keepdim=True).clamp(min=1e-9)


def _never_none(rows: Rows) -> Rows:
    """The rows, with a row of zeros for queries that would have none."""
    lacking = ~rows.mask.any(1, keepdim=True)
    if not lacking.any():
        return rows

    def longer(x: Tensor) -> Tensor:
        return torch.cat([x, torch.zeros_like(x[:, :1]) if x.shape[1] else x.new_zeros(len(x), 1, *x.shape[2:])], 1)

    candidate = torch.cat([rows.candidate, rows.candidate.new_full((len(lacking), 1), -1)], 1)
    return Rows(
        longer(rows.features), longer(rows.boxes), longer(rows.frame), candidate, torch.cat([rows.mask, lacking], 1)
    )
