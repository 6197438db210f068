from __future__ import annotations

import pytest

from m3dllm.errors import UserError
from m3dllm.score import Settings


def test_an_unknown_variant_is_refused_by_name_with_those_that_exist():
    with pytest.raises(UserError, match=r"'anymatch' is not known; the variants are any_match, .* and iou=X"):
        Settings(variants=("anymatch",))


@pytest.mark.parametrize("name", ["iou=", "iou=x", "iou=1", "iou=-0.1", "iou=nan", "iou=inf"])
def test_an_iou_threshold_that_is_no_share_is_refused(name):
    with pytest.raises(UserError, match="expected iou=X with a number X from 0 to below 1"):
        Settings(variants=(name,))


def test_thresholds_come_from_the_variants_once_each():
    assert Settings(variants=("iou=0.3", "triple", "iou=0.30", "iou=0")).thresholds == (0.3, 0.0)


def test_an_unknown_modality_or_task_is_refused():
    with pytest.raises(UserError, match="modality 'text' is not known; expected available or all"):
        Settings(modality="text")
    with pytest.raises(UserError, match="task 'ner' is not known; the tasks are entity, chain, relation, grounding"):
        Settings(tasks=("ner",))


def test_tasks_are_scored_in_the_order_of_the_house():
    assert Settings(tasks=("relation", "entity")).scored == ("entity", "relation")
    assert Settings().scored == ("entity", "chain", "relation", "grounding")
