from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.extract.cutting import _places, cut
from m3dllm.subtitles import Cue


def every(seconds: float, n: int, *, long_s: float = 4.0) -> list[Cue]:
    return [Cue(seconds * i, seconds * i + long_s, f"line {i}") for i in range(n)]


def lengths(pieces) -> list[float]:
    return [round(piece.end_s - piece.start_s, 1) for piece in pieces]


def test_a_short_film_is_one_piece():
    cues = every(5, 20)
    assert [piece.cues for piece in cut(cues, 100)] == [tuple(cues)]


def test_a_long_film_is_cut_in_its_widest_gaps():
    cues = [Cue(t, t + 4, "x") for t in (*range(0, 90, 5), *range(100, 170, 5), *range(180, 250, 5))]
    assert [piece.start_s for piece in cut(cues, 250)] == [0.0, 94.5, 174.5]


def test_between_equal_gaps_the_end_of_a_sentence_wins():
    cues = [Cue(5 * i, 5 * i + 4, "x." if i == 17 else "x") for i in range(30)]
    assert [len(piece.cues) for piece in cut(cues, 150)] == [18, 12]


@pytest.mark.parametrize("mark", ["。", "？", "!"])
def test_sentences_end_in_both_languages(mark):
    cues = [Cue(5 * i, 5 * i + 4, f"她{mark}" if i == 14 else "她") for i in range(30)]
    assert [len(piece.cues) for piece in cut(cues, 150)] == [15, 15]


def test_a_film_without_subtitles_is_cut_all_the_same():
    pieces = cut([], 1000)
    assert all(60 <= length <= 120 for length in lengths(pieces))
    assert (pieces[0].start_s, pieces[-1].end_s) == (0.0, 1000)


def test_a_long_silence_is_cut_too():
    pieces = cut([Cue(0, 4, "a"), Cue(900, 904, "b")], 1000)
    assert max(lengths(pieces)) <= 120


def test_a_cue_that_is_longer_than_a_piece_stays_whole():
    pieces = cut([Cue(0, 500, "a"), Cue(500, 504, "b")], 510)
    assert [cue for piece in pieces for cue in piece.cues] == [Cue(0, 500, "a"), Cue(500, 504, "b")]


def test_nothing_is_one_piece_without_length():
    assert lengths(cut([], 0.0)) == [0.0]


def test_limits_that_cannot_be_kept_are_refused():
    with pytest.raises(ValueError, match="twice the shortest"):
        cut([], 500, shortest_s=100, longest_s=120)


def can_be_cut(places: list[float]) -> bool:
    """The slow twin: whether pieces of 60 to 120 s lead from the first place to the last."""
    reached = {places[0]}
    for place in places[1:]:
        if any(60 <= place - before <= 120 for before in reached):
            reached.add(place)
    return places[-1] in reached


@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(1, 40), st.sampled_from(("a", "b.", "她。"))), max_size=60),
    st.integers(0, 1000),
)
def test_pieces_leave_nothing_out_and_keep_their_lengths_where_there_is_a_way(gaps, silence):
    cues, now = [], 0.0
    for gap, long_s, text in gaps:
        cues.append(Cue(now + gap, now + gap + long_s, text))
        now += gap + long_s
    pieces = cut(cues, now + silence)
    assert [cue for piece in pieces for cue in piece.cues] == cues
    assert (pieces[0].start_s, pieces[-1].end_s) == (0.0, now + silence)
    assert all(a.end_s == b.start_s for a, b in pairwise(pieces))
    assert all(piece.start_s <= cue.start_s and cue.end_s <= piece.end_s for piece in pieces for cue in piece.cues)
    places = [place.time_s for place in _places(cues, now + silence, 60.0)]
    if now + silence > 120 and can_be_cut(places):
        assert all(60 <= piece.end_s - piece.start_s <= 120 for piece in pieces)
