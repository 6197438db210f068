"""Text to pieces (subwords) and back: a small vocabulary built on train, or a pretrained tokenizer."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.systems.generative.language import OBJECTS, PART, RECORD, number, object_name
from m3dllm.systems.supervised.hub import NO_CODE
from m3dllm.systems.supervised.shapes import word_case
from m3dllm.tokens import joined, tokens_of

PAD, END, UNKNOWN = 0, 1, 2
SLOTS = 40
"""The copy slots per spelling class, for words of a text that are not in the vocabulary."""
CLASSES = 7
"""The number of spelling classes of `word_case`."""
NUMBERS = 100
"""How many numbers have their own piece."""


@dataclass(slots=True)
class Slots:
    """The out-of-vocabulary words of one text, by the slot piece of each."""

    pieces: dict[str, int] = field(default_factory=dict)
    words: dict[int, str] = field(default_factory=dict)


class Codec(ABC):
    """A tokenizer: text to pieces and back."""

    pad: int = PAD
    end: int = END

    @property
    @abstractmethod
    def size(self) -> int:
        """How many pieces there are."""

    @abstractmethod
    def encode(self, text: str, slots: Slots) -> list[int]:
        """The pieces of a text. Slots added by the source may be used by the answer."""

    @abstractmethod
    def decode(self, pieces: Iterable[int], slots: Slots) -> str:
        """The text of the pieces, up to white space."""

    def encode_all(self, texts: Sequence[str], slots: Slots) -> list[list[int]]:
        """The pieces of several texts, each encoded separately."""
        return [self.encode(text, slots) for text in texts]

    def knows(self, pieces: Sequence[int]) -> bool:
        """Whether the pieces can be decoded: there are some, and none is unknown."""
        return bool(pieces) and UNKNOWN not in pieces

    def save(self, folder: Path) -> None:  # noqa: B027  # the small vocabulary is in the checkpoint's card
        """Write the tokenizer, if it is needed to decode."""


class TinyCodec(Codec):
    """A vocabulary of the words that many train documents have; any other word becomes a slot of its text.

    Slots are numbered by first appearance within a spelling class (`word_case`), so that an unseen name is copied as
    one piece (the copyable model of Luong et al. 2015). Marks, numbers, candidates and types are one piece each.
    """

    def __init__(self, words: Sequence[str], labels: LabelSet) -> None:
        self.words = tuple(words)
        names = [name for kind in ("mentions", "relations", "regions") for name in sorted(labels.names(kind))]
        atoms = [RECORD, PART, *map(number, range(NUMBERS)), *map(object_name, range(OBJECTS)), *dict.fromkeys(names)]
        known = dict.fromkeys((*atoms, ",", *self.words))
        self._pieces = {word: i for i, word in enumerate(known, start=UNKNOWN + 1)}
        self._texts = {i: word for word, i in self._pieces.items()}
        self._first = UNKNOWN + 1 + len(known)
        longest_first = sorted(atoms, key=len, reverse=True)
        self._atom = re.compile("|".join(f"{_edge(a[0], '<')}{re.escape(a)}{_edge(a[-1], '')}" for a in longest_first))

    @classmethod
    def of(cls, texts: Iterable[tuple[str, str]], labels: LabelSet, fewest: int, more: Iterable[str]) -> TinyCodec:
        """From (group, text) of train documents: words in at least `fewest` groups, and those of the texts `more`."""
        groups: dict[str, set[str]] = defaultdict(set)
        for group, text in texts:
            for start, end in tokens_of(text):
                groups[text[start:end]].add(group)
        count = Counter({word: len(found) for word, found in groups.items()})
        always = dict.fromkeys(text[start:end] for text in more for start, end in tokens_of(text))
        often = [word for word in sorted(count) if count[word] >= fewest and word not in always]
        return cls((*always, *often), labels)

    @property
    def size(self) -> int:
        return self._first + CLASSES * SLOTS

    def encode(self, text: str, slots: Slots) -> list[int]:
        return [self._piece(word, slots) for word in self._split(text)]

    def decode(self, pieces: Iterable[int], slots: Slots) -> str:
        words = (self._texts.get(piece) or slots.words.get(piece) for piece in pieces)
        return joined(word for word in words if word)[0]

    def _split(self, text: str) -> Iterable[str]:
        last = 0
        for atom in self._atom.finditer(text):
            yield from _words(text[last : atom.start()])
            yield atom[0]
            last = atom.end()
        yield from _words(text[last:])

    def _piece(self, word: str, slots: Slots) -> int:
        found = self._pieces.get(word) or slots.pieces.get(word)
        if found is None:
            first = self._first + SLOTS * word_case(word)
            found = next((p for p in range(first, first + SLOTS) if p not in slots.words), UNKNOWN)
            slots.pieces[word] = found
            if found != UNKNOWN:
                slots.words[found] = word
        return found


class PretrainedCodec(Codec):
    """The tokenizer of a pretrained model, with the marks of the output language as added pieces."""

    def __init__(self, tokenizer: Any) -> None:
        tokenizer.add_special_tokens({"additional_special_tokens": [RECORD, PART]}, replace_extra_special_tokens=False)
        self.tokenizer = tokenizer
        self.pad, self.end = int(tokenizer.pad_token_id), int(_end_of(tokenizer))

    @property
    def size(self) -> int:
        return len(self.tokenizer)

    def encode(self, text: str, slots: Slots) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def encode_all(self, texts: Sequence[str], slots: Slots) -> list[list[int]]:
        return list(self.tokenizer(list(texts), add_special_tokens=False).input_ids) if texts else []

    def decode(self, pieces: Iterable[int], slots: Slots) -> str:
        kept = [piece for piece in pieces if piece not in (self.pad, self.end)]
        return str(self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def knows(self, pieces: Sequence[int]) -> bool:
        return bool(pieces) and self.tokenizer.unk_token_id not in pieces

    def unknown_share(self, texts: Sequence[str]) -> float:
        """The share of pieces that the tokenizer does not know."""
        pieces = [piece for text in texts for piece in self.encode(text, Slots())]
        return sum(piece == self.tokenizer.unk_token_id for piece in pieces) / max(1, len(pieces))

    def save(self, folder: Path) -> None:
        self.tokenizer.save_pretrained(folder)


def load_codec(where: str, options: dict[str, bool] | None = None) -> PretrainedCodec:
    """The tokenizer in a folder or with a Hugging Face id. Call it within `hub.fetching`, which explains errors."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(where, use_fast=True, **(options or {}), **NO_CODE)
    if tokenizer.pad_token_id is None or _end_of(tokenizer) is None:
        raise UserError(f"text_model {where}: its tokenizer has no end of a text: expected that of a T5, mT5 or BART")
    return PretrainedCodec(tokenizer)


def _end_of(tokenizer: Any) -> Any:
    """The end-of-text piece; for BERT tokenizers, which Chinese BARTs use, the separator."""
    return tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id


def _words(text: str) -> Iterable[str]:
    return (text[start:end] for start, end in tokens_of(text))


def _edge(letter: str, side: str) -> str:
    """A regex lookaround: no word continues beyond `letter`, at one end of an atom."""
    return f"(?{side}!\\w)" if letter.isalnum() else ""
