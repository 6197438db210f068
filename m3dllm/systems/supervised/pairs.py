"""What the texts of two mentions say about each other, for all pairs of a document at once, without a model.

The paper has no such features; our presets put them beside the vectors, because names that look alike are the better
half of coreference.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from m3dllm.systems.supervised.shapes import SENTENCE_ENDS
from m3dllm.types import Document

Array = np.ndarray[Any, Any]

NAMES = (
    "same text",
    "same text in small letters",
    "same last word (Chinese: last two characters)",
    "same first word (Chinese: first character)",
    "the first's words are all in the second",
    "the second's words are all in the first",
    "share of words in common",
    "similarity of spelling",
    "similarity of the closest parts of their spelling",
    "the first is the initials of the second, or the other way round",
    "same type",
    "the first comes earlier",
    "nearness in words",
    "nearness in mentions",
    "same sentence",
    "next to each other",
    "nested",
    "no mention of the type between",
    "the first begins with a capital",
    "the second begins with a capital",
    "the first's length in words",
    "the second's length in words",
)
"""The features, in their order; all lie in 0 to 1. "First" and "second" are the row and the column."""
N_FEATURES = len(NAMES)


def pair_features(
    document: Document,
    words: Sequence[tuple[int, int]],
    spans: Sequence[tuple[int, int]],
    first: Array,
    last: Array,
    kinds: Array,
) -> Array:
    """(mentions, mentions, features), float32, of mentions in text order.

    `first` and `last` are the words of each mention, `kinds` the numbers of their types, each (mentions,).
    """
    n = len(spans)
    if n == 0:
        return np.zeros((0, 0, N_FEATURES), dtype=np.float32)
    from rapidfuzz import fuzz, process

    texts = [document.text[start:end] for start, end in spans]
    small = [text.lower() for text in texts]
    chinese = document.lang == "zh"
    parts = [list(text.replace(" ", "")) if chinese else text.split() for text in small]
    parts = [part or [text] for part, text in zip(parts, small, strict=True)]
    ends = [tuple(part[-2:]) if chinese else part[-1] for part in parts]
    initials = [part[0] for part in parts] if chinese else ["".join(word[0] for word in part) for part in parts]

    columns: dict[Hashable, int] = {}
    bags = np.zeros((n, sum(len(part) for part in parts)), dtype=np.float32)
    for i, part in enumerate(parts):
        for word in part:
            bags[i, columns.setdefault(word, len(columns))] = 1
    bags = bags[:, : len(columns)]
    common = bags @ bags.T
    size = bags.sum(1)

    sentence = np.cumsum([0] + [document.text[start:end] in SENTENCE_ENDS for start, end in words])[:-1]
    order = np.arange(n)
    earlier = order[:, None] < order[None, :]
    gap = np.where(earlier, first[None, :] - last[:, None], first[:, None] - last[None, :]) - 1
    nested = (gap < 0) & ~np.eye(n, dtype=bool)
    same_type = kinds[:, None] == kinds[None, :]
    rank = (same_type & earlier).sum(0)  # how many mentions of its type come before each
    capital = np.array([float(text[:1].isupper()) for text in texts])
    length = np.minimum(last - first + 1, 8) / 8
    is_initials = _equal(initials, small) & (np.array([len(part) for part in parts]) > 1)[:, None]
    if chinese:
        is_initials[:] = False
    square = np.ones((n, n))
    rows = (
        _equal(texts, texts),
        _equal(small, small),
        _equal(ends, ends),
        _equal([part[0] for part in parts], [part[0] for part in parts]),
        common >= size[:, None],
        common >= size[None, :],
        common / np.maximum(size[:, None], size[None, :]),
        process.cdist(small, small, scorer=fuzz.ratio) / 100,
        process.cdist(small, small, scorer=fuzz.partial_ratio) / 100,
        is_initials | is_initials.T,
        same_type,
        earlier,
        1 / (1 + np.maximum(gap, 0) / 5),
        1 / (1 + np.abs(order[:, None] - order[None, :])),
        sentence[first][:, None] == sentence[first][None, :],
        gap <= 1,
        nested,
        same_type & (np.abs(rank[:, None] - rank[None, :]) <= 1),
        capital[:, None] * square,
        capital[None, :] * square,
        length[:, None] * square,
        length[None, :] * square,
    )
    return np.stack([np.asarray(row, dtype=np.float32) for row in rows], -1)


def _equal(left: Sequence[Hashable], right: Sequence[Hashable]) -> Array:
    """(left, right), booleans: where the two are equal."""
    number: dict[Hashable, int] = {}
    rows = np.array([number.setdefault(value, len(number)) for value in left])
    columns = np.array([number.setdefault(value, len(number)) for value in right])
    found: Array = rows[:, None] == columns[None, :]
    return found
