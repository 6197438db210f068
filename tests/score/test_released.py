from __future__ import annotations

import pytest

from m3dllm.score.released import b3_of_common, mention_pairs, released_chain, released_relation
from m3dllm.types import PRF
from tests.score.letters import chains, said


def test_its_muc_counts_mention_pairs():
    # gold {abcd}: 6 pairs; pred {abc}: 3, all right.
    assert mention_pairs(chains("abcd"), chains("abc")) == PRF(3, 3, 3, 6)


def test_its_b3_leaves_out_what_one_side_lacks():
    # a and b are common. Precision: 2/3 each; recall 1 each; x, c and d cost nothing.
    found = b3_of_common(chains("ab cd"), chains("abx"))
    assert (found.p_den, found.r_den, found.r_num) == (2, 2, 2)
    assert found.p_num == pytest.approx(4 / 3, abs=1e-12)


def test_it_drops_predicted_single_mentions_and_keeps_those_of_gold():
    found = released_chain(said("ab c"), said("ab c"))
    assert found["muc"] == PRF(1, 1, 1, 1)
    assert found["b3"] == PRF(2, 2, 2, 2)
    assert found["ceaf_m"] == PRF(2, 2, 2, 3)


def test_its_relations_are_undirected():
    gold, pred = said("a b", [("a", "b", "r")]), said("a b", [("b", "a", "r")])
    assert released_relation(gold, pred) == PRF(1, 1, 1, 1)


def test_its_relations_are_matched_greedily():
    # The largest matching is 2; in file order the first pred relation takes the one that the second needs.
    gold = said("ab cd e", [("ab", "e", "r"), ("cd", "e", "r")])
    pred = said("ac b e", [("ac", "e", "r"), ("b", "e", "r")])
    assert released_relation(gold, pred) == PRF(1, 2, 1, 2)


def test_its_relations_do_not_collapse():
    twice = said("a b", [("a", "b", "r"), ("a", "b", "r")])
    assert released_relation(said("a b", [("a", "b", "r")]), twice) == PRF(1, 2, 1, 1)


def test_nothing_is_absent():
    assert [counts.f1 for counts in released_chain(said(), said()).values()] == [None] * 3
    assert released_relation(said(), said()).f1 is None
