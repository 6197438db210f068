"""Where a text that a system wrote stands in the document."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.normalize.align import Aligner, fold
from m3dllm.types import Document
from tests.said import EN, ZH, codes, issues, one_chain, read, spans

# --- mentions: where they stand ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mention", "expected"),
    [
        ("Susan", [(0, 5), (49, 54)]),
        (["Susan"], [(0, 5), (49, 54)]),
        (["Susan", 2], [(49, 54)]),
        (["George", 2, 1, 2], [(36, 42), (10, 16)]),
        ({"start": 25, "end": 33, "type": "LOC"}, [(25, 33)]),
        ({"start": 1, "end": 3}, [(1, 3)]),
        ({"start": 0.0, "end": 5}, [(0, 5)]),
        ({"text": "Susan"}, [(0, 5), (49, 54)]),
        ({"text": "Susan", "occurrence": 2}, [(49, 54)]),
        ({"text": "Susan", "occurrences": [2, 1], "type": "PER"}, [(49, 54), (0, 5)]),
        ({"text": "Susan", "start": 49, "end": 54}, [(49, 54)]),
    ],
)
def test_every_form_of_a_mention_is_read(mention, expected):
    prediction = read(one_chain(mention))
    assert spans(prediction) == expected
    assert prediction.issues == ()


def test_a_text_means_the_places_outside_longer_mentions():
    prediction = read(
        {"chains": [{"type": "LOC", "mentions": ["北京"]}, {"type": "ORG", "mentions": ["北京大学"]}]}, ZH
    )
    assert spans(prediction) == [(16, 18), (7, 11)]
    assert prediction.issues == ()


def test_a_text_that_stands_only_inside_longer_mentions_is_covered():
    prediction = read(one_chain("New York", "York"))
    assert spans(prediction) == [(25, 33)]
    assert issues(prediction) == [("covered", "chains[0].mentions[1]")]


def test_a_number_reaches_into_longer_mentions():
    assert spans(read(one_chain("New York", ["York", 1]))) == [(25, 33), (29, 33)]


def test_occurrences_are_counted_over_all_places_on_token_boundaries():
    prediction = read(one_chain("George Bush", ["George", 2]))
    assert spans(prediction) == [(10, 21), (36, 42)]


def test_an_occurrence_that_is_not_there_is_out_of_range():
    prediction = read(one_chain(["Susan", 2, 3, 0]))
    assert spans(prediction) == [(49, 54)]
    assert issues(prediction) == [("occurrence_out_of_range", "chains[0].mentions[0]")] * 2


def test_a_number_written_as_text_is_read():
    prediction = read(one_chain(["Susan", "2"]))
    assert spans(prediction) == [(49, 54)]
    assert issues(prediction) == [("repaired", "chains[0].mentions[0]")]


def test_invented_text_is_not_found():
    prediction = read(one_chain("Napoleon", "Susan"))
    assert spans(prediction) == [(0, 5), (49, 54)]
    assert issues(prediction) == [("text_not_found", "chains[0].mentions[0]")]


@pytest.mark.parametrize(
    "offsets", [{"start": 0, "end": 57}, {"start": 5, "end": 5}, {"start": -1, "end": 2}, {"start": 3}, {"end": "x"}]
)
def test_offsets_that_leave_the_text_are_bad(offsets):
    prediction = read(one_chain(offsets, "Bush"))
    assert spans(prediction) == [(17, 21)]
    assert issues(prediction) == [("bad_offsets", "chains[0].mentions[0]")]


def test_the_text_beside_wrong_offsets_wins():
    prediction = read(one_chain({"text": "Bush", "start": 0, "end": 4}))
    assert spans(prediction) == [(17, 21)]
    assert codes(prediction) == ["bad_offsets"]


@pytest.mark.parametrize("mention", [3, None, [], [3], ["Susan", None], ["Susan", 1.5], ["Susan", "Bush"], "", {}])
def test_what_is_no_mention_has_a_bad_shape(mention):
    prediction = read(one_chain(mention, "Bush"))
    assert spans(prediction) == [(17, 21)]
    assert issues(prediction) == [("bad_shape", "chains[0].mentions[0]")]


# --- mentions: folded, unaligned, fuzzy -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said", "expected"),
    [
        (EN, "SUSAN", [(0, 5), (49, 54)]),
        ("Peter ' s father , Pat", "Peter's father", [(0, 16)]),
        ("the “Mail” of 1912", 'the "Mail"', [(0, 10)]),
        ("a ﬁne café", "Fine cafe\u0301", [(2, 10)]),
        ("他叫Ｔｏｍ。", "tom", [(2, 5)]),
        ("乔治·布什来了", "乔治・布什", [(0, 5)]),
        ("𝐀da and 🎬", "ada", [(0, 3)]),
        ("Straße 5", "STRASSE 5", [(0, 8)]),
        ("שָׁלוֹם Ada", "ADA", [(8, 11)]),
    ],
)
def test_folding_gives_offsets_into_the_text_as_it_is(text, said, expected):
    prediction = read(one_chain(said), text)
    assert spans(prediction) == expected
    assert codes(prediction) == ["folded"]


def test_what_stands_there_exactly_is_not_folded():
    assert spans(read(one_chain("new york"), "New York , new york")) == [(11, 19)]


def test_another_case_of_a_word_is_likelier_than_a_part_of_one():
    prediction = read(one_chain("he"), "He went there .")
    assert spans(prediction) == [(0, 2)]
    assert codes(prediction) == ["folded"]


def test_half_of_a_folded_character_is_no_place():
    assert codes(read(one_chain("F"), "ﬁ ne"))[0] == "text_not_found"


def test_numbers_count_folded_places_too():
    assert spans(read(one_chain(["susan", 2]))) == [(49, 54)]


def test_a_text_inside_words_is_unaligned_and_means_one_place():
    prediction = read(one_chain("Ada"), "Adamant Adas")
    assert spans(prediction) == [(0, 3)]
    assert codes(prediction) == ["unaligned"]


def test_an_unaligned_text_is_placed_at_the_edge_of_a_word_if_it_can():
    assert spans(read(one_chain("Ada"), "xAdax Adas")) == [(6, 9)]
    assert spans(read(one_chain("nad"), "Canada nads")) == [(7, 10)]


@pytest.mark.parametrize(
    ("text", "said", "expected"),
    [
        (EN, "Goerge Bush", [(10, 21)]),
        (EN, "Suzan", [(0, 5), (49, 54)]),
        ("他在中华人民共和国出生", "中华人民共合国", [(2, 9)]),
        ("Elizabeth Taylor was born .", "Elisabeth Taylor", [(0, 16)]),
        ("He met Hemingway .", "Hemingways", [(7, 16)]),
    ],
)
def test_a_misspelling_means_the_words_of_the_document(text, said, expected):
    prediction = read(one_chain(said), text)
    assert spans(prediction) == expected
    assert codes(prediction) == ["fuzzy"]
    assert all(repr(text[slice(*expected[0])]) in issue.detail for issue in prediction.issues)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (EN, " "),
        ("March 1995 was cold", "March 1996"),
        ("Anne left", "Anna"),
        ("乔治来了", "乔志"),
        ("", "Susan"),
        ("the end", "Theodore"),
    ],
)
def test_what_only_resembles_is_not_found(text, said):
    assert codes(read(one_chain(said), text))[0] == "text_not_found"


WORDS = st.lists(st.sampled_from(["Ada", "ADA", "Ａda", "'", "’", "Bo", "ﬁ"]), min_size=1, max_size=6).map(" ".join)


@given(WORDS, st.sampled_from(["ada", "ada'", "bo fi", "FI", "'s", "Ada Bo", "a"]))
def test_folded_places_agree_with_folding_every_run_of_tokens(text, said):
    tokens = [(i, i + len(word)) for word, i in _placed(text)]
    runs = [(s, e) for s, _ in tokens for _, e in tokens if s < e]
    found = Aligner(Document("d", "en", text, tokens=tuple(tokens))).find(said)
    if any(text[s:e] == said for s, e in runs):
        assert found is not None
        assert found.status == "exact"
    else:
        folded = [run for run in runs if fold(text[slice(*run)]) == fold(said)]
        assert (list(found.places) if found and found.status == "folded" else []) == folded


def _placed(text: str) -> list[tuple[str, int]]:
    places, at = [], 0
    for word in text.split(" "):
        places.append((word, at))
        at += len(word) + 1
    return places


TEXTS = st.lists(st.sampled_from(["甲", "乙", "甲乙", "乙甲乙"]), min_size=1, max_size=4)


@given(st.text("甲乙丙", max_size=12), TEXTS)
def test_bare_texts_agree_with_placing_the_longest_first(text, said):
    taken: list[tuple[int, int]] = []
    for name in sorted(set(said), key=len, reverse=True):
        here = [(i, i + len(name)) for i in range(len(text)) if text.startswith(name, i)]
        taken += [(s, e) for s, e in here if not any(a <= s and e <= b and b - a > e - s for a, b in taken)]
    assert sorted(spans(read(one_chain(*said), text))) == sorted(taken)
