"""Entities described, sought frame by frame, and boxed where they are seen."""

from __future__ import annotations

import json
import math

import pytest

pytest.importorskip("jinja2", reason="needs the extra 'llm'")

from m3dllm.normalize import normalize
from m3dllm.systems.videollm.engines.base import Reply
from m3dllm.systems.videollm.strategies import find_strategy
from m3dllm.types import Document, RawOutput
from tests.small import LABELS
from tests.videollm.talking import talk
from tests.videollm.test_strategies import TEXT, instruction, subject

ANSWERS = {
    "entities": {"PER": ["Ada", "Bela"], "LOC": ["Arles"]},
    "chains": {"chains": [["m0", "m3"], ["m1", "m4"]]},
    "relations": {"relations": []},
    "describe": {"description": "a woman in red"},
    "box": {"box": [100, 200, 300, 400]},
}


def seen(about, *, yes: str = "Ada", scored: bool = True):
    """(the annotation, the questions) where the model sees one entity in frame 24 alone."""
    asked = []

    def reply(question) -> Reply:
        asked.append(question)
        if question.stage.name != "entailed":
            return Reply(text=json.dumps(ANSWERS[question.stage.name]))
        text = instruction(question)
        right = yes in text and "24" in text
        word = question.request.options[not right] if question.request.options else ("yes" if right else "no")
        return Reply(text=word, scores=((-0.1, -2.0) if right else (-2.0, -0.1)) if scored else None)

    raw = RawOutput("d", payload=talk("riveg", about, reply), issues=tuple(about.issues))
    return normalize(about.document, raw, LABELS).annotation, asked


def about(text: str = TEXT, lang: str = "en", frames: int = 2, **options):
    return subject(Document("d", lang, text, frames=subject().document.frames), frames=frames, **options)


def named(asked, stage: str) -> list[str]:
    return [instruction(question).strip() for question in asked if question.stage.name == stage]


def test_each_entity_is_described_sought_in_every_frame_and_boxed_where_it_is_seen():
    found, asked = seen(about())
    assert len(named(asked, "describe")) == 2
    assert len(named(asked, "entailed")) == 4
    assert "Does frame 24 show Ada (person): a woman in red?" in named(asked, "entailed")[0]
    assert len(named(asked, "box")) == 1
    (region,) = found.regions
    assert (region.frame, region.type, region.chain, tuple(region.box)) == (24, "PER", "c0", (0.1, 0.2, 0.3, 0.4))
    assert 0.8 < region.confidence < 0.9


def test_a_word_counts_where_the_engine_gives_no_likelihoods():
    found, _ = seen(about(unconstrained=True), scored=False)
    assert [(region.frame, region.confidence) for region in found.regions] == [(24, None)]


def test_without_a_text_the_types_of_regions_are_sought():
    found, asked = seen(about(""), yes="person")
    assert {question.stage.name for question in asked} == {"entailed", "box"}
    assert [(region.type, region.chain) for region in found.regions] == [("PER", None)]


def test_without_frames_nothing_is_described():
    _, asked = seen(about(frames=0))
    assert {question.stage.name for question in asked} == {"entities", "chains", "relations"}


def test_an_empty_document_is_not_prompted_about():
    empty = subject(Document("d", "en", ""), frames=0)
    assert seen(empty)[1] == []


def test_chinese_prompts_have_yes_and_no_in_chinese():
    asked = seen(about("苏珊去了北京。", "zh"))[1]
    entailed = [question for question in asked if question.stage.name == "entailed"]
    assert all(question.request.options == ("是", "否") for question in entailed)


def test_the_steps_can_be_put_to_other_models():
    models = {stage.name: stage.model for stage in find_strategy("riveg").stages}
    assert (models["entailed"], models["box"], models["describe"]) == ("entailment", "grounding", "main")


def test_a_number_that_is_too_large_is_infinite():
    box = about().visible.fractions(24, [1, 2, 10**400, -(10**400)])
    assert box[2:] == [math.inf, -math.inf]


def test_boxes_of_another_model_are_read_in_its_own_numbers():
    from m3dllm.systems.videollm.families import CONVENTIONS
    from m3dllm.systems.videollm.visible import VisibleFrames

    main, other = about(), about()
    other.visible = VisibleFrames({24: (1000, 500), 48: (1000, 500)}, CONVENTIONS["pixels"])
    main.roles["grounding"] = other
    found, _ = seen(main)
    assert [tuple(region.box) for region in found.regions] == [(0.1, 0.4, 0.3, 0.8)]
