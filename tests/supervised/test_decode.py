from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.systems.supervised.boxes import merged
from m3dllm.systems.supervised.data import LabelIndex, Mentions, make_mention_batch
from m3dllm.systems.supervised.decoding import choose_relations, linked, log_odds
from tests.supervised.documents import LABELS

TYPES = LabelIndex.of(LABELS)
BIRTH, PARENTS, COUPLE, MEMBER = range(4)
PER, LOC, ORG = range(3)


def mentions(kinds):
    n = len(kinds)
    place, kind = torch.arange(n), torch.tensor(kinds, dtype=torch.long)
    return Mentions(tuple((i, i + 1) for i in range(n)), place, place, kind, place, kind, torch.zeros(n, n, 1))


def links(n, *pairs):
    found = np.zeros((n, n))
    for i, j in pairs:
        found[i, j] = 0.9
    return found


# --- chains -----------------------------------------------------------------------------------------------------------


def test_single_links_become_chains_by_union():
    found = linked(mentions([PER] * 5), links(5, (0, 3), (3, 4), (1, 2)), 0.5, linkage="single")
    assert found.chain.tolist() == [0, 1, 1, 0, 0]


def test_one_link_against_many_joins_no_two_chains_on_average():
    chances = links(6, (0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5), (2, 3))
    assert linked(mentions([PER] * 6), chances, 0.5, linkage="average").chain.tolist() == [0, 0, 0, 1, 1, 1]
    assert linked(mentions([PER] * 6), chances, 0.5, linkage="single").n_chains == 1


@pytest.mark.parametrize("linkage", ["single", "average"])
def test_only_the_earlier_mention_of_a_pair_speaks(linkage):
    assert linked(mentions([PER] * 2), links(2, (1, 0)), 0.5, linkage=linkage).chain.tolist() == [0, 1]


@pytest.mark.parametrize("linkage", ["single", "average"])
def test_a_link_must_be_surer_than_the_threshold(linkage):
    assert linked(mentions([PER] * 2), links(2, (0, 1)), 0.95, linkage=linkage).chain.tolist() == [0, 1]


@given(st.integers(0, 7), st.integers(0, 2**32 - 1), st.sampled_from([0.2, 0.5, 0.8]))
def test_average_linkage_joins_the_two_nearest_chains_until_none_is_near_enough(n, seed, threshold):
    chances = np.random.default_rng(seed).random((n, n))
    groups = [[i] for i in range(n)]
    while len(groups) > 1:

        def near(pair):
            return np.mean([log_odds(chances[min(i, j), max(i, j)]) for i in pair[0] for j in pair[1]])

        best = max(combinations(groups, 2), key=near)
        if near(best) <= log_odds(threshold):
            break
        groups = [g for g in groups if g not in best] + [sorted(best[0] + best[1])]
    found = linked(mentions([PER] * n), chances, threshold, linkage="average").chain.tolist()
    assert sorted(map(sorted, groups)) == sorted([i for i in range(n) if found[i] == c] for c in set(found))


def test_a_chain_has_the_type_of_its_majority_and_of_the_first_on_a_tie():
    found = linked(mentions([LOC, PER, PER, ORG, LOC]), links(5, (0, 1), (1, 2), (3, 4)), 0.5, linkage="single")
    assert found.chain_type.tolist() == [PER, ORG]


def test_no_mentions_have_no_chains():
    assert linked(mentions([]), np.zeros((0, 0)), 0.5, linkage="average").n_chains == 0


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.tuples(*[st.integers(0, n - 1)] * 2)))))
def test_two_mentions_are_together_by_single_links_when_they_lead_from_one_to_the_other(case):
    n, pairs = case
    found = linked(mentions([PER] * n), links(n, *pairs), 0.5, linkage="single").chain.tolist()
    groups = [{i} for i in range(n)]
    for i, j in pairs:
        if i < j:
            a, b = (next(g for g in groups if x in g) for x in (i, j))
            if a is not b:
                groups.remove(b)
                a |= b
    groups.sort(key=min)
    assert found == [next(k for k, group in enumerate(groups) if i in group) for i in range(n)]


def test_a_link_is_the_mean_probability_of_being_one_with_the_mentions_before_it():
    chances = links(4, (0, 1), (0, 3), (1, 3))
    chances[1, 3] = 0.7
    found = linked(mentions([PER] * 4), chances, 0.5, linkage="single")
    assert found.chain.tolist() == [0, 0, 1, 0]
    assert found.link == (None, 0.9, None, 0.8)


