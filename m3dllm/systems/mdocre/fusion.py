"""The fusion of words and frames by sentence, then by document, and the gate of mentions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from m3dllm.rng import Dropout
from m3dllm.systems.mdocre.sentences import Sentences
from m3dllm.systems.supervised.backbone import States
from m3dllm.systems.supervised.data import MentionBatch
from m3dllm.systems.supervised.layers import Attention

NEVER = -1e4
"""The logit of what is impossible."""
TEMPERATURE = 0.07
"""The temperature of the contrastive loss between sentences and frames."""


class TextGuided(nn.Module):
    """A transformer layer over text that uses frames twice: as a prefix in attention, and through a gate.

    text: (batch, n, hidden), frames: (batch, m, hidden), masks: (batch, n), (batch, m) -> (batch, n, hidden).
    """

    def __init__(self, hidden: int, *, heads: int, prefix: int, dropout: float) -> None:
        super().__init__()
        self.look = Attention(hidden, heads, dropout)
        self.gate = nn.Linear(2 * hidden, hidden)
        self.prefix = nn.Parameter(0.02 * torch.randn(prefix, hidden))
        self.condition = nn.Linear(hidden, hidden)
        self.pool = Attention(hidden, heads, dropout)
        self.mix = Attention(hidden, heads, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(3))
        self.feed_forward = nn.Sequential(
            nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Linear(4 * hidden, hidden), Dropout(dropout)
        )

    def forward(self, text: Tensor, mask: Tensor, frames: Tensor, frame_mask: Tensor) -> Tensor:
        visual = self.look(text, frames, frames, frame_mask)
        gate = self.gate(torch.cat([text, visual], -1)).sigmoid()
        asked = self.prefix + self.condition(masked_mean(text, mask))[:, None]
        prefix = self.pool(asked, frames, frames, frame_mask)  # (batch, prefix, hidden)
        source = torch.cat([text, prefix], 1)
        known = torch.cat([mask, mask.new_ones(prefix.shape[:2])], 1)
        first, second, third = self.norms
        text = first(text + self.mix(text, source, source, known))
        text = second(text + gate * visual)
        return third(text + self.feed_forward(text))


class Hierarchy(nn.Module):
    """Each sentence with the frames shown meanwhile, all sentences with all frames, and the frames with all words.

    words: (batch, n, hidden), frames: (batch, m, hidden), and their masks, with at least one unmasked vector each per
    document -> both again, fused.
    """

    def __init__(self, hidden: int, *, heads: int, prefix: int, dropout: float) -> None:
        super().__init__()
        self.local, self.whole = (TextGuided(hidden, heads=heads, prefix=prefix, dropout=dropout) for _ in range(2))
        self.back = nn.Linear(hidden, hidden, bias=False)
        self.read = Attention(hidden, heads, dropout)
        self.word_norm, self.frame_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)

    def forward(
        self, words: Tensor, word_mask: Tensor, frames: Tensor, frame_mask: Tensor, sentences: Sentences
    ) -> tuple[Tensor, Tensor]:
        rows, mask = sentences.document, sentences.mask
        text = words[rows[:, None], sentences.words]  # (sentences, longest, hidden)
        meanwhile = F.pad(sentences.frames, (0, frames.shape[1] - sentences.frames.shape[1])) & frame_mask[rows]
        meanwhile = torch.where(meanwhile.any(1, keepdim=True), meanwhile, frame_mask[rows])  # the blank
        own, known = nearest_first(meanwhile)
        text = self.local(text, mask, frames[rows[:, None], own], known)
        of_sentences, of_mask = by_document(masked_mean(text, mask), sentences, len(words))
        of_sentences = self.whole(of_sentences, of_mask, frames, frame_mask)
        text = self.word_norm(text + self.back(of_sentences[rows, sentences.place])[:, None])
        column = torch.where(mask, sentences.words, words.shape[1])  # padding goes after the last word
        index = (rows[:, None] * (words.shape[1] + 1) + column).flatten()
        out = text.new_zeros(len(words) * (words.shape[1] + 1), words.shape[2])
        out = out.index_copy(0, index[mask.flatten()], text.flatten(0, 1)[mask.flatten()])
        words = out.unflatten(0, (len(words), -1))[:, :-1]
        return words, self.frame_norm(frames + self.read(frames, words, words, word_mask))


def masked_mean(vectors: Tensor, mask: Tensor) -> Tensor:
    """(batch, hidden): the mean over unmasked vectors (batch, n, hidden)."""
    share = mask.to(vectors.dtype) / mask.sum(1, keepdim=True)
    return torch.einsum("bn,bnh->bh", share, vectors)


def nearest_first(mask: Tensor) -> tuple[Tensor, Tensor]:
    """From (rows, n) booleans: (indices of the true places of each row, their mask), both (rows, most of any row)."""
    most = int(mask.sum(1).max())
    known, place = mask.long().sort(dim=1, descending=True, stable=True)
    return place[:, :most], known[:, :most].bool()


def by_document(vectors: Tensor, sentences: Sentences, batch: int) -> tuple[Tensor, Tensor]:
    """Vectors of sentences (sentences, hidden) as (batch, most sentences, hidden), and their mask."""
    most = int(sentences.place.max()) + 1
    index = sentences.document * most + sentences.place
    out = vectors.new_zeros(batch * most, vectors.shape[1]).index_copy(0, index, vectors)
    known = torch.zeros(batch * most, dtype=torch.bool, device=vectors.device).index_fill(0, index, True)
    return out.unflatten(0, (batch, most)), known.unflatten(0, (batch, most))


class Contrast(nn.Module):
    """Sentences against the frames of their document: frames during the sentence should match best (InfoNCE)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.of_text, self.of_frames = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)

    def forward(self, words: Tensor, frames: Tensor, frame_mask: Tensor, sentences: Sentences) -> Tensor:
        """The mean loss over the documents of the batch; 0 for those without text or frames."""
        if not frames.shape[1]:
            return words.new_zeros(())
        rows = sentences.document
        text = self.of_text(masked_mean(words[rows[:, None], sentences.words], sentences.mask))
        match = F.normalize(text, dim=-1)[:, None] * F.normalize(self.of_frames(frames), dim=-1)[rows]
        logits = (match.sum(-1) / TEMPERATURE).masked_fill(~frame_mask[rows], NEVER)
        own = sentences.matching & frame_mask[rows]
        cost = logits.logsumexp(1) - logits.masked_fill(~own, NEVER).logsumexp(1)
        counts = own.any(1).to(cost.dtype)
        number = torch.zeros(len(words), device=cost.device, dtype=cost.dtype).index_add(0, rows, counts)
        total = torch.zeros_like(number).index_add(0, rows, cost * counts)
        return (total / number.clamp(min=1)).mean()


