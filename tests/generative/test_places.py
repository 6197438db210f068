"""Windows of whole sentences, and where the texts of an answer stand."""

from __future__ import annotations

import pytest

from m3dllm.systems.generative.places import Places, windows
from m3dllm.tokens import tokens_of


def cut(text, most):
    return [text[words[0][0] : words[-1][1]] for words in windows(tokens_of(text), text, most)]


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("Ada came . Bo left . Cy stayed .", 6, ["Ada came . Bo left .", "Cy stayed ."]),
        ("她来了。他走了。", 4, ["她来了。", "他走了。"]),
        ("one two three four five", 2, ["one two", "three four", "five"]),
        ("no end", 9, ["no end"]),
        ("", 9, []),
    ],
)
def test_a_window_holds_whole_sentences_as_long_as_there_is_room(text, most, expected):
    assert cut(text, most) == expected


def places(text):
    return Places(text, tokens_of(text))


def test_a_text_stands_behind_the_one_that_was_written_before_it():
    found = places("Ada Byron met Bo . Ada left . Byron too .")
    written = ("Ada Byron", "Bo", "Ada", "Byron", "Byron", "Byron")
    assert [found.take(text) for text in written] == [(0, 9), (14, 16), (19, 22), (30, 35), (4, 9), None]


def test_a_mention_inside_of_another_is_found_where_none_stands_behind():
    found = places("the mayor of Basel left .")
    assert [found.take(text) for text in ("the mayor of Basel", "Basel")] == [(0, 18), (13, 18)]


def test_white_space_and_width_do_not_matter():
    text = "他在ＡＢＣ医院， Ada  Byron 也在"
    found = places(text)
    assert text[slice(*found.take("ABC 医院"))] == "ＡＢＣ医院"
    assert text[slice(*found.take("AdaByron"))] == "Ada  Byron"


def test_a_part_of_a_word_is_no_place_and_neither_is_what_lies_outside_of_the_window():
    text = "Adam met Eve . Ada left ."
    first, second = windows(tokens_of(text), text, 4)
    assert Places(text, first).take("Ada") is None
    assert Places(text, second).take("Ada") == (15, 18)
    assert Places(text, second).take("Eve") is None
    assert Places(text, first).take(" ") is None
