"""Logits of tags, chains, relations and regions from the states (eq. 15 to 18), for all pairs at once.

With `pair_size` 0 and no `lexical` the pair heads are the bilinear forms of the paper, d_h x d_h weights per class;
otherwise smaller forms are combined with features of the mentions' texts (`pairs`) and the words between them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from m3dllm.rng import Dropout, rand
from m3dllm.systems.supervised.crf import CRF
from m3dllm.systems.supervised.data import MentionBatch
from m3dllm.systems.supervised.pairs import N_FEATURES

RARE = -3.0
"""The initial logit of every relation: few pairs have one, and the first steps need not find that out."""


class Tagger(nn.Module):
    """BIO tags of the words by a linear layer and a CRF (eq. 15)."""

    def __init__(self, hidden: int, n_types: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.emit = nn.Linear(hidden, 1 + 2 * n_types)
        self.crf = CRF(n_types)

    def forward(self, words: Tensor) -> Tensor:
        """(batch, words, hidden) -> emissions (batch, words, tags)."""
        emissions: Tensor = self.emit(self.dropout(words))
        return emissions


class Bilinear(nn.Module):
    """x W_c y for every x, every y and every class c, at once.

    x: (batch, n, hidden), y: (batch, m, hidden) -> (batch, n, m, classes).
    """

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, hidden, hidden) / hidden)
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        left = torch.einsum("bnd,cde->bnce", x, self.weight)
        return torch.einsum("bnce,bme->bnmc", left, y) + self.bias

    def paired(self, x: Tensor, y: Tensor) -> Tensor:
        """Each x with the y of the same row: (rows, hidden) each -> (rows, classes)."""
        return torch.einsum("nce,ne->nc", torch.einsum("nd,cde->nce", x, self.weight), y) + self.bias


def span_means(words: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """The average of each mention's words. words: (batch, words, hidden); first, last: (batch, mentions)."""
    place = torch.arange(words.shape[1], device=words.device)
    inside = (place >= first[..., None]) & (place <= last[..., None])  # (batch, mentions, words)
    share = inside.to(words.dtype) / inside.sum(-1, keepdim=True).clamp(min=1)
    return share @ words


