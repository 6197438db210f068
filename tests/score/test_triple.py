from __future__ import annotations

from m3dllm.score.triple import triple
from m3dllm.types import PRF
from tests.score.letters import region, said

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


def shown(words: str, *regions, kind: str = "PER"):
    return said(words, regions=regions, kind=kind)


def test_span_type_and_region_must_be_right():
    gold = shown("a", region(0, *LEFT, chain="a"))
    assert triple(gold, shown("a", region(0, *LEFT, chain="a"))) == PRF(1, 1, 1, 1)
    assert triple(gold, shown("b", region(0, *LEFT, chain="b"))) == PRF(0, 1, 0, 1)
    assert triple(gold, shown("a", region(0, *LEFT, chain="a"), kind="LOC")) == PRF(0, 1, 0, 1)
    assert triple(gold, shown("a", region(0, *RIGHT, chain="a"))) == PRF(0, 1, 0, 1)
    assert triple(gold, shown("a", region(24, *LEFT, chain="a"))) == PRF(0, 1, 0, 1)


def test_one_of_several_regions_is_enough():
    gold = shown("a", region(0, *LEFT, chain="a"), region(24, *LEFT, chain="a"))
    assert triple(gold, shown("a", region(24, *LEFT, chain="a"))) == PRF(1, 1, 1, 1)


def test_a_mention_that_nobody_shows_is_right_without_a_region():
    assert triple(shown("a"), shown("a")) == PRF(1, 1, 1, 1)


def test_a_region_on_one_side_only_is_wrong():
    with_region = shown("a", region(0, *LEFT, chain="a"))
    assert triple(with_region, shown("a")) == triple(shown("a"), with_region) == PRF(0, 1, 0, 1)


def test_every_mention_of_a_chain_is_shown_by_its_regions():
    gold = shown("ab", region(0, *LEFT, chain="ab"))
    assert triple(gold, shown("a b", region(0, *LEFT, chain="a"))) == PRF(1, 2, 1, 2)


def test_a_region_of_no_chain_shows_nothing():
    assert triple(shown("a"), shown("a", region(0, *LEFT))) == PRF(1, 1, 1, 1)


def test_a_region_outside_the_annotated_frames_shows_nothing():
    assert triple(shown("a"), shown("a", region(7, *LEFT, chain="a")), frames={0}) == PRF(1, 1, 1, 1)
