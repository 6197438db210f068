"""Verdicts, item by item: their sums are the scorer's counts."""

from __future__ import annotations

from hypothesis import given

from m3dllm.score.chain import partition
from m3dllm.score.entity import entity
from m3dllm.score.grounding import grounding
from m3dllm.score.relation import relation
from m3dllm.score.verdicts import Verdict, of_chains, of_mentions, of_regions, of_relations
from m3dllm.types import PRF, Annotation, Chain, Mention
from tests.score.letters import region, said
from tests.strategies import annotations

WHOLE = (0.0, 0.0, 1.0, 1.0)


def counts(verdicts) -> PRF:
    tp = sum(verdict.outcome == "true_positive" for verdict in verdicts.preds.values())
    return PRF(tp, len(verdicts.preds), tp, tp + len(verdicts.missed))


def test_a_mention_is_a_true_positive_of_the_wrong_type_or_out_of_place():
    def of(*mentions: tuple[int, int, str]) -> Annotation:
        return Annotation((Chain("c", tuple(Mention(*m) for m in mentions)),))

    outcomes, missed = of_mentions(of((0, 3, "PER"), (5, 9, "LOC")), of((0, 3, "PER"), (5, 9, "ORG"), (5, 8, "LOC")))
    assert outcomes == {
        (0, 3, "PER"): "true_positive",
        (5, 9, "ORG"): "type",
        (5, 8, "LOC"): "boundary",
    }
    assert missed == {(5, 9, "LOC")}


def test_a_chain_names_the_gold_chain_that_it_is():
    verdicts = of_chains(said("ab cde f"), said("cd ab xf"))
    assert verdicts.preds == {0: Verdict("missing"), 1: Verdict("true_positive", 0), 2: Verdict("incorrect")}
    assert verdicts.missed == (1, 2)


def test_a_chain_whose_mentions_stand_in_earlier_ones_has_no_verdict():
    assert list(of_chains(said("ab c"), said("ab ab c")).preds) == [0, 2]


def test_a_relation_names_the_gold_relation_that_it_took():
    gold = said("a b c", [("a", "b", "born"), ("b", "c", "died")])
    pred = said("a b c", [("b", "c", "died"), ("a", "b", "died"), ("a", "c", "born"), ("b", "c", "died")])
    verdicts = of_relations(gold, pred)
    assert verdicts.preds == {0: Verdict("true_positive", 1), 1: Verdict("wrong_type"), 2: Verdict("false_relation")}
    assert verdicts.missed == (0,)


HOLDS = ("a", "cup", "holds")
CUP = region(0, 0.0, 0.0, 0.5, 1.0, kind="cup", name="cup")


def test_a_relation_with_a_region_names_the_gold_relation_that_it_took():
    gold, pred = said("a b", [("a", "b", "r"), HOLDS], [CUP]), said("a", [HOLDS], [CUP])
    found = of_relations(gold, pred)
    assert (found.preds, found.missed) == ({0: Verdict("true_positive", 1)}, (0,))


def test_a_relation_with_the_right_region_and_another_type_is_of_the_wrong_type():
    gold, pred = said("a", [HOLDS], [CUP]), said("a", [("cup", "a", "drops")], [CUP])
    assert of_relations(gold, pred).preds == {0: Verdict("wrong_type")}


def test_a_relation_with_a_region_where_nobody_looked_has_no_verdict():
    gold, pred = said("a", [HOLDS], [CUP]), said("a", [HOLDS], [CUP])
    assert of_relations(gold, pred, frames={7}) == of_relations(said(), said())


def test_a_region_names_the_gold_region_that_it_took():
    gold = said(regions=[region(0, *WHOLE), region(1, *WHOLE)])
    pred = said(regions=[region(1, *WHOLE), region(0, *WHOLE, kind="LOC"), region(1, *WHOLE)])
    verdicts = of_regions(gold, pred)
    assert verdicts.preds == {0: Verdict("true_positive", 1), 1: Verdict("type"), 2: Verdict("boundary")}
    assert verdicts.missed == (0,)


def test_a_region_where_nobody_looked_has_no_verdict():
    assert of_regions(said(), said(regions=[region(7, *WHOLE)]), frames={0}).preds == {}


@given(annotations(named=True), annotations(named=True))
def test_verdicts_add_up_to_the_scores(gold, pred):
    outcomes, missed = of_mentions(gold, pred)
    tp = sum(outcome == "true_positive" for outcome in outcomes.values())
    assert PRF(tp, len(outcomes), tp, tp + len(missed)) == entity(gold, pred)
    assert counts(of_relations(gold, pred)) == relation(gold, pred)
    assert counts(of_regions(gold, pred)) == grounding(gold, pred)
    chains = of_chains(gold, pred)
    assert len(chains.preds) == len(partition(pred))
    assert counts(chains).r_den == len(partition(gold))
