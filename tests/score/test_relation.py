from __future__ import annotations

import pytest

from m3dllm.score.relation import (
    relation,
    relation_any_match,
    relation_exact_chains,
    relation_undirected,
)
from m3dllm.types import PRF, Annotation, Chain, Mention, Relation
from tests.score.letters import region, said


def test_chains_that_share_a_mention_are_enough():
    gold, pred = said("abc de", [("abc", "de", "born")]), said("cx e", [("cx", "e", "born")])
    assert relation(gold, pred) == PRF(1, 1, 1, 1)


def test_both_chains_must_share_a_mention():
    gold, pred = said("abc de", [("abc", "de", "born")]), said("cx f", [("cx", "f", "born")])
    assert relation(gold, pred) == PRF(0, 1, 0, 1)


def test_another_type_is_wrong():
    gold, pred = said("a b", [("a", "b", "born")]), said("a b", [("a", "b", "lives")])
    assert relation(gold, pred) == PRF(0, 1, 0, 1)


def test_a_turned_relation_is_wrong():
    gold, pred = said("a b", [("a", "b", "parents")]), said("a b", [("b", "a", "parents")])
    assert relation(gold, pred) == PRF(0, 1, 0, 1)


def test_a_turned_relation_of_a_symmetric_type_is_right():
    gold, pred = said("a b", [("a", "b", "夫妻")]), said("a b", [("b", "a", "夫妻")])
    assert relation(gold, pred, symmetric={"夫妻"}) == PRF(1, 1, 1, 1)


def test_undirected_compares_every_type_in_both_orders():
    gold, pred = said("a b", [("a", "b", "parents")]), said("a b", [("b", "a", "parents")])
    assert relation_undirected(gold, pred) == PRF(1, 1, 1, 1)


def test_identical_relations_collapse():
    pred = said("a b", [("a", "b", "born"), ("a", "b", "born")])
    assert relation(said("a b", [("a", "b", "born")]), pred) == PRF(1, 1, 1, 1)


def test_relations_of_chains_with_the_same_spans_collapse():
    # Chains ab and ba' hold the same spans under two names.
    pred = said("ab ba c", [("ab", "c", "born"), ("ba", "c", "born")])
    assert relation(said("ab c", [("ab", "c", "born")]), pred) == PRF(1, 1, 1, 1)


def test_both_orders_of_a_symmetric_relation_collapse():
    pred = said("a b", [("a", "b", "couple"), ("b", "a", "couple")])
    gold = said("a b", [("a", "b", "couple")])
    assert relation(gold, pred, symmetric={"couple"}) == PRF(1, 1, 1, 1)
    assert relation(gold, pred) == PRF(1, 2, 1, 1)


def test_a_gold_relation_is_found_once():
    gold = said("abc d", [("abc", "d", "born")])
    pred = said("a b d", [("a", "d", "born"), ("b", "d", "born")])
    assert relation(gold, pred) == PRF(1, 2, 1, 1)


def test_the_matching_is_the_largest_whatever_the_order():
    # The first pred fits both gold relations, the second only the one that the first would take greedily.
    gold = said("ab cd e", [("ab", "e", "r"), ("cd", "e", "r")])
    pred = said("ac b e", [("ac", "e", "r"), ("b", "e", "r")])
    assert relation(gold, pred) == PRF(2, 2, 2, 2)


def test_two_types_between_the_same_chains_are_two_relations():
    gold = said("a b", [("a", "b", "born"), ("a", "b", "died")])
    assert relation(gold, said("a b", [("a", "b", "died")])) == PRF(1, 1, 1, 2)


def test_any_match_lets_one_prediction_find_several_gold_relations():
    gold = said("a b c d", [("a", "c", "r"), ("b", "d", "r")])
    pred = said("ab cd", [("ab", "cd", "r")])
    assert relation_any_match(gold, pred) == PRF(1, 1, 2, 2)
    assert relation(gold, pred) == PRF(1, 1, 1, 2)


def test_any_match_counts_every_prediction_that_fits():
    gold = said("ab c", [("ab", "c", "r")])
    pred = said("a b c", [("a", "c", "r"), ("b", "c", "r")])
    assert relation_any_match(gold, pred) == PRF(2, 2, 1, 1)


def test_exact_chains_must_be_equal():
    gold = said("ab c", [("ab", "c", "r")])
    assert relation_exact_chains(gold, said("ba c", [("ba", "c", "r")])) == PRF(1, 1, 1, 1)
    assert relation_exact_chains(gold, said("a c", [("a", "c", "r")])) == PRF(0, 1, 0, 1)