class MentionGate(nn.Module):
    """A gate between the text and the frames in the vector of a mention or chain."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.look = Attention(hidden, heads, dropout)
        self.choose = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.GELU(), nn.Linear(hidden, 1, bias=False))
        self.seen = nn.Linear(hidden, hidden)
        self.gate = nn.Linear(2 * hidden, hidden)

    def forward(self, text: Tensor, visual: Tensor) -> Tensor:
        """(batch, n, hidden) of text and of frames -> (batch, n, hidden)."""
        share = self.gate(torch.cat([text, visual], -1)).sigmoid()
        return share * text + (1 - share) * self.seen(visual)

    def weights(self, text: Tensor, visual: Tensor, mentions: MentionBatch) -> Tensor:
        """(batch, chains, mentions): the weight of each mention in its chain."""
        scores = self.choose(torch.cat([text, visual], -1))[..., 0]
        number = torch.arange(mentions.chain_type.shape[1], device=text.device)
        inside = (mentions.chain[:, None] == number[None, :, None]) & mentions.mask[:, None]
        return scores[:, None].masked_fill(~inside, NEVER).softmax(-1) * inside


@dataclass(frozen=True, slots=True)
class GatedStates(States):
    """States whose mention and chain vectors come from the gate."""

    gate: MentionGate | None = None
    looked_at: Tensor | None = None
    """(batch, frames and blank, hidden)."""
    look_mask: Tensor | None = None

    def mention_vectors(self, mentions: MentionBatch) -> Tensor:
        assert self.gate is not None
        return self.gate(*self._both(mentions))

    def chain_vectors(self, mentions: MentionBatch) -> Tensor:
        assert self.gate is not None
        both = self._both(mentions)
        weights = self.gate.weights(*both, mentions)
        return self.gate(*(weights @ part for part in both))

    def _both(self, mentions: MentionBatch) -> tuple[Tensor, Tensor]:
        """(text vector, visual vector) of each mention."""
        assert self.gate is not None
        assert self.looked_at is not None
        text = States.mention_vectors(self, mentions)
        frames = self.looked_at.to(text.dtype)
        return text, self.gate.look(text, frames, frames, self.look_mask)