# --- relations --------------------------------------------------------------------------------------------------------


def chosen(kinds, decision, *told, threshold=0.5):
    """The relations said where `told` (head, tail, class, logit) stand in logits that otherwise say no."""
    n = len(kinds)
    logits = torch.full((1, n, n, 5 if decision == "argmax" else 4), -5.0)
    if decision == "argmax":
        logits[..., -1] = 0.0
    for head, tail, kind, value in told:
        logits[0, head, tail, kind] = value
    batch = make_mention_batch([mentions(kinds)])
    found, _ = choose_relations(logits, batch, TYPES, torch.tensor([threshold]), decision=decision)
    return found[:, 1:].tolist()


def test_a_relation_is_written_only_between_chains_of_its_types():
    told = [(0, 1, BIRTH, 5.0), (1, 0, BIRTH, 5.0), (0, 1, COUPLE, 5.0)]
    assert chosen([PER, LOC], "threshold", *told) == [[0, 1, BIRTH]]
    assert chosen([PER, LOC], "argmax", *told) == [[0, 1, BIRTH]]


def test_a_symmetric_relation_is_written_once():
    told = [(0, 1, COUPLE, 5.0), (1, 0, COUPLE, 5.0)]
    assert chosen([PER, PER], "threshold", *told) == [[0, 1, COUPLE]]
    assert chosen([PER, PER], "argmax", *told) == [[0, 1, COUPLE]]


def test_the_two_sides_of_a_symmetric_relation_are_averaged():
    assert chosen([PER, PER], "threshold", (1, 0, COUPLE, 9.0), (0, 1, COUPLE, 0.5)) == [[0, 1, COUPLE]]
    assert chosen([PER, PER], "threshold", (1, 0, COUPLE, 0.5), (0, 1, COUPLE, -9.0)) == []
    assert chosen([PER, PER], "argmax", (0, 1, COUPLE, 2.0), (1, 0, COUPLE, -0.5)) == [[0, 1, COUPLE]]
    assert chosen([PER, PER], "argmax", (0, 1, COUPLE, 1.0), (1, 0, 4, 3.0)) == []  # so is none


def test_several_relations_of_a_pair_by_threshold_and_one_by_argmax():
    told = [(0, 1, PARENTS, 5.0), (0, 1, COUPLE, 6.0), (1, 0, COUPLE, 6.0)]
    assert chosen([PER, PER], "threshold", *told) == [[0, 1, PARENTS], [0, 1, COUPLE]]
    assert chosen([PER, PER], "argmax", *told) == [[0, 1, COUPLE]]


@pytest.mark.parametrize(("decision", "probability"), [("threshold", 0.731), ("argmax", 0.730)])
def test_a_relation_is_as_sure_as_its_probability(decision, probability):
    logits = torch.full((1, 2, 2, 5 if decision == "argmax" else 4), -5.0)
    if decision == "argmax":
        logits[..., -1] = 0.0
    logits[0, 0, 1, PARENTS] = 1.0
    batch = make_mention_batch([mentions([PER, PER])])
    _, sure = choose_relations(logits, batch, TYPES, torch.tensor([0.5]), decision=decision)
    assert sure.tolist() == pytest.approx([probability], abs=1e-3)


def test_none_wins_where_it_is_likelier():
    assert chosen([PER, PER], "argmax", (0, 1, PARENTS, 1.0), (0, 1, 4, 2.0)) == []


def test_a_chain_is_not_related_to_itself():
    assert chosen([PER], "threshold", (0, 0, PARENTS, 9.0)) == []


# --- regions ----------------------------------------------------------------------------------------------------------

BOXES = np.array([[0, 0, 0.5, 0.5], [0.01, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0, 0, 0.5, 0.3]])


def test_of_overlapping_boxes_of_one_type_the_surest_stays():
    assert merged(BOXES, np.array([0, 0, 0, 0]), 0.5) == [0, 2]


def test_boxes_of_different_types_do_not_disturb_each_other():
    assert merged(BOXES, np.array([0, 1, 0, 1]), 0.5) == [0, 1, 2]


def test_a_higher_limit_merges_less():
    assert merged(BOXES, np.array([0, 0, 0, 0]), 0.9) == [0, 2, 3]


def test_no_boxes_stay_none():
    assert merged(np.zeros((0, 4)), np.zeros(0), 0.5) == []
