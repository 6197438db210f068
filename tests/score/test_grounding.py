from __future__ import annotations

import math

import pytest

from m3dllm.score.grounding import grounding, iou
from m3dllm.types import PRF, Annotation, Box
from tests.score.letters import region, said

WHOLE = (0.0, 0.0, 1.0, 1.0)
NO_BOXES = [
    (0.5, 0.0, 0.5, 1.0),  # no width
    (0.0, 0.5, 1.0, 0.5),  # no height
    (1.0, 0.0, 0.0, 1.0),  # corners exchanged
    (1.0, 1.0, 0.0, 0.0),  # both: the product of two negative sizes is positive
    (math.nan, 0.0, 1.0, 1.0),
    (0.0, 0.0, math.inf, 1.0),
    (-math.inf, 0.0, 1.0, 1.0),
    (-1e308, -1e308, 1e308, 1e308),  # finite corners, infinite size
]


def of(*regions) -> Annotation:
    return said(regions=regions)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (WHOLE, WHOLE, 1.0),
        (WHOLE, (0.0, 0.0, 0.5, 1.0), 0.5),
        ((0.0, 0.0, 0.5, 0.5), (0.25, 0.25, 0.75, 0.75), 0.0625 / 0.4375),
        ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0), 0.0),
        ((-0.5, 0.0, 0.5, 1.0), (-0.5, 0.0, 0.5, 1.0), 1.0),
    ],
)
def test_iou_is_intersection_over_union(a, b, expected):
    assert iou(Box(*a), Box(*b)) == iou(Box(*b), Box(*a)) == expected


@pytest.mark.parametrize("box", NO_BOXES)
def test_a_box_without_a_finite_positive_size_overlaps_nothing(box):
    assert iou(Box(*box), Box(*box)) == iou(Box(*box), Box(*WHOLE)) == 0


@pytest.mark.parametrize("box", NO_BOXES)
def test_a_box_without_a_finite_positive_size_counts_as_predicted(box):
    assert grounding(of(region(0, *WHOLE)), of(region(0, *box))) == PRF(0, 1, 0, 1)
    assert grounding(of(region(0, *box)), of(region(0, *box))) == PRF(0, 1, 0, 1)


def test_a_box_is_right_above_an_iou_of_one_half():
    assert grounding(of(region(0, *WHOLE)), of(region(0, 0, 0, 0.51, 1))) == PRF(1, 1, 1, 1)


def test_a_box_is_wrong_at_an_iou_of_exactly_one_half():
    assert grounding(of(region(0, *WHOLE)), of(region(0, 0, 0, 0.5, 1))) == PRF(0, 1, 0, 1)


def test_boxes_are_not_clipped_to_the_frame():
    gold = of(region(0, 0, 0, 1, 1))
    assert grounding(gold, of(region(0, 0, 0, 1.9, 1))) == PRF(1, 1, 1, 1)
    assert grounding(gold, of(region(0, 0, 0, 2.1, 1))) == PRF(0, 1, 0, 1)


def test_the_threshold_can_be_another():
    gold, pred = of(region(0, *WHOLE)), of(region(0, 0, 0, 0.375, 1))
    assert grounding(gold, pred, threshold=0.3) == PRF(1, 1, 1, 1)
    assert grounding(gold, pred, threshold=0.375) == PRF(0, 1, 0, 1)


def test_another_type_or_frame_is_wrong():
    gold = of(region(24, *WHOLE))
    assert grounding(gold, of(region(24, *WHOLE, kind="LOC"))) == PRF(0, 1, 0, 1)
    assert grounding(gold, of(region(48, *WHOLE))) == PRF(0, 1, 0, 1)


def test_a_gold_region_is_found_once():
    assert grounding(of(region(0, *WHOLE)), of(region(0, *WHOLE), region(0, *WHOLE))) == PRF(1, 2, 1, 1)


def test_the_matching_is_the_largest_not_the_first():
    # The first pred box fits both gold boxes, the second only the first gold box.
    gold = of(region(0, 0, 0, 0.75, 1), region(0, 0.25, 0, 1, 1))
    pred = of(region(0, *WHOLE), region(0, 0, 0, 0.625, 1))
    assert grounding(gold, pred) == PRF(2, 2, 2, 2)


def test_only_annotated_frames_count():
    gold, pred = of(region(0, *WHOLE), region(24, *WHOLE)), of(region(24, *WHOLE), region(48, *WHOLE))
    assert grounding(gold, pred, frames={0, 24}) == PRF(1, 1, 1, 2)


def test_a_prediction_in_an_annotated_frame_without_regions_is_wrong():
    assert grounding(of(), of(region(0, *WHOLE)), frames={0}) == PRF(0, 1, 0, 0)


def test_a_document_without_frames_has_no_grounding():
    assert grounding(of(), of(region(0, *WHOLE)), frames=()).f1 is None


def test_chains_do_not_matter():
    gold = said("a", regions=[region(0, *WHOLE, chain="a")])
    assert grounding(gold, of(region(0, *WHOLE))) == PRF(1, 1, 1, 1)
