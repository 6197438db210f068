"""Telling languages by letters, and taking a text in two languages apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.corpora.bilingual import by_language, is_bilingual, language, repetition, whole

LINES = ("Ada met Bela.", "艾达遇见了贝拉。", "", "  ", "1999", "我是faith Lapidus。", "They left.", "她走了。")


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("Ada met Bela.", "en"),
        ("艾达遇见了贝拉。", "zh"),
        ("美国之音新闻，我是faith Lapidus。", "zh"),
        ("The word is 茶 in Chinese", "en"),
        ("Élodie", "en"),
        ("1999 — 12 !", None),
        ("", None),
    ],
)
def test_the_language_is_detected_by_characters_against_words(text, lang):
    assert language(text) == lang


def test_english_and_then_chinese_become_two_parts():
    text = "Ada left.\nShe ran.\n艾达走了。\n"
    english, chinese = by_language(text)
    assert (english.lang, english.text) == ("en", "Ada left.\nShe ran.\n")
    assert (chinese.lang, chinese.text) == ("zh", "艾达走了。\n")


def test_interleaved_lines_become_two_parts():
    text = "Ada left.\n艾达走了。\nShe ran.\n她跑了。"
    assert [part.text for part in by_language(text)] == ["Ada left.\nShe ran.\n", "艾达走了。\n她跑了。"]


def test_a_span_is_placed_in_its_part():
    text = "Ada left.\n艾达走了。\nShe ran.\n"
    english, chinese = by_language(text)
    start = text.index("She")
    assert english.place(start, start + 3) == (10, 13)
    assert english.text[10:13] == "She"
    assert chinese.place(start, start + 3) is None


def test_a_span_over_lines_of_two_languages_is_in_no_part():
    text = "Ada left.\n艾达走了。\n"
    assert [part.place(4, 12) for part in by_language(text)] == [None, None]


def test_a_span_over_lines_with_others_between_is_in_no_part():
    text = "Ada left.\n艾达走了。\nShe ran.\n"
    assert [part.place(4, len(text) - 1) for part in by_language(text)] == [None, None]


def test_lines_without_letters_go_with_the_line_before_and_the_first_with_the_next():
    text = "1\n艾达走了。\n2\nAda left.\n3\n"
    assert [(part.lang, part.text) for part in by_language(text)] == [
        ("zh", "1\n艾达走了。\n2\n"),
        ("en", "Ada left.\n3\n"),
    ]


@pytest.mark.parametrize("text", ["", "\n\n", "1999\n"])
def test_a_text_without_letters_has_no_parts(text):
    assert by_language(text) == []


@given(st.lists(st.sampled_from(LINES)), st.sampled_from(["\n", "\r\n"]))
def test_parts_hold_every_character_once_and_place_it_where_it_stands(lines, end):
    text = end.join(lines)
    parts = by_language(text)
    if not parts:
        assert language(text) is None
        return
    assert sum(len(part.text) for part in parts) == len(text)
    for i, character in enumerate(text):
        (where,) = [(part, span) for part in parts if (span := part.place(i, i + 1))]
        assert where[0].text[slice(*where[1])] == character


def test_the_whole_text_is_a_part_that_moves_nothing():
    part = whole("苏珊", "zh")
    assert (part.text, part.place(0, 2)) == ("苏珊", (0, 2))


ONCE = "Ada left.\n艾达走了。\n"


def test_a_repetition_begins_where_everything_above_is_said_again():
    assert repetition(ONCE + ONCE, []) == len(ONCE)
    assert repetition("A.\nB.\n甲。\n乙。\nA.\n甲。\nB.\n乙。\n", []) == len("A.\nB.\n甲。\n乙。\n")


def test_a_repetition_that_is_annotated_is_none():
    assert repetition(ONCE + ONCE, [(0, 3), (len(ONCE), len(ONCE) + 3)]) is None


def test_a_repetition_below_the_last_annotation_is_found():
    assert repetition(ONCE * 3, [(2 * len(ONCE) - 3, 2 * len(ONCE) - 1)]) == 2 * len(ONCE)


@pytest.mark.parametrize("text", ["", "\n", ONCE, ONCE + "Ada left.\n", ONCE + ONCE + "New.\n", "Yes.\nNo.\nYes.\n"])
def test_what_says_something_new_or_only_some_lines_again_is_no_repetition(text):
    assert repetition(text, []) is None


def test_a_text_is_bilingual_where_a_quarter_of_its_lines_are_in_the_other_language():
    assert is_bilingual("A.\nB.\nC.\n甲。\n")
    assert not is_bilingual("A.\nB.\nC.\nD.\n甲。\n")
    assert not is_bilingual("")