def between_means(words: Tensor, one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """The average of the words between two mentions, 0 if there are none.

    `one` and `other` are the first and last words of the two: (batch, n, m) each, or what broadcasts to that ->
    (batch, n, m, hidden).
    """
    sums = nn.functional.pad(words.float().cumsum(1), (0, 0, 1, 0))  # sums[i]: the first i words
    start, stop = torch.minimum(one[1], other[1]) + 1, torch.maximum(one[0], other[0])
    length = (stop - start).clamp(min=0)
    rows = torch.arange(len(words), device=words.device)[:, None, None]
    total = sums[rows, torch.maximum(start, stop)] - sums[rows, start]
    return (total / length.clamp(min=1)[..., None]).to(words.dtype)


def chain_means(vectors: Tensor, mentions: MentionBatch) -> Tensor:
    """The average of each chain's mentions. vectors: (batch, mentions, hidden) -> (batch, chains, hidden)."""
    number = torch.arange(mentions.chain_type.shape[1], device=vectors.device)
    inside = (mentions.chain[:, None, :] == number[None, :, None]) & mentions.mask[:, None, :]
    share = inside.to(vectors.dtype) / inside.sum(-1, keepdim=True).clamp(min=1)
    return share @ vectors


def closest_mentions(mentions: MentionBatch) -> tuple[Tensor, Tensor]:
    """The closest mentions of each pair of chains, by the words between them; of equally close ones the earliest.

    -> (the mentions of the first chain, those of the second), (batch, chains, chains) each: indices of mentions.
    """
    batch, n = mentions.mask.shape
    n_chains = mentions.chain_type.shape[1] + 1  # the last collects padding
    first, last = mentions.first, mentions.last
    gap = torch.maximum(first[:, :, None], first[:, None, :]) - torch.minimum(last[:, :, None], last[:, None, :])
    gap = gap - gap.amin((1, 2), keepdim=True)
    key = gap.flatten(1) * n * n + torch.arange(n * n, device=gap.device)
    index = mentions.chain[:, :, None] * n_chains + mentions.chain[:, None, :]
    out = key.new_zeros(batch, n_chains * n_chains)
    out = out.scatter_reduce(1, index.flatten(1), key, "amin", include_self=False)
    pair = out.unflatten(1, (n_chains, n_chains))[:, :-1, :-1] % max(n * n, 1)
    return pair // max(n, 1), pair % max(n, 1)


class Pairs(nn.Module):
    """The base of vectors for pairs: of the two sides, features of their texts, and the words between them."""

    def __init__(self, side: int, between: int, size: int, n_types: int, dropout: float) -> None:
        """`side` and `between`: the widths of what describes a mention, and of a word between two."""
        super().__init__()
        self.types = nn.Embedding(n_types, size)
        self.left = nn.Linear(side, size)
        self.right = nn.Linear(side, size)
        self.between = nn.Linear(between, size, bias=False)
        self.texts = nn.Sequential(nn.Linear(N_FEATURES, size), nn.GELU(), nn.Linear(size, size, bias=False))
        self.mlp = nn.Sequential(nn.GELU(), Dropout(dropout), nn.Linear(size, size), nn.GELU())

    def sides(self, full: Tensor, mentions: MentionBatch) -> tuple[Tensor, Tensor]:
        """Each mention as the first and as the second of a pair: (batch, mentions, size) each."""
        kind = self.types(mentions.type)
        return self.left(full) + kind, self.right(full) + kind.roll(1, -1)


class MentionPairs(Pairs):
    """A vector for every pair of mentions -> (batch, mentions, mentions, size)."""

    def __init__(self, hidden: int, size: int, n_types: int, dropout: float) -> None:
        super().__init__(3 * hidden, hidden, size, n_types, dropout)

    def forward(self, words: Tensor, mentions: MentionBatch) -> Tensor:
        first, last = mentions.first, mentions.last
        rows = torch.arange(len(words), device=words.device)[:, None]
        full = torch.cat([words[rows, first], words[rows, last], span_means(words, first, last)], -1)
        left, right = self.sides(full, mentions)
        between = between_means(  # as projecting later, but cheaper
            self.between(words), (first[:, :, None], last[:, :, None]), (first[:, None, :], last[:, None, :])
        )
        joined: Tensor = self.mlp(left[:, :, None] + right[:, None, :] + between + self.texts(mentions.pairs))
        return joined


class ChainPairs(Pairs):
    """A vector for every pair of chains: that of their closest mentions, with the means of both chains.

    (batch, words, n · hidden), vectors of n kinds -> (batch, chains, chains, size). Each kind is normalized by itself,
    as layers of an encoder differ in scale.
    """

    def __init__(self, hidden: int, size: int, n_types: int, dropout: float, *, kinds: int) -> None:
        width = kinds * hidden
        super().__init__(4 * width, width, size, n_types, dropout)
        self.hidden = hidden

    def forward(self, words: Tensor, mentions: MentionBatch) -> Tensor:
        first, last = mentions.first, mentions.last
        words = nn.functional.layer_norm(words.unflatten(-1, (-1, self.hidden)), (self.hidden,)).flatten(-2)
        rows = torch.arange(len(words), device=words.device)[:, None]
        mean = span_means(words, first, last)
        chains = nn.functional.pad(chain_means(mean, mentions), (0, 0, 0, 1))  # the last: of padding
        whole = chains[rows, mentions.chain.clamp(max=chains.shape[1] - 1)]
        left, right = self.sides(torch.cat([words[rows, first], words[rows, last], mean, whole], -1), mentions)
        row = rows[..., None]
        one, other = closest_mentions(mentions)
        between = between_means(
            self.between(words), (first[row, one], last[row, one]), (first[row, other], last[row, other])
        )
        texts = self.texts(mentions.pairs[row, one, other])
        joined: Tensor = self.mlp(left[row, one] + right[row, other] + between + texts)
        return joined


class TextPairs(nn.Module):
    """A vector for every pair of mentions, from texts and types only -> (batch, mentions, mentions, size)."""

    def __init__(self, size: int, n_types: int, dropout: float) -> None:
        super().__init__()
        self.read = nn.Linear(N_FEATURES, size)
        self.types = nn.Embedding(n_types, 2 * size)
        self.mlp = nn.Sequential(nn.GELU(), Dropout(dropout), nn.Linear(size, size), nn.GELU())

    def forward(self, mentions: MentionBatch) -> Tensor:
        left, right = self.types(mentions.type).chunk(2, -1)
        joined: Tensor = self.mlp(self.read(mentions.pairs) + left[:, :, None] + right[:, None, :])
        return joined


class PairScorer(nn.Module, ABC):
    """The base of both pair scorers: vectors of sampled pairs, and the classification of (mixed) vectors.

    The vector of a pair concatenates the vectors of its two sides and, with `lexical`, those of its texts.
    """

    shrink: nn.ModuleList | None
    bilinear: Bilinear
    dropout: Dropout

    @abstractmethod
    def of_texts(self, words: Tensor, mentions: MentionBatch) -> list[Tensor]:
        """The text vectors of all pairs: (batch, n, n, size) each."""

    @property
    @abstractmethod
    def decisions(self) -> list[nn.Linear]:
        """The classifier of each of `of_texts`."""

    def width(self, hidden: int) -> int:
        """The width of a pair's vector."""
        return 2 * hidden + sum(layer.in_features for layer in self.decisions)

    def pair_vectors(self, words: Tensor, vectors: Tensor, mentions: MentionBatch, at: Tensor) -> Tensor:
        """(rows, width): the pairs `at` (rows, 3): document index, and indices of the two sides in `vectors`."""
        row, left, right = at.unbind(1)
        vectors = self.dropout(vectors)
        texts = [part[row, left, right] for part in self.of_texts(words, mentions)]
        return torch.cat([vectors[row, left], vectors[row, right], *texts], -1)

    def classify(self, pairs: Tensor) -> Tensor:
        """(rows, width) -> (rows, classes)."""
        sizes = [layer.in_features for layer in self.decisions]
        hidden = (pairs.shape[1] - sum(sizes)) // 2
        left, right, *texts = pairs.split([hidden, hidden, *sizes], 1)
        logits = self.bilinear.paired(*self._shrunk(left, right))
        for layer, part in zip(self.decisions, texts, strict=True):
            logits = logits + layer(part)
        return logits

    def _shrunk(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        if self.shrink is None:
            return left, right
        first, second = self.shrink
        return first(left), second(right)


class ChainScorer(PairScorer):
    """Whether two mentions corefer (eq. 16): (batch, mentions, mentions, 2), the second class for yes.

    Vectors memorize names, so that the features of texts would stay untrained. Therefore, with `lexical`, vectors only
    add to them, and in training a document is scored without vectors with probability `text_alone`.
    """

    def __init__(
        self, hidden: int, *, size: int, lexical: bool, n_types: int, dropout: float, text_alone: float = 0.0
    ) -> None:
        super().__init__()
        self.text_alone = text_alone
        self.texts = TextPairs(size or hidden, n_types, dropout) if lexical else None
        self.decide_texts = nn.Linear(size or hidden, 2) if lexical else None
        self.shrink = nn.ModuleList(nn.Linear(hidden, size) for _ in range(2)) if size else None
        self.bilinear = Bilinear(size or hidden, 2)
        self.dropout = Dropout(dropout)
        self.pairs = MentionPairs(hidden, size or hidden, n_types, dropout) if lexical else None
        self.decide = nn.Linear(size or hidden, 2) if lexical else None

    def forward(self, words: Tensor, vectors: Tensor, mentions: MentionBatch) -> Tensor:
        """`vectors` are those of the mentions: (batch, mentions, hidden)."""
        vectors = self.dropout(vectors)
        logits: Tensor = self.bilinear(*self._shrunk(vectors, vectors))
        if self.pairs is None or self.decide is None or self.texts is None or self.decide_texts is None:
            return logits
        logits = logits + self.decide(self.pairs(words, mentions))
        if self.training:
            logits = logits * (rand((len(words), 1, 1, 1), words.device) >= self.text_alone)
        return logits + self.decide_texts(self.texts(mentions))

    def of_texts(self, words: Tensor, mentions: MentionBatch) -> list[Tensor]:
        if self.pairs is None or self.texts is None:
            return []
        return [self.pairs(words, mentions), self.texts(mentions)]

    @property
    def decisions(self) -> list[nn.Linear]:
        return [layer for layer in (self.decide, self.decide_texts) if layer is not None]


class RelationScorer(PairScorer):
    """Relations between chains (eq. 17): (batch, chains, chains, classes), head by row and tail by column."""

    def __init__(
        self, hidden: int, classes: int, *, size: int, lexical: bool, n_types: int, dropout: float, kinds: int = 1
    ) -> None:
        """`kinds` of vectors describe a word, see `ChainPairs`."""
        super().__init__()
        self.shrink = nn.ModuleList(nn.Linear(hidden, size) for _ in range(2)) if size else None
        self.bilinear = Bilinear(size or hidden, classes)
        self.dropout = Dropout(dropout)
        self.pairs = ChainPairs(hidden, size or hidden, n_types, dropout, kinds=kinds) if lexical else None
        self.decide = nn.Linear(size or hidden, classes) if lexical else None
        if self.decide is not None:
            nn.init.constant_(self.decide.bias, RARE)

    def forward(self, words: Tensor, vectors: Tensor, mentions: MentionBatch) -> Tensor:
        """`vectors` are those of the chains: (batch, chains, hidden)."""
        vectors = self.dropout(vectors)
        logits: Tensor = self.bilinear(*self._shrunk(vectors, vectors))
        for layer, texts in zip(self.decisions, self.of_texts(words, mentions), strict=True):
            logits = logits + layer(texts)
        return logits

    def of_texts(self, words: Tensor, mentions: MentionBatch) -> list[Tensor]:
        return [] if self.pairs is None else [self.pairs(words, mentions)]

    @property
    def decisions(self) -> list[nn.Linear]:
        return [] if self.decide is None else [self.decide]


class SlotScorer(nn.Module):
    """Types and boxes from a frame's vector (eq. 18), `slots` of them; the last type is "none".

    frames: (batch, frames, hidden) -> types (batch, frames, slots, types + 1), boxes (…, slots, 4) as centre and size.
    """

    def __init__(self, hidden: int, slots: int, n_types: int) -> None:
        super().__init__()
        self.slots = slots
        self.kind = nn.Linear(hidden, slots * (n_types + 1))
        self.box = nn.Linear(hidden, slots * 4)

    def forward(self, patches: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """`patches` are not used."""
        types = self.kind(frames).unflatten(-1, (self.slots, -1))
        boxes = self.box(frames).unflatten(-1, (self.slots, 4)).sigmoid()
        return types, boxes


class PatchScorer(nn.Module):
    """Types and boxes from each patch and its frame's vector; a patch predicts a region whose centre is near.

    patches: (batch, frames, patches, hidden), frames: (batch, frames, hidden) -> as `SlotScorer`, one slot per patch.
    """

    centres: Tensor

    def __init__(self, hidden: int, grid: int, n_types: int) -> None:
        super().__init__()
        self.grid = grid
        self.join = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.GELU())
        self.kind = nn.Linear(hidden, n_types + 1)
        self.box = nn.Linear(hidden, 4)
        bias = torch.zeros(n_types + 1)
        bias[-1] = 4.0  # nearly every patch shows nothing
        self.kind.bias = nn.Parameter(bias)
        self.register_buffer("centres", patch_centres(grid), persistent=False)

    def forward(self, patches: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.join(torch.cat([patches, frames[:, :, None].expand_as(patches)], -1))
        raw = self.box(seen)
        centre = self.centres + 2 / self.grid * raw[..., :2].tanh()
        return self.kind(seen), torch.cat([centre, raw[..., 2:].sigmoid()], -1)


def patch_centres(grid: int) -> Tensor:
    """(patches, 2): x and y of the centres of a grid's patches, row by row, as fractions."""
    place = (torch.arange(grid) + 0.5) / grid
    y, x = torch.meshgrid(place, place, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)
