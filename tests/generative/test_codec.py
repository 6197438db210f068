"""Text as pieces and back, with a vocabulary of its own and with a pretrained tokenizer's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.systems.generative.codec import SLOTS, UNKNOWN, Slots, TinyCodec
from m3dllm.tokens import tokens_of
from tests.generative.t5 import write_t5_tokenizer
from tests.supervised.documents import LABELS

TEXTS = [
    ("a", "Ada was born in London ."),
    ("b", "Bela was born in Paris ."),
    ("c", "苏珊出生在北京。"),
    ("d", "乔治出生在南京。"),
]


def tiny(fewest=2, more=()):
    return TinyCodec.of(TEXTS, LABELS, fewest, more)


def squeezed(text):
    return "".join(text.split())


def test_words_of_several_videos_are_pieces_and_others_are_slots():
    codec, slots = tiny(), Slots()
    assert codec.words == (".", "born", "in", "was", "。", "京", "出", "在", "生")
    pieces = codec.encode("Zoe was born in Zurich .", slots)
    assert list(slots.pieces) == ["Zoe", "Zurich"]
    assert codec.encode("Zurich", slots) == pieces[4:5]


def test_a_slot_says_how_its_word_is_written():
    codec = tiny()
    (upper,), (lower,), (digits,) = (codec.encode(word, Slots()) for word in ("Zoe", "zoe", "1843"))
    assert len({piece // SLOTS for piece in (upper - codec.size, lower - codec.size, digits - codec.size)}) == 3


@given(st.text(st.sampled_from("Ada Bela12 <spot>[3]O7,PER-LOC_birth.京 在苏\n")))
def test_a_text_comes_back_up_to_white_space(text):
    codec, slots = tiny(), Slots()
    assert squeezed(codec.decode(codec.encode(text, slots), slots)) == squeezed(text)


@pytest.mark.parametrize("atom", ["<spot>", "<asoc>", "[7]", "O12", "PER-PER_couple", "PER"])
def test_marks_numbers_candidates_and_types_are_a_piece_each(atom):
    assert len(tiny().encode(atom, Slots())) == 1


def test_a_type_inside_a_word_is_no_piece():
    codec, slots = tiny(), Slots()
    assert codec.decode(codec.encode("PERFECT", slots), slots) == "PERFECT"
    assert list(slots.pieces) == ["PERFECT"]


def test_words_beyond_the_slots_are_unknown_and_cannot_be_read_back():
    codec, slots = tiny(), Slots()
    pieces = codec.encode(" ".join(f"Name{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(SLOTS + 1)), slots)
    assert pieces[-1] == UNKNOWN
    assert codec.knows(pieces[:-1])
    assert not codec.knows(pieces)
    assert not codec.knows([])


def test_words_of_the_instructions_are_always_known():
    assert tokens_of("extract this")
    assert {"extract", "this"} <= set(tiny(more=["extract this"]).words)


def test_a_pretrained_tokenizer_has_the_marks_as_pieces(tmp_path):
    from m3dllm.systems.generative.codec import load_codec

    codec = load_codec(str(write_t5_tokenizer(tmp_path)))
    pieces = codec.encode("PER, Ada <spot> [3] <asoc> [4]", Slots())
    assert sum(codec.encode(mark, Slots())[0] in pieces for mark in ("<spot>", "<asoc>")) == 2
    assert squeezed(codec.decode([*pieces, codec.end, codec.pad], Slots())) == "PER,Ada<spot>[3]<asoc>[4]"
    codec.save(tmp_path / "again")
    assert load_codec(str(tmp_path / "again")).encode("PER, Ada <spot>", Slots()) == codec.encode(
        "PER, Ada <spot>", Slots()
    )
