"""Text encoders: a tiny one trained from scratch, and pretrained ones by Hugging Face id or folder (eq. 5).

An encoder turns a text into subwords, and windows of subwords into the states of its layers. `data` cuts the windows,
`features` turns subwords into words.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from m3dllm.errors import UserError
from m3dllm.rng import Dropout, rand
from m3dllm.systems.supervised.config import TINY_HEADS, Config
from m3dllm.systems.supervised.hub import NO_CODE, fetching, load_whole, loading_options, minilm_folder, weights_hash
from m3dllm.systems.supervised.shapes import SHAPE_COLUMNS, neighbours, repetition, shape_codes, word_case

Span = tuple[int, int]
Array = np.ndarray[Any, Any]

CHARACTERS = 16
"""The characters per word that the tiny encoder reads: of a longer word the first half and the last half of these."""


@dataclass(frozen=True, slots=True)
class Subwords:
    """The subwords of a text, and which of them cover which of its words, at least one each."""

    ids: Tensor
    """(subwords, columns)."""
    subword: Tensor
    """(covers,): the index of a subword that covers a word."""
    word: Tensor
    """(covers,): the index of that word, sorted."""
    shapes: Tensor
    """(words, columns): word shapes, see `shapes.shape_codes`; no columns if the encoder reads letters itself."""

    def none(self) -> Subwords:
        """The same columns without subwords or words."""
        return Subwords(self.ids[:0], self.subword[:0], self.word[:0], self.shapes[:0])

    @property
    def one_to_one(self) -> bool:
        """Whether each subword is a word."""
        number = torch.arange(len(self.ids))
        return torch.equal(self.subword, number) and torch.equal(self.word, number)


# --- tiny -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The known words, lower-cased, and characters of the tiny encoder; 0 is the unknown one."""

    words: tuple[str, ...]
    characters: tuple[str, ...]
    pairs: tuple[str, ...] = ()
    """Known bigrams, joined by a blank."""
    names: tuple[str, ...] = ()
    """The words that are mostly in mentions, and in at most a quarter of the groups."""

    @classmethod
    def of(cls, documents: Iterable[tuple[str, Sequence[str], Sequence[bool]]], *, groups: int = 3) -> Vocabulary:
        """From (group, words, whether each is in a mention) of train documents: words in at least `groups` groups.

        Names occur in few groups, so they are unknown words in training as in prediction, and the encoder must read
        them by letters and context.
        """
        seen: dict[str, set[str]] = defaultdict(set)
        letters: dict[str, set[str]] = defaultdict(set)
        pairs: dict[str, set[str]] = defaultdict(set)
        everything: set[str] = set()
        inside: Counter[str] = Counter()
        for group, words, mentioned in documents:
            everything.add(group)
            for word, is_mentioned in zip(words, mentioned, strict=True):
                inside[word.lower()] += 1 if is_mentioned else -1
            for pair in neighbours(words):
                pairs[pair].add(group)
            for word in words:
                seen[word.lower()].add(group)
                for letter in word:
                    letters[letter].add(group)
        least = min(groups, max(1, len(everything) // 4))
        known = sorted(word for word, where in seen.items() if len(where) >= least)
        return cls(
            tuple(known),
            tuple(sorted(letter for letter, where in letters.items() if len(where) >= least)),
            tuple(sorted(pair for pair, where in pairs.items() if len(where) >= least)),
            tuple(word for word in known if inside[word] > 0 and len(seen[word]) <= len(everything) // 4),
        )


class TinyText(nn.Module):
    """Embeddings of known words and bigrams, letters, case and repetition; then layers of convolution and attention.
    One subword per word.

    ids: (windows, words, 4 + CHARACTERS): word, bigram that ends here, case, repetition, letters. A word sees both the
    bigram that ends with it and the one that begins with it.
    """

    pretrained = False
    named: Tensor
    """(1 + words,), booleans: which words are names."""

    def __init__(self, config: Config, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self._word = {word: i for i, word in enumerate(vocabulary.words, start=1)}
        self._pair = {pair: i for i, pair in enumerate(vocabulary.pairs, start=1)}
        self._letter = {letter: i for i, letter in enumerate(vocabulary.characters, start=8)}
        self.width, self.limit, self.name = config.hidden, 512, "tiny"
        self.word_dropout, self.name_dropout = config.word_dropout, config.name_dropout
        named = torch.zeros(1 + len(self._word), dtype=torch.bool)
        named[[self._word[word] for word in vocabulary.names]] = True
        self.register_buffer("named", named, persistent=False)
        small = max(config.hidden // 4, 8)
        self.words = nn.Embedding(1 + len(self._word), config.hidden)
        self.pairs = nn.Embedding(1 + len(self._pair), config.hidden)
        self.cases = nn.Embedding(8, small)
        self.repeats = nn.Embedding(8, small)
        self.letters = nn.Embedding(8 + len(self._letter), small, padding_idx=0)
        self.spell = nn.Conv1d(small, 2 * small, 3, padding=1)
        self.join = nn.Linear(3 * config.hidden + 4 * small, config.hidden)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(TinyLayer(config.hidden, config.dropout) for _ in range(config.layers))
        nn.init.normal_(self.words.weight, std=0.1)
        nn.init.normal_(self.pairs.weight, std=0.1)

    def subwords(self, text: str, spans: Sequence[Span]) -> Subwords:
        """One subword per word."""
        words = [text[start:end] for start, end in spans]
        rows = np.zeros((len(words), 4 + CHARACTERS), dtype=np.int64)
        small = [word.lower() for word in words]
        before = ["", *neighbours(words)]
        for i, (word, pair, repeat) in enumerate(zip(words, before, repetition(small), strict=False)):
            half = CHARACTERS // 2
            letters = word if len(word) <= CHARACTERS else word[:half] + word[-half:]
            row = [self._word.get(small[i], 0), self._pair.get(pair, 0), word_case(word), repeat]
            row += [self._letter.get(letter, 1 + word_case(letter) % 7) for letter in letters]
            rows[i, : len(row)] = row
        number = torch.arange(len(words))
        return Subwords(torch.from_numpy(rows), number, number, torch.zeros(len(words), 0, dtype=torch.long))

    def forward(self, ids: Tensor, mask: Tensor) -> list[Tensor]:
        """(windows, words, columns), (windows, words) -> the layers' states, each (windows, words, hidden)."""
        words, pairs, cases, repeats = ids[..., :4].unbind(-1)
        letters = ids[..., 4:]
        if self.training:
            known = rand(words.shape, words.device) >= self.word_dropout
            pairs = pairs * known * known.roll(1, -1)
            probability = rand((len(words), len(self.named)), words.device)  # one for each word of a window
            known &= ~self.named[words] | (probability.gather(1, words) >= self.name_dropout)
            words = words * known
            alone = (~known & (letters[..., 1] == 0))[..., None] & (letters != 0)  # the letter is the whole word
            letters = torch.where(alone, 1 + cases[..., None] % 7, letters)
        longest = max(1, int((letters != 0).flatten(0, 1).any(0).sum()))
        rows, number = distinct_rows(letters[..., :longest].flatten(0, 1))
        spelled = self.letters(rows).transpose(1, 2)  # (distinct words, small, letters): most words are repeated
        spelled = self.spell(spelled).masked_fill((rows == 0)[:, None], -1e4).amax(2)
        spelled = torch.relu(spelled).index_select(0, number).unflatten(0, words.shape)
        ends, begins = self.pairs(pairs), self.pairs(F.pad(pairs[:, 1:], (0, 1)))
        seen = [self.words(words), ends, begins, self.cases(cases), self.repeats(repeats), spelled]
        x = self.join(self.dropout(torch.cat(seen, -1)))
        bias = distance_bias(mask, TinyLayer.heads).to(x.dtype)
        states = []
        for layer in self.layers:
            x = layer(x, mask, bias)
            states.append(x)
        return states

    def identity(self) -> str:
        raise ValueError("the tiny text encoder is trained: its features are not cached")


def distinct_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(the distinct ones of the integer `rows` (n, columns), the index of each row among them).

    Compared by 64-bit hashes: `torch.unique` copies rows one by one, which takes longer than the letter convolution.
    """
    factors = _FACTORS[: rows.shape[1]].to(rows.device)
    hashed, number = torch.unique((rows * factors).sum(1), return_inverse=True)
    distinct = rows.new_empty(len(hashed), rows.shape[1])
    distinct[number] = rows  # equal rows share a place
    return distinct, number


_FACTORS = torch.from_numpy(np.random.default_rng(0).integers(1 << 62, size=CHARACTERS) * 2 + 1)
"""One odd factor per letter; products may overflow. Two rows collide once in about 2 ** 60 pairs."""


def distance_bias(mask: Tensor, heads: int) -> Tensor:
    """The attention bias by distance: 0 in the first half of the heads, -1 / 2, -1 / 4, … per word in the others.

    mask: (windows, words) -> (windows, heads, words, words), with padding never attended.
    """
    n = mask.shape[1]
    place = torch.arange(n, device=mask.device)
    far = (place[:, None] - place[None, :]).abs().float()
    slopes = torch.tensor([0.0] * (heads // 2) + [2.0 ** -(i + 1) for i in range(heads - heads // 2)])
    bias = -slopes.to(mask.device)[:, None, None] * far  # (heads, words, words)
    return bias[None].masked_fill(~mask[:, None, None, :], -1e4)


class TinyLayer(nn.Module):
    """Convolution over three words, attention, feed-forward; each pre-norm and residual."""

    heads = TINY_HEADS

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(3))
        self.near = nn.Conv1d(hidden, 2 * hidden, 3, padding=1)
        self.mix = nn.Linear(hidden, 3 * hidden, bias=False)
        self.out = nn.Linear(hidden, hidden)
        self.mlp = nn.Sequential(nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, hidden))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, bias: Tensor) -> Tensor:
        keep = mask[..., None].to(x.dtype)
        near = F.glu(self.near((self.norms[0](x) * keep).transpose(1, 2)), 1)  # along the contiguous dimension
        x = x + self.dropout(near.transpose(1, 2).contiguous())
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.mix(self.norms[1](x)).chunk(3, -1)
        )
        far = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)
        x = x + self.dropout(self.out(far))
        return x + self.dropout(self.mlp(self.norms[2](x)))


class NoText(nn.Module):
    """Replaces the encoder if the text is not read: no words, no weights."""

    pretrained = False
    limit, name = 1, "none"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.width = config.hidden

    def subwords(self, text: str, spans: Sequence[Span]) -> Subwords:
        """No subwords."""
        none = torch.zeros(0, dtype=torch.long)
        return Subwords(none[:, None], none, none, none[:, None])


# --- pretrained -------------------------------------------------------------------------------------------------------


class PretrainedText(nn.Module):
    """A Hugging Face encoder. ids: (windows, subwords, 1). It adds the special tokens itself."""

    pretrained = True

    def __init__(self, model: Any, tokenizer: Any, *, name: str) -> None:
        super().__init__()
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.width = int(model.config.hidden_size)
        self.global_start = model.config.model_type == "longformer"
        positions = int(model.config.max_position_embeddings)
        if model.config.model_type in ("longformer", "roberta", "xlm-roberta", "camembert"):
            positions -= model.config.pad_token_id + 1  # RoBERTa models count positions from there
        known = min(positions, int(tokenizer.model_max_length))
        self.limit = known - 2  # the two special tokens
        self.first = _piece_id(tokenizer, "cls_token_id", "bos_token_id")
        self.last = _piece_id(tokenizer, "sep_token_id", "eos_token_id")

    def subwords(self, text: str, spans: Sequence[Span]) -> Subwords:
        """The text as the tokenizer splits it, regardless of words: a Chinese subword covers several words.

        A word that the tokenizer skips gets an unknown subword.
        """
        if not spans:
            none = torch.zeros(0, dtype=torch.long)
            return Subwords(none[:, None], none, none, torch.zeros(0, SHAPE_COLUMNS, dtype=torch.long))
        found = self.tokenizer(text, return_offsets_mapping=True, add_special_tokens=False, truncation=False)
        ids, edges = np.array(found["input_ids"]), np.array(found["offset_mapping"]).reshape(-1, 2)
        if (mark := self.tokenizer.convert_tokens_to_ids("▁")) != self.tokenizer.unk_token_id:
            edges[ids == mark, 1] = 0  # the word-start mark alone covers nothing
        lost = uncovered(edges, spans)
        ids = np.append(ids, np.full(len(lost), self.tokenizer.unk_token_id)).astype(np.int64)
        edges = np.concatenate([edges, lost])
        order = np.argsort(edges[:, 0], kind="stable")
        subword, word = covers(edges[order], spans)
        codes = torch.tensor(shape_codes([text[start:end] for start, end in spans]))
        shapes = torch.cat([codes, torch.from_numpy(places(subword, word))[:, None]], 1)
        return Subwords(
            torch.from_numpy(ids[order])[:, None], torch.from_numpy(subword), torch.from_numpy(word), shapes
        )

    def forward(self, ids: Tensor, mask: Tensor) -> list[Tensor]:
        """(windows, subwords, 1), (windows, subwords) -> the layers' states, each (windows, subwords, width)."""
        n_windows, n = mask.shape
        lengths = mask.sum(1, keepdim=True)
        rows = torch.full((n_windows, n + 2), self.model.config.pad_token_id or 0, device=ids.device)
        rows[:, 0] = self.first
        rows[:, 1:-1] = torch.where(mask, ids[..., 0], rows[:, 1:-1])
        rows.scatter_(1, lengths + 1, self.last)
        seen = torch.arange(n + 2, device=ids.device)[None] < lengths + 2
        more: dict[str, Tensor] = {}
        if self.global_start:
            more["global_attention_mask"] = torch.zeros_like(rows)
            more["global_attention_mask"][:, 0] = 1
        out = self.model(rows, attention_mask=seen.long(), output_hidden_states=True, **more)
        return [state[:, 1 : n + 1] for state in out.hidden_states[1:]]

    def identity(self) -> str:
        """The hash of the weights and their settings, as the key of cached features."""
        return weights_hash(self.model, f"text {self.limit}")

    def save_description(self, folder: Path) -> None:
        """Write what `empty_text_encoder` needs: architecture and tokenizer, without weights."""
        self.model.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def covers(edges: Array, spans: Sequence[Span]) -> tuple[Array, Array]:
    """(subwords, words) of all pairs that share a character, by words. edges: (subwords, 2), sorted offsets."""
    words = np.array(spans)
    first = np.searchsorted(words[:, 1], edges[:, 0], side="right")
    n = np.maximum(np.searchsorted(words[:, 0], edges[:, 1], side="left") - first, 0) * (edges[:, 1] > edges[:, 0])
    subword = np.repeat(np.arange(len(edges)), n)
    word = first[subword] + np.arange(len(subword)) - np.repeat(np.cumsum(n) - n, n)
    order = np.argsort(word, kind="stable")
    return subword[order], word[order]


def uncovered(edges: Array, spans: Sequence[Span]) -> Array:
    """The offsets (words, 2) of the words that no subword covers."""
    _, word = covers(edges, spans)
    missing: Array = np.array(spans)[~np.isin(np.arange(len(spans)), word)]
    return missing


def places(subword: Array, word: Array) -> Array:
    """The position of each word in its subword: plus 1 if shared with the previous word, plus 2 if with the next."""
    _, first, n = np.unique(word, return_index=True, return_counts=True)
    shared = np.append(subword[first + n - 1][:-1] == subword[first][1:], False)
    return np.roll(shared, 1).astype(np.int64) + 2 * shared


def _piece_id(tokenizer: Any, *names: str) -> int:
    for name in names:
        if (found := getattr(tokenizer, name)) is not None:
            return int(found)
    raise UserError(f"the tokenizer of {tokenizer.name_or_path} has none of {', '.join(names)}: not a text encoder")


def load_text_encoder(name: str, *, attention_dropout: float = 0.0, checkpointing: bool = False) -> PretrainedText:
    """The pretrained encoder `name`: "minilm", a Hugging Face id, or a folder. Raises UserError if loading fails."""
    from transformers import AutoModel, AutoTokenizer

    where = str(minilm_folder()) if name == "minilm" else name
    with fetching("text_encoder", name):
        options = loading_options(where)
        description = _description(where, options)
        chosen = {k: attention_dropout for k in _ATTENTION_DROPOUT if k in description}
        tokenizer = AutoTokenizer.from_pretrained(where, use_fast=True, add_prefix_space=True, **options, **NO_CODE)
        model: Any
        if "attention_window" in description and description.get("model_type") != "longformer":
            model = load_longformer(where, description | chosen, options)
        else:
            pooler = {"add_pooling_layer": False} if description.get("model_type") in _POOLED else {}
            model = load_whole(AutoModel, "text_encoder", where, **pooler, **chosen, **options)
    if checkpointing:
        model.gradient_checkpointing_enable()
    return PretrainedText(model, tokenizer, name=name)


def empty_text_encoder(folder: Path, *, name: str, checkpointing: bool = False) -> PretrainedText:
    """An encoder as described by `save_description`, with weights still to be loaded."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    with fetching("checkpoint", str(folder)):
        config = AutoConfig.from_pretrained(folder, **NO_CODE)
        pooler = {"add_pooling_layer": False} if config.model_type in _POOLED else {}
        model = AutoModel.from_config(config, dtype=torch.float32, **pooler, **NO_CODE)
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, **NO_CODE)
    if checkpointing:
        model.gradient_checkpointing_enable()
    return PretrainedText(model, tokenizer, name=name)


_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")
_POOLED = ("bert", "roberta", "xlm-roberta", "longformer", "camembert")


def load_longformer(where: str, description: dict[str, Any], options: dict[str, bool]) -> nn.Module:
    """A Longformer whose config says `xlm-roberta`: loaded as that, it would silently use full attention.

    Missing weights of global attention start as copies of the local ones. Raises UserError if anything
    else is missing.
    """
    from transformers import LongformerConfig, LongformerModel

    config = LongformerConfig(**{k: v for k, v in description.items() if k not in ("model_type", "architectures")})
    load: Any = LongformerModel.from_pretrained
    found = load(
        where,
        config=config,
        add_pooling_layer=False,
        dtype=torch.float32,
        key_mapping={r"^roberta\.": ""},
        output_loading_info=True,
        **options,
    )
    model, report = found
    missing = [name for name in report["missing_keys"] if "_global." not in name]
    if missing or not isinstance(model, LongformerModel):
        raise UserError(f"text_encoder {where}: is not a Longformer: it lacks {', '.join(missing)}")
    state = model.state_dict()
    for name in report["missing_keys"]:
        state[name].copy_(state[name.replace("_global.", ".")])
    return model


def _description(where: str, options: dict[str, bool]) -> dict[str, Any]:
    from transformers import PretrainedConfig

    found, _ = PretrainedConfig.get_config_dict(where, **options)
    return dict(json.loads(json.dumps(found, default=str)))
