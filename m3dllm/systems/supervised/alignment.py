"""Alignment of chains with frames, and the relations of two chains that a frame shows together.

Not in the paper: our presets add it to eq. 17, because a relation that only a frame shows concerns the two entities in
that frame, which the fused vectors, averages over many patches, do not distinguish.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from m3dllm.rng import Dropout
from m3dllm.systems.supervised.data import MentionBatch
from m3dllm.systems.supervised.scorers import span_means

NEVER = -1e4
"""The logit of what is impossible."""
LEAST = 1e-6
"""The least probability that a frame shows a chain: squared still above 0, whose logarithm has no gradient."""


class ContextAttention(nn.Module):
    """The context of a mention: attention to the words outside of mentions, biased towards near ones.

    words: (batch, words, hidden) -> (batch, mentions, hidden). The looks of an entity are in its context, not in its
    name, which the model would memorize.
    """

    slopes = (0.03, 0.06, 0.12, 0.25)
    """The attention bias per word of distance, by head."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.query, self.key = (nn.Linear(hidden, hidden, bias=False) for _ in range(2))
        self.value = nn.Linear(hidden, hidden)

    def forward(self, words: Tensor, word_mask: Tensor, mentions: MentionBatch) -> Tensor:
        n_heads = len(self.slopes)
        query = self.query(span_means(words, mentions.first, mentions.last))
        parts = (query, self.key(words), self.value(words))
        q, k, v = (part.unflatten(2, (n_heads, -1)).transpose(1, 2) for part in parts)
        place = torch.arange(words.shape[1], device=words.device)
        before, after = mentions.first[..., None] - place, place - mentions.last[..., None]
        far = torch.maximum(before, after)  # (batch, mentions, words)
        named = ((far <= 0) & mentions.mask[..., None]).any(1)  # (batch, words)
        slopes = torch.tensor(self.slopes, device=words.device, dtype=words.dtype)[:, None, None]
        bias = (-slopes * far.clamp(min=0)[:, None]).masked_fill(named[:, None, None], NEVER)
        bias = bias.masked_fill(~word_mask[:, None, None], 2 * NEVER)  # never the padding, even if all words are named
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return mixed.transpose(1, 2).flatten(2)


class Alignment(nn.Module):
    """Which chain a patch shows: (batch, frames, patches, chains + 1), the last class for none.

    The score of a chain for a patch is that of its best mention, by type and context.
    """

    def __init__(self, hidden: int, size: int, n_types: int, dropout: float) -> None:
        super().__init__()
        self.context = ContextAttention(hidden)
        self.types = nn.Embedding(n_types, size)
        self.query = nn.Linear(hidden, size)
        self.key = nn.Linear(hidden, size)
        self.nothing = nn.Linear(hidden, 1)
        self.dropout = Dropout(dropout)
        nn.init.constant_(self.nothing.bias, 2.0)  # most patches show none of the chains

    def forward(self, words: Tensor, word_mask: Tensor, patches: Tensor, mentions: MentionBatch) -> Tensor:
        context = self.dropout(self.context(words, word_mask, mentions))
        query = self.query(context) + self.types(mentions.type)  # (batch, mentions, size)
        match = torch.einsum("bms,bfps->bmfp", query, self.key(self.dropout(patches))) / query.shape[2] ** 0.5
        n_chains = mentions.chain_type.shape[1]
        index = mentions.chain[..., None, None].expand_as(match)
        best = match.new_full((len(match), n_chains + 1, *match.shape[2:]), NEVER)  # the last collects padding
        best = best.scatter_reduce(1, index, match, "amax", include_self=False)[:, :-1]
        best = best.masked_fill(~mentions.chain_mask[..., None, None], NEVER)
        return torch.cat([best.permute(0, 2, 3, 1), self.nothing(patches)], -1)


def shown(logits: Tensor) -> Tensor:
    """The probability that a frame shows a chain: the maximum over its patches. -> (batch, chains, frames)."""
    return logits.softmax(-1)[..., :-1].amax(2).transpose(1, 2)


class FrameRelations(nn.Module):
    """Logits of the relations of the two chains that a frame shows: (batch, frames, relation types).

    patches: (batch, frames, patches, hidden).
    """

    def __init__(self, hidden: int, size: int, n_types: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(hidden, size)
        self.mlp = nn.Sequential(nn.Linear(size, size), nn.GELU(), Dropout(dropout), nn.Linear(size, n_types))

    def forward(self, patches: Tensor) -> Tensor:
        logits: Tensor = self.mlp(nn.functional.gelu(self.project(patches)).amax(2))
        return logits


def with_frames(logits: Tensor, of_frames: Tensor, shows: Tensor) -> Tensor:
    """Relation logits of text and frames: the odds of the text and of every frame, summed.

    logits: (batch, chains, chains, classes) of the text, of_frames: (batch, frames, types), shows: (batch, chains,
    frames), the probability that a frame shows a chain. A frame counts for a pair by the probability that it shows
    both; it adds nothing to the class "none" after the types.
    """
    n_types = of_frames.shape[2]
    if not of_frames.shape[1] or not n_types:
        return logits
    shows, top = shows.float().clamp(min=LEAST), of_frames.float().amax(1)  # (batch, types)
    odds = (of_frames.float() - top[:, None]).exp()
    with torch.autocast(logits.device.type, enabled=False):
        both = (shows[:, :, None] * shows[:, None]).flatten(1, 2)  # (batch, chains * chains, frames)
        total = (both @ odds).unflatten(1, (shows.shape[1], -1)).log() + top[:, None, None]
    return torch.cat([torch.logaddexp(logits[..., :n_types], total), logits[..., n_types:]], -1)
