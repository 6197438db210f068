"""The counts of the types add up to those of the task."""

from __future__ import annotations

import pytest

from m3dllm.score import count_types, score
from m3dllm.score.by_type import types_of
from m3dllm.types import PRF, Annotation, Box, Prediction, Region
from tests.small import LABELS, annotated, examples


def marked(text: str) -> Annotation:
    return Annotation(annotated(text)[1])


def test_each_type_of_mention_has_its_own_counts():
    found = types_of("entity", marked("[PER0 Ada] in [LOC1 Rome]"), marked("[PER0 Ada] in [PER1 Rome]"))
    assert found == {"PER": PRF(1, 2, 1, 1), "LOC": PRF(0, 0, 0, 1)}


def test_relations_count_under_the_type_they_were_given():
    gold, pred = examples("d", 1)[0].gold, examples("d", 1)[0].gold
    assert types_of("relation", gold, pred) == {"PER-LOC_birth": PRF(1, 1, 1, 1)}
    assert types_of("relation", gold, Annotation()) == {"PER-LOC_birth": PRF(0, 0, 0, 1)}


def test_regions_outside_annotated_frames_count_nowhere():
    box = Box(0.2, 0.2, 0.6, 0.6)
    gold = Annotation(regions=(Region(0, box, "PER"),))
    pred = Annotation(regions=(Region(0, box, "PER"), Region(1, box, "LOC")))
    assert types_of("grounding", gold, pred, frames={0}) == {"PER": PRF(1, 1, 1, 1)}


def test_chains_have_no_types():
    assert types_of("chain", marked("[PER0 Ada]"), marked("[PER0 Ada]")) == {}


@pytest.mark.parametrize("task", ["entity", "relation", "grounding"])
def test_the_types_add_up_to_the_task(task):
    gold = examples("d", 12)
    said = [Prediction(one.document.id, other.gold) for one, other in zip(gold, gold[2:] + gold[:2], strict=True)]
    types = count_types(gold, said, labels=LABELS)
    scores = score(gold, said, labels=LABELS)
    for lang in ("en", "zh"):
        assert PRF.sum(types[lang]["end_to_end"][task].values()) == scores.languages[lang].end_to_end.tasks[task]
