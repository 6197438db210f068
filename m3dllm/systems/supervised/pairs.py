"""Lexical features of pairs of mentions, for all pairs of a document at once, without a model.

Not in the paper: our presets add them to the vectors, because matching names decide most of coreference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from m3dllm.systems.supervised.shapes import SENTENCE_ENDS
from m3dllm.types import Document, Lang

Array = np.ndarray[Any, Any]

OF_BOTH = (
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
    "same last word, and both begin with another",
    "same first word, and both end with another",
    "same type",
    "the first comes earlier",
    "nearness in words",
    "nearness in mentions",
    "same sentence",
    "next to each other",
    "a word between",
    "a comma between",
    "nested",
    "no mention of the type between",
)
OF_ONE = (
    "begins with a capital",
    "is all in capitals",
    "holds a digit",
    "has many words",
    "begins with a determiner",
    "begins with a possessive",
    "has a genitive in it",
    "stands after a possessive",
    "stands before a genitive",
    "stands after a comma",
    "stands before a comma",
    "stands after a form of 'to be'",
    "stands after 'and' or the like",
    "has a text that others have",
    "has a last word that other mentions have",
    "has a last word that other texts have",
)
NAMES = (*OF_BOTH, *(f"the {which} {name}" for which in ("first", "second") for name in OF_ONE))
"""The features, in order; all are from 0 to 1. "First" and "second" are row and column."""
N_FEATURES = len(NAMES)

ARTICLES = {"en": frozenset(["the", "a", "an", "this", "that", "these", "those"]), "zh": frozenset("这那该此两一")}
POSSESSIVES = {"en": frozenset(["his", "her", "their", "its", "my", "our", "your"]), "zh": frozenset("他她它其")}
GENITIVES = {"en": frozenset(["of", "'s", "\u2019s", "'", "\u2019"]), "zh": frozenset("的")}
COMMAS = {"en": frozenset(","), "zh": frozenset("，、")}
TO_BE = {"en": frozenset(["is", "was", "are", "were", "be", "been", "became", "as"]), "zh": frozenset("是为叫任")}
AND = {"en": frozenset(["and", "or", "with", "between"]), "zh": frozenset("和与、及跟")}


def pair_features(
    document: Document,
    words: Sequence[tuple[int, int]],
    spans: Sequence[tuple[int, int]],
    first: Array,
    last: Array,
    kinds: Array,
) -> Array:
    """(mentions, mentions, features), float32, of mentions in document order.

    `first` and `last` are the word indices of each mention, `kinds` the indices of their types, each (mentions,).
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
    ends: list[Hashable] = [tuple(part[-2:]) if chinese else part[-1] for part in parts]
    begins = [part[0] for part in parts]
    initials = begins if chinese else ["".join(word[0] for word in part) for part in parts]
    around = [document.text[start:end].lower() for start, end in words]

    columns: dict[Hashable, int] = {}
    bags = np.zeros((n, sum(len(part) for part in parts)), dtype=np.float32)
    for i, part in enumerate(parts):
        for word in part:
            bags[i, columns.setdefault(word, len(columns))] = 1
    bags = bags[:, : len(columns)]
    common = bags @ bags.T
    size = bags.sum(1)

    sentence = np.cumsum([0] + [word in SENTENCE_ENDS for word in around])[:-1]
    order = np.arange(n)
    earlier = order[:, None] < order[None, :]
    gap = np.where(earlier, first[None, :] - last[:, None], first[:, None] - last[None, :]) - 1
    nested = (gap < 0) & ~np.eye(n, dtype=bool)
    same_type = kinds[:, None] == kinds[None, :]
    rank = (same_type & earlier).sum(0)  # how many mentions of its type come before each
    same_end, same_begin = _equal(ends, ends), _equal(begins, begins)
    several = np.array([len(part) > 1 for part in parts])
    both_several = several[:, None] & several[None, :]
    is_initials = _equal(initials, small) & several[:, None] & (not chinese)
    own = _of_one(document.lang, texts, small, parts, ends, around, first, last)
    before_comma = own[:, OF_ONE.index("stands before a comma")]
    comma = (gap == 1) & (np.where(earlier, before_comma[:, None], before_comma[None, :]) > 0)
    rows = (
        _equal(texts, texts),
        _equal(small, small),
        same_end,
        same_begin,
        common >= size[:, None],
        common >= size[None, :],
        common / np.maximum(size[:, None], size[None, :]),
        process.cdist(small, small, scorer=fuzz.ratio) / 100,
        process.cdist(small, small, scorer=fuzz.partial_ratio) / 100,
        is_initials | is_initials.T,
        both_several & same_end & ~same_begin,
        both_several & same_begin & ~same_end,
        same_type,
        earlier,
        1 / (1 + np.maximum(gap, 0) / 5),
        1 / (1 + np.abs(order[:, None] - order[None, :])),
        sentence[first][:, None] == sentence[first][None, :],
        gap <= 0,
        gap == 1,
        comma,
        nested,
        same_type & (np.abs(rank[:, None] - rank[None, :]) <= 1),
    )
    pairs = np.stack([np.asarray(row, dtype=np.float32) for row in rows], -1)
    square = (n, n, len(OF_ONE))
    both = [np.broadcast_to(own[:, None], square), np.broadcast_to(own[None, :], square)]
    return np.concatenate([pairs, *both], -1)


def _of_one(
    lang: Lang,
    texts: Sequence[str],
    small: Sequence[str],
    parts: Sequence[Sequence[str]],
    ends: Sequence[Hashable],
    around: Sequence[str],
    first: Array,
    last: Array,
) -> Array:
    """(mentions, features of one), float32."""
    before = [around[i - 1] if i > 0 else "" for i in first.tolist()]
    after = [around[i + 1] if i + 1 < len(around) else "" for i in last.tolist()]
    of_text, of_end = Counter(small), Counter(ends)
    texts_of_end: dict[Hashable, set[str]] = {}
    for text, end in zip(small, ends, strict=True):
        texts_of_end.setdefault(end, set()).add(text)
    rows = [
        (
            text[:1].isupper(),
            text.isupper() and len(text) > 1,
            any(c.isdigit() for c in text),
            min(len(part), 8) / 8,
            part[0] in ARTICLES[lang],
            part[0] in POSSESSIVES[lang],
            not GENITIVES[lang].isdisjoint(part),
            b in POSSESSIVES[lang],
            a in GENITIVES[lang],
            b in COMMAS[lang],
            a in COMMAS[lang],
            b in TO_BE[lang],
            b in AND[lang],
            min(of_text[low] - 1, 4) / 4,
            min(of_end[end] - 1, 6) / 6,
            min(len(texts_of_end[end]) - 1, 4) / 4,
        )
        for text, low, part, end, b, a in zip(texts, small, parts, ends, before, after, strict=True)
    ]
    return np.array(rows, dtype=np.float32)


def _equal(left: Sequence[Hashable], right: Sequence[Hashable]) -> Array:
    """(left, right), booleans: where the two are equal."""
    number: dict[Hashable, int] = {}
    rows = np.array([number.setdefault(value, len(number)) for value in left])
    columns = np.array([number.setdefault(value, len(number)) for value in right])
    found: Array = rows[:, None] == columns[None, :]
    return found
