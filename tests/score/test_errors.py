from __future__ import annotations

from m3dllm.score import count_errors
from m3dllm.score.errors import ErrorCounts, chain_errors, entity_errors, grounding_errors, relation_errors
from m3dllm.types import Annotation, Chain, Document, Example, Mention, Prediction
from tests.score.letters import region, said

WHOLE = (0.0, 0.0, 1.0, 1.0)


def test_entity_errors_are_of_type_or_of_boundary():
    def of(*mentions: tuple[int, int, str]) -> Annotation:
        return Annotation((Chain("c", tuple(Mention(*m) for m in mentions)),))

    gold = of((0, 3, "PER"), (5, 9, "LOC"), (10, 12, "ORG"))
    pred = of((0, 3, "PER"), (5, 9, "ORG"), (10, 11, "ORG"))
    assert entity_errors(gold, pred) == ErrorCounts(3, 1, {"type": 1, "boundary": 1})


def test_a_chain_that_is_part_of_a_gold_chain_lacks_mentions():
    assert chain_errors(said("abc d"), said("ab d")) == ErrorCounts(2, 1, {"incorrect": 0, "missing": 1})


def test_a_chain_with_a_mention_of_another_is_incorrect():
    assert chain_errors(said("abc d"), said("ab cd")).classes == {"incorrect": 1, "missing": 1}


def test_a_chain_with_an_invented_mention_is_incorrect():
    assert chain_errors(said("ab"), said("abx y")).classes == {"incorrect": 2, "missing": 0}


def test_a_relation_of_another_type_between_related_chains_has_the_wrong_type():
    gold = said("a b c", [("a", "b", "born")])
    pred = said("a b c", [("a", "b", "died"), ("a", "c", "born")])
    assert relation_errors(gold, pred) == ErrorCounts(2, 0, {"wrong_type": 1, "false_relation": 1})


def test_a_turned_relation_is_false():
    gold, pred = said("a b", [("a", "b", "parents")]), said("a b", [("b", "a", "parents")])
    assert relation_errors(gold, pred).classes == {"wrong_type": 0, "false_relation": 1}


def test_a_relation_whose_gold_is_taken_is_false():
    gold = said("ab c", [("ab", "c", "r"), ("ab", "c", "s")])
    pred = said("a b c", [("a", "c", "r"), ("b", "c", "r")])
    assert relation_errors(gold, pred) == ErrorCounts(2, 1, {"wrong_type": 0, "false_relation": 1})


def test_a_box_on_a_region_of_another_type_has_the_wrong_type():
    gold = said(regions=[region(0, *WHOLE)])
    pred = said(regions=[region(0, *WHOLE, kind="LOC"), region(0, 0, 0, 0.5, 1), region(0, *WHOLE)])
    assert grounding_errors(gold, pred) == ErrorCounts(3, 1, {"type": 1, "boundary": 1})


def test_a_box_that_stands_twice_counts_as_boundary():
    gold, pred = said(regions=[region(0, *WHOLE)]), said(regions=[region(0, *WHOLE), region(0, *WHOLE)])
    assert grounding_errors(gold, pred).classes == {"type": 0, "boundary": 1}


def test_rates_are_fractions_of_the_predictions_and_absent_over_nothing():
    assert ErrorCounts(4, 1, {"type": 1, "boundary": 2}).rates == {"type": 0.25, "boundary": 0.5}
    assert ErrorCounts().rates is None


def test_errors_are_added_by_language_and_protocol():
    def example(name: str, lang: str) -> Example:
        return Example(Document(name, lang, "x" * 200), said("ab c"))

    golds = [example("a", "en"), example("b", "en"), example("c", "zh")]
    predictions = [Prediction("a", said("a c")), Prediction("b", said("ab")), Prediction("c", said("ax"), "mentions")]
    found = count_errors(golds, predictions)
    assert found["en"]["end_to_end"]["chain"] == ErrorCounts(3, 2, {"incorrect": 0, "missing": 1})
    assert "gold_pairs" not in found["en"]
    assert found["zh"]["gold_pairs"] == {"chain": ErrorCounts(1, 0, {"incorrect": 1, "missing": 0})}
