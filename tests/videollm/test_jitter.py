"""Boxes that are trained on: near the true ones, and other ones each time."""

from __future__ import annotations

import random
from dataclasses import replace
from math import isclose

import pytest

pytest.importorskip("transformers", reason="needs the extra 'llm'")
pytest.importorskip("llguidance", reason="needs the extra 'llm'")

from m3dllm.score.grounding import iou
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.system import VideoLLM
from m3dllm.systems.videollm.tuning.dataset import SFTDataset
from m3dllm.systems.videollm.tuning.encoding import Encoded
from m3dllm.systems.videollm.tuning.jitter import LEAST_IOU, jittered
from m3dllm.types import Annotation, Box, Example, Region
from tests.small import LABELS, example
from tests.videollm.documents import frames

BOXES = (Box(0.1, 0.2, 0.5, 0.9), Box(0, 0, 1, 1), Box(0.9, 0.0, 1.0, 0.02), Box(0.5, 0.5, 0.501, 0.9))
ABOUT = {
    "en": "[PER0 Ada] was born in [LOC1 Arles] .",
    "zh": "[PER0 苏珊]出生在[LOC1 北京]。",
}


def gold(*boxes: Box) -> Annotation:
    return Annotation(regions=tuple(Region(24, box, "PER") for box in boxes))


def drawn(box: Box, share: float, times: int = 200) -> list[Box]:
    rng = random.Random(0)
    return [jittered(gold(box), share, rng).regions[0].box for _ in range(times)]


@pytest.mark.parametrize("box", BOXES)
def test_a_box_stays_legal_and_near_the_true_one(box):
    found = drawn(box, 0.3)
    assert all(one.is_legal and iou(one, box) >= LEAST_IOU for one in found)
    assert len(set(found)) > 100


def test_place_and_size_change_by_the_share_of_a_side_at_most():
    box = Box(0.4, 0.3, 0.6, 0.7)
    for low, high in ((0, 2), (1, 3)):
        side, middle = box[high] - box[low], (box[high] + box[low]) / 2
        shifts = [((one[high] + one[low]) / 2 - middle) / side for one in drawn(box, 0.1)]
        scales = [(one[high] - one[low]) / side - 1 for one in drawn(box, 0.1)]
        for changes in (shifts, scales):
            assert isclose(max(changes), 0.1, abs_tol=1e-9)
            assert isclose(min(changes), -0.1, abs_tol=1e-9)


def test_boxes_change_alone():
    whole = example("d", ABOUT["en"]).gold
    assert jittered(whole, 0.1, random.Random(0)) == whole


@pytest.mark.parametrize("lang", ABOUT)
def test_an_item_is_learned_with_other_boxes_each_time_and_the_same_prompt(tiny, tmp_path, lang):
    dataset = learned(tiny, tmp_path, lang, box_jitter=0.1)
    (entry,) = dataset.entries
    rng = random.Random(0)
    first, second = (dataset.encoded(dataset.varied(entry, rng)) for _ in range(2))
    again = dataset.encoded(dataset.varied(entry, random.Random(0)))
    true = dataset.encoded(entry)
    assert prompt(first) == prompt(second) == prompt(true)
    assert answer(first) == answer(again)
    assert len({answer(first), answer(second), answer(true)}) == 3


def test_without_jitter_and_without_boxes_an_item_is_as_it_is(tiny, tmp_path):
    for options, shown in (({}, True), ({"box_jitter": 0.1}, False)):
        dataset = learned(tiny, tmp_path, "en", shown=shown, **options)
        (entry,) = dataset.entries
        assert dataset.varied(entry, random.Random(0)) is entry


def learned(tiny, folder, lang: str, *, shown: bool = True, **options) -> SFTDataset:
    made = example("d", ABOUT[lang], lang=lang)
    stills = frames(folder, (160, 90)) if shown else ()
    regions = tuple(Region(still.index, BOXES[0], "PER", "c0") for still in stills)
    whole = Example(replace(made.document, frames=tuple(stills)), replace(made.gold, regions=regions))
    system = VideoLLM(Config(model=tiny("qwen2_5_vl"), device="cpu", **options), labels=LABELS)
    return SFTDataset(system.builder, system.engine, [whole], system.config)


def prompt(row: Encoded) -> list[int]:
    return row.inputs["input_ids"][0, : -row.target_tokens].tolist()


def answer(row: Encoded) -> tuple[int, ...]:
    return tuple(row.inputs["input_ids"][0, -row.target_tokens :].tolist())
