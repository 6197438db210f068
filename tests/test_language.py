from __future__ import annotations

import pytest

from m3dllm.language import decoded, lang_of, language_of

TIMES = "1\n00:00:01,000 --> 00:00:02,000\n"
SIMPLIFIED = "她没有告诉任何人，就在那天晚上离开了家。你知道吗？我们都在等她回来。"
TRADITIONAL = "她沒有告訴任何人，就在那天晚上離開了家。你知道嗎？我們都在等她回來。"
FRENCH = "Où est passée la fenêtre ? Ça, je l'ai déjà dit."


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("She told nobody and left the house that evening.", "English"),
        (SIMPLIFIED, "Chinese"),
        (TRADITIONAL, "Chinese"),
        ("Sie hat es niemandem gesagt und ist nicht zurück, das ist die Wahrheit.", "German"),
        (FRENCH + " Je ne sais pas ce que vous avez.", "French"),
        ("左に見えるのは昔の家です", "Japanese"),
        ("Слева мы видим дом", "Russian or another language in Cyrillic letters"),
        ("왼쪽에 집이 보입니다", "Korean"),
        ("", ""),
        ("1999 … 42 %", ""),
        ("Marie Curie, Warsaw", "English"),
    ],
)
def test_a_language_is_named(text, name):
    assert language_of(text) == name


def test_names_in_english_letters_leave_a_chinese_text_chinese():
    assert lang_of("居里夫人 Marie Curie 一八六七年生于华沙，后来去了巴黎。") == "zh"


def test_a_chinese_name_leaves_an_english_text_english():
    assert lang_of("The painter 齐白石 was born in Xiangtan and lived in Beijing.") == "en"


def test_another_language_is_none_of_the_two():
    assert lang_of("Ich weiß nicht, was das ist und wer du bist.") is None


@pytest.mark.parametrize(
    ("text", "encoding", "name"),
    [
        (SIMPLIFIED, "utf-8", "utf-8"),
        (SIMPLIFIED, "utf-8-sig", "utf-8"),
        (SIMPLIFIED, "utf-16", "utf-16"),
        (SIMPLIFIED, "utf-16-le", "utf-16-le"),
        (TRADITIONAL, "utf-16-be", "utf-16-be"),
        (SIMPLIFIED, "gbk", "gbk"),
        (TRADITIONAL, "gbk", "gbk"),
        (TRADITIONAL, "big5", "big5"),
        (FRENCH, "latin-1", "latin-1"),
        ("Mädchen — “ja”, sagte Öttinger.", "cp1252", "latin-1"),
        ("こんにちは、私は東京に住んでいます。", "shift-jis", "shift-jis"),
        ("안녕하세요, 저는 서울에 삽니다.", "euc-kr", "euc-kr"),
        ("plain", "ascii", "utf-8"),
        ("", "ascii", "utf-8"),
    ],
)
def test_the_encoding_of_a_file_is_found(text, encoding, name):
    assert decoded((TIMES + text).encode(encoding)) == (TIMES + text, name)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"\x00", b"\xff", bytes(range(256)), b"\xff\xfe\0\0\x01"])
def test_any_bytes_are_decoded(data):
    assert isinstance(decoded(data)[0], str)
