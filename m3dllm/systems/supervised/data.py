"""Documents, mentions and gold as tensors, and padded batches of them with masks.

`Inputs` is one document, `Mentions` its mentions (gold, given or predicted), `Gold` its gold; `Batch` and
`MentionBatch` are batches of them. Nothing here is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from m3dllm.labels import LabelSet
from m3dllm.systems.supervised.pairs import pair_features
from m3dllm.systems.supervised.text import Subwords
from m3dllm.tokens import tokenize
from m3dllm.types import Annotation, Chain, Document, Frame, Task

T = TypeVar("T")
P = ParamSpec("P")
Span = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)  # a cache key, see `once`
class LabelIndex:
    """The label set by index: mention, relation and region types in order."""

    labels: LabelSet
    mentions: Mapping[str, int]
    relations: Mapping[str, int]
    regions: Mapping[str, int]
    joins: Tensor
    """(mention types, mention types, relation types), booleans: the relation types allowed from head to tail."""
    symmetric: Tensor
    """(relation types,), booleans."""

    @classmethod
    def of(cls, labels: LabelSet) -> LabelIndex:
        numbers = [
            {label.name: i for i, label in enumerate(kind)}
            for kind in (labels.mentions, labels.relations, labels.regions)
        ]
        joins = [
            [[relation.joins(head.name, tail.name) for relation in labels.relations] for tail in labels.mentions]
            for head in labels.mentions
        ]
        shape = (len(labels.mentions), len(labels.mentions), len(labels.relations))
        return cls(
            labels,
            numbers[0],
            numbers[1],
            numbers[2],
            joins=torch.tensor(joins, dtype=torch.bool).reshape(shape),
            symmetric=torch.tensor([label.symmetric for label in labels.relations], dtype=torch.bool),
        )


# --- one document -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Inputs:
    """One document: the offsets of its words, their subwords, and its frames."""

    document: Document
    words: tuple[Span, ...]
    subwords: Subwords
    frames: tuple[Frame, ...]
    lexical: bool = True
    """Whether something reads the texts of its mentions."""

    def without_text(self) -> Inputs:
        return replace(self, words=(), subwords=self.subwords.none())

    def without_frames(self) -> Inputs:
        return replace(self, frames=())


def words_of(document: Document) -> tuple[tuple[Span, ...], list[str]]:
    """The document's words: offsets and texts."""
    spans = tokenize(document)
    return spans, [document.text[start:end] for start, end in spans]


@dataclass(frozen=True, slots=True)
class Mentions:
    """The mentions of one document, in document order, and their chains."""

    spans: tuple[Span, ...]
    first: Tensor
    """(mentions,): the first word of each."""
    last: Tensor
    """(mentions,): its last word."""
    type: Tensor
    """(mentions,): the index of its type."""
    chain: Tensor
    """(mentions,): the index of its chain."""
    chain_type: Tensor
    """(chains,): each chain's type."""
    pairs: Tensor
    """(mentions, mentions, features): features of the two texts, see `pairs`; no feature if nothing reads them."""
    confidence: tuple[float | None, ...] = ()
    """The confidence of each mention, if predicted."""
    link: tuple[float | None, ...] = ()
    """The confidence of each mention's link to those before it in its chain, if chains are predicted."""

    def __len__(self) -> int:
        return len(self.spans)

    @property
    def n_chains(self) -> int:
        return len(self.chain_type)

    def none(self) -> Mentions:
        """The same without mentions."""
        cut = {f.name: getattr(self, f.name)[:0] for f in fields(self)}
        return Mentions(**cut | {"pairs": self.pairs[:0, :0]})


