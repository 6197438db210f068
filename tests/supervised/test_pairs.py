from __future__ import annotations

import numpy as np
import pytest

from m3dllm.systems.supervised.data import word_ranges, words_of
from m3dllm.systems.supervised.pairs import N_FEATURES, NAMES, pair_features
from m3dllm.types import Document


def features(text, spans, *, lang="en", kinds=None):
    """name -> (mentions, mentions)."""
    document = Document("d", lang, text)
    words, _ = words_of(document)
    first, last = word_ranges(words, spans)
    found = pair_features(document, words, spans, first, last, np.array(kinds or [0] * len(spans)))
    return dict(zip(NAMES, np.moveaxis(found, -1, 0), strict=True))


def spans_of(text, *parts):
    at, spans = 0, []
    for part in parts:
        at = text.index(part, at)
        spans.append((at, at + len(part)))
        at += len(part)
    return spans


ENGLISH = "Ada King met the old man . World Health Organization , or WHO , knew king Ada ."
FOUND = features(
    ENGLISH, spans_of(ENGLISH, "Ada King", "the old man", "World Health Organization", "WHO", "king", "Ada")
)


@pytest.mark.parametrize(
    ("name", "row", "column", "value"),
    [
        ("same text", 0, 0, 1),
        ("same text", 0, 5, 0),
        ("same last word (Chinese: last two characters)", 0, 4, 1),
        ("same first word (Chinese: first character)", 0, 5, 1),
        ("the first's words are all in the second", 5, 0, 1),
        ("the first's words are all in the second", 0, 5, 0),
        ("the second's words are all in the first", 0, 5, 1),
        ("share of words in common", 0, 5, 0.5),
        ("similarity of spelling", 0, 0, 1),
        ("similarity of the closest parts of their spelling", 0, 5, 1),
        ("the first is the initials of the second, or the other way round", 2, 3, 1),
        ("the first is the initials of the second, or the other way round", 3, 2, 1),
        ("the first is the initials of the second, or the other way round", 0, 3, 0),
        ("the first comes earlier", 0, 1, 1),
        ("the first comes earlier", 1, 0, 0),
        ("nearness in words", 4, 5, 1),
        ("nearness in mentions", 0, 1, 0.5),
        ("same sentence", 0, 1, 1),
        ("same sentence", 0, 2, 0),
        ("next to each other", 4, 5, 1),
        ("next to each other", 0, 2, 0),
        ("the first begins with a capital", 1, 0, 0),
        ("the second begins with a capital", 1, 0, 1),
        ("the first has many words", 2, 0, 3 / 8),
        ("the first begins with a determiner", 1, 0, 1),
        ("the second begins with a determiner", 0, 1, 1),
        ("the first begins with a determiner", 0, 1, 0),
        ("the first is all in capitals", 3, 0, 1),
        ("the first stands before a comma", 2, 3, 1),
        ("the first stands after 'and' or the like", 3, 0, 1),
        ("the first has a last word that other mentions have", 0, 1, 1 / 6),
        ("the first has a last word that other texts have", 4, 1, 1 / 4),
        ("the first has a text that others have", 0, 1, 0),
    ],
)
def test_a_feature_says_what_it_is_called(name, row, column, value):
    assert FOUND[name][row, column] == pytest.approx(value)


def test_two_of_one_surname_differ_in_their_first_names():
    text = "Ada King , Bob King"
    found = features(text, spans_of(text, "Ada King", "Bob King"))
    assert found["same last word, and both begin with another"][0, 1] == 1
    assert found["same first word, and both end with another"][0, 1] == 0
    assert found["a comma between"].tolist() == [[0, 1], [1, 0]]


def test_a_possessive_and_a_genitive_are_seen_from_both_sides():
    text = "the king 's sister met his old friend"
    found = features(text, spans_of(text, "the king", "old friend"))
    assert found["the first stands before a genitive"][0, 1] == 1
    assert found["the second stands after a possessive"][0, 1] == 1


def test_types_and_what_stands_between():
    text = "Ada Bob Cleo"
    found = features(text, spans_of(text, "Ada", "Bob", "Cleo"), kinds=[0, 1, 0])
    assert found["same type"].tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    assert found["no mention of the type between"][0, 2] == 1
    assert features(text, spans_of(text, "Ada", "Bob", "Cleo"))["no mention of the type between"][0, 2] == 0


def test_chinese_is_compared_by_characters():
    text = "李小龙和小龙，还有陈小龙"
    found = features(text, spans_of(text, "李小龙", "小龙", "陈小龙"), lang="zh")
    assert found["same last word (Chinese: last two characters)"][0].tolist() == [1, 1, 1]
    assert found["same first word (Chinese: first character)"][0].tolist() == [1, 0, 0]
    assert found["the first's words are all in the second"][1].tolist() == [1, 1, 1]
    assert found["share of words in common"][0, 2] == pytest.approx(2 / 3)


def test_a_nested_mention_is_called_so():
    text = "University of Arles"
    found = features(text, [(0, 19), (14, 19)])
    assert found["nested"].tolist() == [[0, 1], [1, 0]]


def test_all_features_lie_between_0_and_1():
    assert all(values.min() >= 0 and values.max() <= 1 for values in FOUND.values())


def test_no_mentions_have_no_features():
    document = Document("d", "en", "")
    empty = np.zeros(0, dtype=np.int64)
    assert pair_features(document, (), (), empty, empty, empty).shape == (0, 0, N_FEATURES)
