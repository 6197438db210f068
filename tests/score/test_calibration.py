"""Confidences held against what is correct: reliability, ECE, precision-recall curves, by hand and by brute force."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.score import Settings, score
from m3dllm.score.calibration import Confidences, outcomes
from m3dllm.score.matching import largest_matching, matched_in_order
from m3dllm.score.scores import Scores
from m3dllm.types import Annotation, Box, Chain, Document, Example, Frame, Mention, Prediction, Region, Relation
from m3dllm.wire import encode, read_json

FRAMES = (Frame(0, "0.png", 64, 48, annotated=True), Frame(24, "24.png", 64, 48))
WHOLE, LEFT = Box(0, 0, 1, 1), Box(0, 0, 0.4, 1)


def at(i: int, *sure: float, kind: str = "PER") -> Mention:
    return Mention(10 * i, 10 * i + 3, kind, *sure)


GOLD = Annotation(
    (Chain("a", (at(0), at(1), at(2))), Chain("b", (at(3),))),
    (Relation("a", "b", "knows"), Relation("b", "a", "knows")),
    (Region(0, WHOLE, "PER"),),
)
SAID = Annotation(
    (Chain("x", (at(0, 0.95), at(1, 0.85, 0.9), at(3, 0.55, 0.4))), Chain("y", (at(4, 0.15),))),
    (Relation("x", "y", "knows", 0.3), Relation("y", "x", "knows", 1.0)),
    (Region(0, WHOLE, "PER", None, 0.5), Region(0, LEFT, "PER", None, 0.6), Region(24, WHOLE, "PER", None, 0.9)),
)


def of(task: str, pred: Annotation = SAID, **how) -> list[tuple[float, float]]:
    return sorted(outcomes(task, GOLD, pred, **how))


def calibration(task: str, gold: float, pred: Annotation = SAID, **how):
    found = Confidences()
    found.add(outcomes(task, GOLD, pred, **how))
    return found.calibration(gold)


# --- what is correct --------------------------------------------------------------------------------------------------


def test_a_mention_is_correct_as_a_typed_span_and_counts_once():
    twice = Annotation((Chain("x", (at(0, 0.5),)), Chain("y", (at(0, 0.7), at(1, 0.2, kind="LOC")))))
    assert of("entity", twice) == [(0.2, 0.0), (0.7, 1.0)]


def test_a_link_is_correct_by_the_share_of_those_before_it_that_are_one_with_it():
    assert of("chain") == [(0.4, 0.0), (0.9, 1.0)]
    mixed = Annotation((Chain("x", (at(0), at(3, 1, 0.1), at(1, 1, 0.2), at(2, 1, 0.3))),))
    assert of("chain", mixed) == [(0.1, 0.0), (0.2, 0.5), (0.3, pytest.approx(2 / 3))]


def test_a_relation_with_a_region_is_correct_where_the_region_is():
    cup = Region(0, WHOLE, "cup", id="r0")
    gold = Annotation(GOLD.chains, (Relation("a", "r0", "holds"),), (cup,))
    said = (Relation("x", "r0", "holds", 0.8), Relation("x", "r1", "holds", 0.4), Relation("x", "r2", "holds", 0.9))
    regions = (cup, Region(0, LEFT, "cup", id="r1"), Region(24, WHOLE, "cup", id="r2"))
    pred = Annotation(SAID.chains, said, regions)
    assert sorted(outcomes("relation", gold, pred, frames={0})) == [(0.4, 0.0), (0.8, 1.0)]


def test_the_surest_of_two_that_may_take_one_gold_item_is_correct():
    doubled = Annotation((), (), (Region(0, WHOLE, "PER", None, 0.2), Region(0, WHOLE, "PER", None, 0.8)))
    assert of("grounding", doubled) == [(0.2, 0.0), (0.8, 1.0)]


def test_regions_where_nobody_looked_count_nowhere():
    assert of("grounding", frames={0}) == [(0.5, 1.0), (0.6, 0.0)]


def test_what_has_no_confidence_is_left_out():
    assert of("entity", GOLD) == of("chain", GOLD) == of("relation", GOLD) == of("grounding", GOLD) == []
    assert calibration("entity", 4, GOLD) is None


@given(st.lists(st.lists(st.integers(0, 4), max_size=3, unique=True), max_size=6))
def test_of_the_surest_as_many_are_matched_as_any_matching_of_them_has(partners):
    taken = matched_in_order(partners)
    for k in range(len(partners) + 1):
        assert sum(i < k for i in taken) == largest_matching(partners[:k])


# --- what they add up to ----------------------------------------------------------------------------------------------


def test_reliability_and_ece_by_hand():
    found = calibration("entity", 4)
    assert (found.predictions, found.confidence, found.correct) == (4, pytest.approx(0.625), 0.75)
    filled = {(b.low, b.high): (b.predictions, b.confidence, b.correct) for b in found.bins if b.predictions}
    assert filled == {
        (0.1, 0.2): (1, 0.15, 0),
        (0.5, 0.6): (1, 0.55, 1),
        (0.8, 0.9): (1, 0.85, 1),
        (0.9, 1): (1, 0.95, 1),
    }
    assert found.ece == pytest.approx((0.15 + 0.45 + 0.15 + 0.05) / 4)


def test_a_certain_prediction_lies_in_the_last_bin():
    found = calibration("relation", 2)
    assert [b.predictions for b in found.bins] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 1]


def test_a_curve_goes_from_the_surest_to_all_and_its_area_is_the_average_precision():
    found = calibration("entity", 4)
    assert [(p.threshold, p.precision, p.recall) for p in found.curve] == [
        (0.95, 1, 0.25), (0.85, 1, 0.5), (0.55, 1, 0.75), (0.15, 0.75, 0.75),
    ]  # fmt: skip
    assert found.average_precision == pytest.approx(0.75)


def test_without_gold_there_is_no_curve():
    found = calibration("entity", 0)
    assert (found.curve, found.average_precision) == ((), None)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30), st.randoms())
def test_sums_do_not_depend_on_the_order_of_documents(rows, random):
    one, other = Confidences(), Confidences()
    one.add(iter([(c, float(y)) for c, y in rows]))
    shuffled = list(rows)
    random.shuffle(shuffled)
    for c, y in shuffled:
        other.add(iter([(c, float(y))]))
    assert one.calibration(3).ece == pytest.approx(other.calibration(3).ece)
    assert one.calibration(3).curve == other.calibration(3).curve


# --- in scores --------------------------------------------------------------------------------------------------------


def scored(pred: Annotation = SAID, **settings) -> Scores:
    example = Example(Document("d", "en", "x" * 60, frames=FRAMES), GOLD)
    return score([example], [Prediction("d", pred)], settings=Settings(**settings))


def test_scores_hold_the_calibration_of_each_task_and_keep_it_in_their_file():
    found = scored()
    of_tasks = found.languages["en"].calibration["end_to_end"]
    assert {task: one.predictions for task, one in of_tasks.items()} == {
        "entity": 4,
        "chain": 2,
        "relation": 2,
        "grounding": 2,
    }
    again = Scores.from_wire(read_json(encode(found.to_wire())))
    assert again.languages["en"].calibration == found.languages["en"].calibration


def test_predictions_without_confidences_leave_the_file_as_it_was():
    assert "calibration" not in scored(GOLD).to_wire()["languages"]["en"]


@pytest.mark.parametrize("task", ["entity", "relation", "grounding"])
def test_a_point_of_the_curve_is_the_score_at_that_threshold(task):
    only = {
        "entity": Annotation(tuple(Chain(f"c{i}", (m,)) for i, m in enumerate(SAID.mentions))),
        "relation": Annotation(
            tuple(Chain(c.id, tuple(at(m.start // 10) for m in c.mentions)) for c in SAID.chains), SAID.relations
        ),
        "grounding": Annotation(regions=SAID.regions),
    }[task]
    curve = scored(only).languages["en"].calibration["end_to_end"][task].curve
    assert curve
    for point in curve:
        there = scored(only, threshold=point.threshold).languages["en"].end_to_end.tasks[task]
        assert (there.precision, there.recall) == (point.precision, point.recall)
