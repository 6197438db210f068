from __future__ import annotations

import random

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from m3dllm.score.chain import b3, ceaf_e, ceaf_m, muc, partition, without_singletons
from m3dllm.types import PRF, Annotation, Chain, Mention
from tests.score.letters import chains


def test_muc_counts_the_links_that_pred_has():
    # Vilain et al. 1995: gold {abcd}, pred {ab}{cd}: three links needed, one missing; both of pred's are right.
    assert muc(chains("abcd"), chains("ab cd")) == PRF(2, 2, 2, 3)


def test_muc_of_single_mentions_is_over_nothing():
    assert muc(chains("a b c"), chains("a b x")).f1 is None


def test_muc_with_links_on_one_side_only_is_zero():
    assert muc(chains("ab"), chains("a b")) == PRF(0, 0, 0, 1)
    assert muc(chains("ab"), chains("a b")).f1 == 0


def test_muc_counts_a_missing_mention_as_a_piece_of_its_own():
    assert muc(chains("abcd"), chains("ab")) == PRF(1, 1, 1, 3)


def test_b3_weighs_each_mention_by_what_its_chain_keeps():
    # gold {abc}{d}, pred {ab}{cd}: recall 2/3 + 2/3 + 1/3 + 1 of 4, precision 1 + 1 + 1/2 + 1/2 of 4.
    found = b3(chains("abc d"), chains("ab cd"))
    assert (found.p_num, found.p_den, found.r_den) == (3, 4, 4)
    assert found.r_num == pytest.approx(8 / 3, abs=1e-12)


def test_b3_keeps_a_mention_without_a_twin_in_the_denominator():
    assert b3(chains("ab"), chains("ab x y")) == PRF(2, 4, 2, 2)


def test_b3_counts_single_mentions():
    assert b3(chains("a b"), chains("a")) == PRF(1, 1, 1, 2)


def test_ceaf_e_divides_by_chains():
    # Luo 2005: {abc} with {ab} gives 4/5, {de} with {cde} gives 4/5.
    found = ceaf_e(chains("abc de"), chains("ab cde f"))
    assert (found.p_den, found.r_den) == (3, 2)
    assert found.p_num == found.r_num == pytest.approx(8 / 5, abs=1e-12)


def test_ceaf_m_divides_by_mentions():
    assert ceaf_m(chains("abc de"), chains("ab cde f")) == PRF(4, 6, 4, 5)


def test_ceaf_assigns_each_chain_once():
    assert ceaf_m(chains("abcd"), chains("ab cd")) == PRF(2, 4, 2, 4)
    assert ceaf_e(chains("ab cd"), chains("abcd")).p_num == pytest.approx(2 / 3, abs=1e-12)


def test_ceaf_gives_up_the_best_pair_where_two_others_are_better():
    # {abc} fits {abcde} best, but {abc}-{fab}… : taking the largest overlap first would end lower.
    gold, pred = chains("abcde fgh"), chains("abcfgh de")
    # {abcde}-{abcfgh} and {fgh}-nothing give 3; {abcde}-{de} and {fgh}-{abcfgh} give 5.
    assert ceaf_m(gold, pred) == PRF(5, 8, 5, 8)


def test_a_span_of_two_chains_stays_in_the_first():
    assert chains("ab bc") == (frozenset({(97, 98), (98, 99)}), frozenset({(99, 100)}))


def test_a_chain_whose_spans_all_stand_before_goes():
    assert len(chains("abc ab")) == 1


def test_a_span_with_two_types_is_one_mention_of_a_chain():
    both = Annotation((Chain("c", (Mention(0, 2, "PER"), Mention(0, 2, "LOC"))),))
    assert partition(both) == (frozenset({(0, 2)}),)


def test_types_do_not_matter():
    person, place = (Annotation((Chain("c", (Mention(0, 2, kind), Mention(3, 5, kind))),)) for kind in ("PER", "LOC"))
    assert muc(partition(person), partition(place)).f1 == 1


def test_single_mentions_can_be_left_out():
    assert without_singletons(chains("a bc d")) == chains("bc")


@pytest.mark.parametrize("metric", [muc, b3, ceaf_e, ceaf_m])
def test_nothing_on_either_side_is_absent(metric):
    assert metric((), ()) == PRF()


@pytest.mark.parametrize("metric", [muc, b3, ceaf_e, ceaf_m])
def test_an_empty_prediction_is_zero(metric):
    assert metric(chains("ab c"), ()).f1 == metric((), chains("ab c")).f1 == 0


def test_hundreds_of_chains_in_one_connected_part_are_assigned():
    # Each pred chain takes the last mention of one gold chain and the first of the next: one part of 400 chains.
    gold = tuple(frozenset({(2 * i, 1), (2 * i + 1, 1)}) for i in range(200))
    pred = tuple(frozenset({(2 * i + 1, 1), (2 * i + 2, 1)}) for i in range(200))
    assert ceaf_m(gold, pred) == PRF(200, 400, 200, 400)
    assert ceaf_e(gold, pred) == PRF(100, 200, 100, 200)


@pytest.mark.parametrize("n_chains", [3, 6, 12, 30])
def test_parts_of_every_size_agree_with_one_assignment_over_all_chains(n_chains):
    for seed in range(60):
        rng = random.Random(seed)
        gold, pred = (drawn(rng, n_chains, rng.randint(1, 4)) for _ in range(2))
        overlaps = np.array([[len(g & p) for p in pred] for g in gold])
        sizes = np.array([[len(g) + len(p) for p in pred] for g in gold])
        for metric, table in ((ceaf_m, overlaps), (ceaf_e, 2 * overlaps / sizes)):
            best = table[linear_sum_assignment(table, maximize=True)].sum()
            assert metric(gold, pred).p_num == pytest.approx(best, abs=1e-9), seed


def drawn(rng: random.Random, n_chains: int, most: int):
    """Up to `n_chains` chains over a few more spans than they hold."""
    spans = rng.sample([(i, i + 1) for i in range(n_chains * most)], rng.randint(n_chains, n_chains * most))
    chains = [set() for _ in range(n_chains)]
    for span in spans:
        rng.choice(chains).add(span)
    return tuple(frozenset(chain) for chain in chains if chain)