def mentions_of(inputs: Inputs, chains: Sequence[Chain], types: LabelIndex) -> Mentions:
    """The mentions of `chains` in document order. Raises ValueError for a type that the label set does not have."""
    found = sorted((m.span, m.type, c, m.confidence) for c, chain in enumerate(chains) for m in chain.mentions)
    for _, kind, _, _ in found:
        if kind not in types.mentions:
            raise ValueError(f"mention type {kind!r} is not in the label set of the model")
    spans = tuple(span for span, _, _, _ in found)
    first, last = word_ranges(inputs.words, spans)
    kinds = np.array([types.mentions[kind] for _, kind, _, _ in found], dtype=np.int64)
    pairs = np.zeros((len(spans), len(spans), 0), dtype=np.float32)
    if inputs.lexical:
        pairs = pair_features(inputs.document, inputs.words, spans, first, last, kinds)
    return Mentions(
        spans,
        torch.from_numpy(first),
        torch.from_numpy(last),
        torch.from_numpy(kinds),
        torch.tensor([c for _, _, c, _ in found], dtype=torch.long),
        torch.tensor([types.mentions[chain.type] for chain in chains], dtype=torch.long),
        torch.from_numpy(pairs),
        tuple(confidence for _, _, _, confidence in found),
    )


def word_ranges(words: Sequence[Span], spans: Sequence[Span]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The first and last word that each span touches; the nearest word if it touches none."""
    starts = np.array([start for start, _ in words], dtype=np.int64)
    ends = np.array([end for _, end in words], dtype=np.int64)
    edges = np.array(spans, dtype=np.int64).reshape(-1, 2)
    first = np.searchsorted(ends, edges[:, 0], side="right").clip(max=len(words) - 1)
    last = np.searchsorted(starts, edges[:, 1], side="left") - 1
    return first, np.maximum(first, last)


@dataclass(frozen=True, slots=True)
class Gold:
    """The gold of one document."""

    tags: Tensor
    """(words,): BIO tags; of overlapping mentions the longest."""
    mentions: Mentions
    relations: Tensor
    """(relations, 3): head and tail chain, type; a symmetric one both ways."""
    region_frame: Tensor
    """(regions,): the index of the frame."""
    region_type: Tensor
    region_box: Tensor
    """(regions, 4): centre and size, fractions of the frame."""
    region_chain: Tensor
    """(regions,): the chain that the region shows, -1 if not annotated."""
    annotated: Tensor
    """(frames,), booleans: whether the frame is annotated."""
    unannotated: frozenset[Task] = frozenset()
    """The tasks that are not annotated: they have no loss."""
    made: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Cached results, see `once`."""

    def without_text(self) -> Gold:
        """The gold if the text is hidden."""
        return replace(
            self,
            tags=self.tags[:0],
            mentions=self.mentions.none(),
            relations=self.relations[:0],
            region_chain=torch.full_like(self.region_chain, -1),
        )

    def without_frames(self) -> Gold:
        """The gold if the frames are hidden."""
        names = ("region_frame", "region_type", "region_box", "region_chain", "annotated")
        return replace(self, **{name: getattr(self, name)[:0] for name in names})


def once(make: Callable[Concatenate[Gold, P], T]) -> Callable[Concatenate[Gold, P], T]:
    """`make`, with results cached by gold and arguments, so that it does not run again in each epoch."""

    @wraps(make)
    def kept(gold: Gold, /, *args: P.args, **kwargs: P.kwargs) -> T:
        key = make.__name__, *args, *kwargs.values()
        if key not in gold.made:
            gold.made[key] = make(gold, *args, **kwargs)
        found: T = gold.made[key]
        return found

    return kept


def gold_of(inputs: Inputs, gold: Annotation, types: LabelIndex, unannotated: frozenset[Task] = frozenset()) -> Gold:
    """`gold` as tensors, without the parts of a missing modality and without relations that have a region as side."""
    chains = gold.chains if inputs.words else ()
    mentions = mentions_of(inputs, chains, types)
    number = {chain.id: i for i, chain in enumerate(chains)}
    triples = []
    for relation in gold.between_chains if chains else ():
        head, tail, kind = number[relation.head], number[relation.tail], types.relations[relation.type]
        triples.append((head, tail, kind))
        if types.symmetric[kind]:
            triples.append((tail, head, kind))
    place = {frame.index: i for i, frame in enumerate(inputs.frames)}
    regions = [region for region in gold.regions if region.frame in place]
    edges = torch.tensor([list(region.box) for region in regions], dtype=torch.float32).reshape(-1, 4)
    return Gold(
        bio(mentions, len(inputs.words)),
        mentions,
        torch.tensor(sorted(set(triples)), dtype=torch.long).reshape(-1, 3),
        torch.tensor([place[region.frame] for region in regions], dtype=torch.long),
        torch.tensor([types.regions[region.type] for region in regions], dtype=torch.long),
        torch.cat([(edges[:, :2] + edges[:, 2:]) / 2, edges[:, 2:] - edges[:, :2]], 1),
        torch.tensor([number.get(region.chain or "", -1) for region in regions], dtype=torch.long),
        torch.tensor([frame.annotated for frame in inputs.frames], dtype=torch.bool),
        unannotated,
    )


def bio(mentions: Mentions, n_words: int) -> Tensor:
    """The BIO tags of mentions over words: (words,). Of overlapping mentions the longest wins, then the first."""
    tags = np.zeros(n_words, dtype=np.int64)
    first, last, kinds = mentions.first.numpy(), mentions.last.numpy(), mentions.type.numpy()
    for i in np.lexsort((first, first - last)):
        span = slice(first[i], last[i] + 1)
        if not tags[span].any():
            tags[span] = 2 + 2 * kinds[i]
            tags[first[i]] -= 1
    return torch.from_numpy(tags)


def spans_of_tags(tags: np.ndarray[Any, Any]) -> list[tuple[int, int, int]]:
    """(first word, last word, type) of the mentions in valid BIO tags."""
    begins = np.flatnonzero(tags % 2 == 1)
    inside = np.append((tags % 2 == 0) & (tags > 0), False)
    stops = np.flatnonzero(~inside)
    lasts = stops[np.searchsorted(stops, begins + 1)] - 1 if len(begins) else begins
    return [(int(f), int(last), int(tags[f] - 1) // 2) for f, last in zip(begins, lasts, strict=True)]


# --- several ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Batch:
    """A padded batch of documents: words and frames come first in their rows, and masks mark them."""

    inputs: tuple[Inputs, ...]
    windows: Tensor
    """(windows, subwords, columns): the text encoder's input, of all documents."""
    window_mask: Tensor
    cover_place: Tensor
    """(batch, covers): the index, in the flattened windows, of a subword that covers a word."""
    cover_word: Tensor
    """(batch, covers): the index of that word; beyond the last word on padding."""
    word_shapes: Tensor
    """(batch, words, columns), see `Subwords.shapes`."""
    word_mask: Tensor
    """(batch, words)."""
    frame_mask: Tensor
    """(batch, frames)."""
    one_to_one: bool = False
    """Whether each document is one window in which each subword is a word."""

    def __len__(self) -> int:
        return len(self.inputs)


def make_batch(inputs: Sequence[Inputs], *, window: int, overlap: int) -> Batch:
    """The padded batch; texts longer than `window` subwords are split into overlapping windows."""
    cut = [cut_windows(len(one.subwords.ids), window=window, overlap=overlap) for one in inputs]
    columns = max((one.subwords.ids.shape[1] for one in inputs), default=1)
    shape_columns = max((one.subwords.shapes.shape[1] for one in inputs), default=0)
    longest = max((int(size) for _, size, _ in cut), default=0)
    n_words = max((len(one.words) for one in inputs), default=0)
    n_covers = max((len(one.subwords.word) for one in inputs), default=0)
    n_frames = max((len(one.frames) for one in inputs), default=0)
    total = sum(len(starts) for starts, _, _ in cut)
    windows = torch.zeros(total, longest, columns, dtype=torch.long)
    window_mask = torch.zeros(total, longest, dtype=torch.bool)
    place = torch.zeros(len(inputs), n_covers, dtype=torch.long)
    word = torch.full((len(inputs), n_covers), n_words, dtype=torch.long)
    shapes = torch.zeros(len(inputs), n_words, shape_columns, dtype=torch.long)
    at = 0
    for i, (one, (starts, size, owner)) in enumerate(zip(inputs, cut, strict=True)):
        n = len(one.subwords.word)
        for k, start in enumerate(starts.tolist()):
            windows[at + k, :size] = one.subwords.ids[start : start + size]
            window_mask[at + k, :size] = True
        if n:
            subword = one.subwords.subword
            place[i, :n] = (at + owner[subword]) * longest + subword - starts[owner[subword]]
        word[i, :n] = one.subwords.word
        shapes[i, : len(one.words)] = one.subwords.shapes
        at += len(starts)
    return Batch(
        tuple(inputs),
        windows,
        window_mask,
        place,
        word,
        shapes,
        row_mask([len(one.words) for one in inputs], n_words),
        row_mask([len(one.frames) for one in inputs], n_frames),
        all(len(starts) == 1 for starts, _, _ in cut) and all(one.subwords.one_to_one for one in inputs),
    )


def cut_windows(n: int, *, window: int, overlap: int) -> tuple[Tensor, int, Tensor]:
    """(starts of the windows, their size, the window of each of `n` subwords): the one in which it is most central."""
    size = min(n, window)
    if n == 0:
        return torch.zeros(0, dtype=torch.long), 0, torch.zeros(0, dtype=torch.long)
    step = max(1, window - min(overlap, window // 2))
    n_windows = 1 + max(0, -(-(n - size) // step))
    starts = (torch.arange(n_windows) * step).clamp(max=n - size)
    inside = torch.arange(n)[None] - starts[:, None]  # (windows, subwords)
    margin = torch.minimum(inside, size - 1 - inside)
    return starts, size, margin.argmax(0)


def row_mask(lengths: Sequence[int], longest: int) -> Tensor:
    """(rows, longest), true for the first `lengths[i]` of row i."""
    return torch.arange(longest)[None] < torch.tensor(list(lengths), dtype=torch.long)[:, None]


@dataclass(frozen=True, slots=True)
class MentionBatch:
    """The mentions and chains of several documents."""

    first: Tensor
    """(batch, mentions)."""
    last: Tensor
    type: Tensor
    chain: Tensor
    """(batch, mentions): the index of the chain; beyond the last chain on padding."""
    mask: Tensor
    """(batch, mentions)."""
    chain_type: Tensor
    """(batch, chains)."""
    chain_mask: Tensor
    """(batch, chains)."""
    pairs: Tensor
    """(batch, mentions, mentions, features)."""


def make_mention_batch(mentions: Sequence[Mentions]) -> MentionBatch:
    """The padded batch of several documents' mentions."""
    n = max((len(one) for one in mentions), default=0)
    n_chains = max((one.n_chains for one in mentions), default=0)
    features = mentions[0].pairs.shape[2]
    pairs = torch.zeros(len(mentions), n, n, features)
    for i, one in enumerate(mentions):
        pairs[i, : len(one), : len(one)] = one.pairs
    return MentionBatch(
        first=pad([one.first for one in mentions], n),
        last=pad([one.last for one in mentions], n),
        type=pad([one.type for one in mentions], n),
        chain=pad([one.chain for one in mentions], n, value=n_chains),
        mask=row_mask([len(one) for one in mentions], n),
        chain_type=pad([one.chain_type for one in mentions], n_chains),
        chain_mask=row_mask([one.n_chains for one in mentions], n_chains),
        pairs=pairs,
    )


def pad(rows: Sequence[Tensor], longest: int, *, value: int = 0) -> Tensor:
    """Tensors (n, …) of different lengths as one, (rows, longest, …)."""
    out = rows[0].new_full((len(rows), longest, *rows[0].shape[1:]), value)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


def to_device(value: T, device: torch.device) -> T:
    """A dataclass with its tensors on `device`."""
    if device.type == "cpu":
        return value
    moved = {f.name: getattr(value, f.name) for f in fields(value)}  # type: ignore[arg-type]
    return type(value)(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in moved.items()})


def chain_pairs(mentions: MentionBatch) -> Tensor:
    """(batch, chains, chains), booleans: the ordered pairs of different chains."""
    n = mentions.chain_mask.shape[1]
    different = ~torch.eye(n, dtype=torch.bool, device=mentions.chain_mask.device)
    return different & mentions.chain_mask[:, :, None] & mentions.chain_mask[:, None, :]


def joinable(mentions: MentionBatch, joins: Tensor) -> Tensor:
    """(batch, chains, chains, types), booleans: the relation types allowed from head to tail."""
    kinds = mentions.chain_type
    return joins[kinds[:, :, None], kinds[:, None, :]] & chain_pairs(mentions)[..., None]