def test_exact_chains_of_a_symmetric_type_may_be_turned():
    gold, pred = said("ab c", [("ab", "c", "r")]), said("ab c", [("c", "ab", "r")])
    assert relation_exact_chains(gold, pred, symmetric={"r"}) == PRF(1, 1, 1, 1)
    assert relation_exact_chains(gold, pred) == PRF(0, 1, 0, 1)


def test_a_chain_is_the_spans_it_was_given_even_where_another_has_them_too():
    # In the chain metrics b would belong to the first chain alone; a relation keeps its chains as they are.
    gold = said("ab bc d", [("bc", "d", "r")])
    assert relation(gold, said("b d", [("b", "d", "r")])) == PRF(1, 1, 1, 1)


def test_the_types_of_the_mentions_do_not_matter():
    def with_types(head: str) -> Annotation:
        chains = Chain("h", (Mention(0, 1, head),)), Chain("t", (Mention(2, 3, "LOC"),))
        return Annotation(chains, (Relation("h", "t", "r"),))

    assert relation(with_types("PER"), with_types("ORG")) == PRF(1, 1, 1, 1)


def test_nothing_on_either_side_is_absent():
    assert relation(said("a b"), said("a")).f1 is None


def test_nothing_on_one_side_is_zero():
    gold = said("a b", [("a", "b", "r")])
    assert relation(gold, said()).f1 == relation(said(), gold).f1 == 0


# --- regions as sides -------------------------------------------------------------------------------------------------

HOLDS = ("ab", "x", "holds")


def held(*box: float, frame: int = 0, kind: str = "cup", relation=HOLDS) -> Annotation:
    """Ada (a and b) holds the region x."""
    return said("ab", [relation], [region(frame, *(box or (0, 0, 0.5, 1)), kind=kind, name="x")])


@pytest.mark.parametrize(
    ("pred", "tp"),
    [
        (held(0, 0, 0.5, 0.75), 1),
        (held(0, 0, 0.5, 0.5), 0),  # IoU is exactly 0.5
        (held(frame=1), 0),
        (held(kind="hat"), 0),
        (held(relation=("x", "ab", "holds")), 0),
        (held(relation=("ab", "x", "drops")), 0),
    ],
)
def test_a_region_is_right_in_its_frame_with_its_type_and_more_than_half_in_common(pred, tp):
    assert relation(held(), pred) == PRF(tp, 1, tp, 1)


def test_the_chain_beside_a_region_must_share_a_mention():
    other = said("c", [("c", "x", "holds")], [region(0, 0, 0, 0.5, 1, kind="cup", name="x")])
    assert relation(held(), other) == PRF(0, 1, 0, 1)


def test_a_region_is_never_a_chain():
    assert relation(held(), said("ab x", [("ab", "x", "holds")])) == PRF(0, 1, 0, 1)


def test_both_sides_may_be_regions():
    cup, table = region(0, 0, 0, 0.5, 0.5, kind="cup", name="cup"), region(0, 0, 0.5, 1, 1, kind="table", name="table")
    gold = said("", [("cup", "table", "on")], [cup, table])
    assert relation(gold, gold) == PRF(1, 1, 1, 1)


def test_regions_with_one_place_and_type_are_one_side():
    twice = [region(0, 0, 0, 0.5, 1, kind="cup", name=name) for name in "xy"]
    pred = said("ab", [("ab", "x", "holds"), ("ab", "y", "holds")], twice)
    assert relation(held(), pred) == PRF(1, 1, 1, 1)


def test_each_gold_relation_with_a_region_is_found_once():
    near = [region(0, 0, 0, 0.5, 0.9 + 0.1 * i, kind="cup", name=name) for i, name in enumerate("xy")]
    pred = said("ab", [("ab", "x", "holds"), ("ab", "y", "holds")], near)
    assert relation(held(), pred) == PRF(1, 2, 1, 1)


def test_a_relation_with_a_region_in_a_frame_that_nobody_looked_at_counts_on_neither_side():
    assert relation(held(), held(), frames={0}) == PRF(1, 1, 1, 1)
    assert relation(held(), held(), frames=()) == PRF()


def test_a_turned_relation_with_a_region_is_right_where_directions_do_not_count():
    turned = held(relation=("x", "ab", "holds"))
    assert relation_undirected(held(), turned) == relation(held(), turned, symmetric={"holds"}) == PRF(1, 1, 1, 1)


def test_exact_chains_leaves_regions_their_overlap():
    smaller = said("ab", [HOLDS], [region(0, 0, 0, 0.5, 0.75, kind="cup", name="x")])
    lacking = said("a", [("a", "x", "holds")], [region(0, 0, 0, 0.5, 1, kind="cup", name="x")])
    assert relation_exact_chains(held(), smaller) == PRF(1, 1, 1, 1)
    assert relation_exact_chains(held(), lacking) == PRF(0, 1, 0, 1)
