"""Boxes first, then relations, asked with the boxes drawn on the frames."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="needs the extra 'llm'")
pytest.importorskip("PIL", reason="needs the extra 'llm'")

from PIL import Image

from m3dllm.systems.videollm.drawing import drawn
from m3dllm.systems.videollm.messages import Still
from m3dllm.systems.videollm.strategies import find_strategy
from m3dllm.types import Annotation, Box, Document, Given, Region, Relation
from tests.small import annotated
from tests.videollm.test_strategies import TEXT, instruction, subject, talk

focalmre = find_strategy("focalmre")
GREY = (128, 128, 128)
ENTITIES = {"PER": ["Ada", "Bela"], "LOC": ["Arles"]}
CHAINS = {"chains": [["m0", "m3"], ["m1", "m4"]]}
COUPLE = {"relations": [{"head": "c0", "tail": "c1", "type": "PER-PER_couple"}]}


def region(chain, box, frame=24):
    return {"frame": frame, "type": "PER", "chain": chain, "box": box}


def about(document=None, *, lang="en", text=TEXT):
    """A context that shows two grey frames."""
    document = document or Document("d", lang, text, frames=subject().document.frames)
    stills = [Still(frame, Image.new("RGB", (640, 360), GREY), f"hash{frame}") for frame in (24, 48)]
    return subject(document, frames=2, strategy="focalmre").showing(stills)


def asked_with(context, *said):
    """(the payload, the questions, the frames that relations were asked with)."""
    payload, asked = talk(focalmre, context, *said)
    (related,) = [question for question in asked if question.stage.name == "relations"]
    return payload, asked, [part for part in related.request.messages[-1].parts if isinstance(part, Still)]


def test_relations_are_asked_last_with_the_boxes_of_chains_drawn():
    context = about()
    boxes = {"regions": [region("c0", [100, 200, 300, 800]), region(None, [500, 0, 900, 900])]}
    payload, asked, (first, second) = asked_with(context, ENTITIES, CHAINS, boxes, COUPLE)
    assert [question.stage.name for question in asked] == ["entities", "chains", "grounding", "relations"]
    assert "each bears the name of the entity that it shows: c0.\n" in instruction(asked[-1])
    assert payload["regions"] == boxes["regions"]
    assert payload["relations"] == COUPLE["relations"]
    red = first.image.getpixel((191, 250))
    assert red != GREY
    assert first.image.getpixel((120, 287)) == red
    assert first.image.getpixel((320, 100)) == GREY  # of no chain
    assert second is context.stills[1]


def test_the_frames_themselves_stay_as_they_are():
    context = about()
    boxes = {"regions": [region("c0", [100, 200, 300, 800])]}
    _, asked, (first, _) = asked_with(context, ENTITIES, CHAINS, boxes, COUPLE)
    assert context.stills[0].image.getcolors() == [(640 * 360, GREY)]
    assert all(part is not first for question in asked[:-1] for part in question.request.messages[-1].parts)
    assert first.sha256 != context.stills[0].sha256


def test_the_same_boxes_have_the_same_hash_and_others_another():
    still = Still(24, Image.new("RGB", (64, 36), GREY), "hash")
    left, right = (0, "c0", Box(0.1, 0.1, 0.4, 0.9)), (1, "c1", Box(0.5, 0.1, 0.9, 0.9))
    hashes = [drawn(still, boxes, (64, 36)).sha256 for boxes in ([left], [left], [right], [left, right])]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
    assert drawn(still, [], (64, 36)) is still


def test_a_box_of_a_padded_picture_is_drawn_where_the_frame_is():
    still = Still(24, Image.new("RGB", (64, 64), GREY), "hash")
    image = drawn(still, [(0, "c0", Box(0.0, 0.0, 1.0, 1.0))], (64, 32)).image
    coloured = [y for y in range(64) if image.getpixel((60, y)) != GREY]
    assert (coloured[0], coloured[-1]) == (16, 47)


@pytest.mark.parametrize(
    "odd",
    [
        [],
        [region("c9", [100, 200, 300, 800])],
        [region("c0", [100, 200, 300, 800], frame=[24])],
        [region("c0", "somewhere")],
        ["c0", 7, [24]],
        [region("c0", [300, 800, 100, 200])],
    ],
)
def test_without_a_box_of_a_chain_they_are_prompted_as_in_staged(odd):
    context = about()
    _, asked, stills = asked_with(context, ENTITIES, CHAINS, {"regions": odd}, COUPLE)
    assert "Boxes are drawn" not in instruction(asked[-1])
    assert stills == context.stills
    _, plain = talk(find_strategy("staged"), about(), ENTITIES, CHAINS, COUPLE, {"regions": []})
    assert instruction(asked[-1]).split() == instruction(plain[2]).split()


def test_where_nothing_can_be_related_only_boxes_are_prompted_for():
    _, asked = talk(focalmre, about(), {"LOC": ["Arles"]}, {"regions": []})
    assert [question.stage.name for question in asked] == ["entities", "grounding"]


def test_gold_chains_are_boxed_before_they_are_related_and_answered_without_boxes():
    text, chains = annotated("[PER0 Ada] met [PER1 Bela] .")
    document = replace(about().document, text=text, given=Given(chains, kind="chains"))
    boxes = {"regions": [region("c1", [100, 200, 300, 800], frame=48)]}
    payload, asked, stills = asked_with(about(document), boxes, COUPLE)
    assert [question.stage.name for question in asked] == ["grounding", "relations"]
    assert [still.sha256 == f"hash{still.frame}" for still in stills] == [True, False]
    assert (payload["relations"], payload["regions"]) == (COUPLE["relations"], [])


def test_gold_mentions_and_documents_without_frames_or_text_are_prompted_as_in_staged():
    text, chains = annotated("[PER0 Ada] met [PER1 Ada] .")
    given = Document("d", "en", text, given=Given(chains, kind="mentions"))
    for document, said in (
        (given, [{"chains": []}]),
        (Document("d", "en", TEXT), [ENTITIES, CHAINS, COUPLE]),
        (Document("d", "en", ""), []),
    ):
        context = subject(document, frames=0)
        assert talk(focalmre, context, *said)[0] == talk(find_strategy("staged"), subject(document, frames=0), *said)[0]


def test_chinese_prompts_are_in_chinese():
    boxes = {"regions": [region("c0", [100, 200, 300, 800])]}
    said = [{"PER": ["苏珊", "乔治"]}, {"chains": []}, boxes, {"relations": []}]
    _, asked, _ = asked_with(about(lang="zh", text="苏珊见了乔治。"), *said)
    assert "标有它所显示的实体的编号：c0。" in instruction(asked[-1])


def test_a_model_is_tuned_to_relations_with_gold_boxes_drawn():
    from m3dllm.systems.videollm.builder import View
    from m3dllm.systems.videollm.tuning.conversations import items_of
    from m3dllm.systems.videollm.windows import Window

    text, chains = annotated("[PER0 Ada] met [PER1 Bela] .")
    context = about(replace(about().document, text=text))
    gold = Annotation(
        chains, (Relation("c0", "c1", "PER-PER_couple"),), (Region(24, Box(0.1, 0.2, 0.3, 0.8), "PER", "c1"),)
    )
    items = items_of([View(Window(0, context.document), context)], gold)
    assert [item.stage for item in items] == ["entities", "chains", "grounding", "relations"]
    shown = [part for part in items[-1].request.messages[-1].parts if isinstance(part, Still)]
    assert [still is own for still, own in zip(shown, context.stills, strict=True)] == [False, True]
    assert json.loads(items[-1].answer) == COUPLE


def test_a_tiny_model_answers_documents_of_all_kinds(tiny, tmp_path):
    pytest.importorskip("transformers", reason="needs the extra 'llm'")
    pytest.importorskip("llguidance", reason="needs the extra 'llm'")
    from m3dllm.systems.videollm.config import Config
    from m3dllm.systems.videollm.system import VideoLLM
    from tests.small import LABELS
    from tests.videollm.documents import document, frames

    stills = frames(tmp_path, (160, 90), (64, 64))
    before = [Path(frame.path).read_bytes() for frame in stills]
    bounds = {"max_chains": 3, "max_mentions": 2, "max_relations": 2, "max_regions": 1, "max_mention_characters": 20}
    config = Config(model=tiny("llava"), dtype="float32", device="cpu", max_tokens=200, strategy="focalmre", **bounds)
    system = VideoLLM(config, labels=LABELS)
    documents = [
        document("both", "en", stills=stills),
        document("zh", "zh", stills=stills[:1]),
        document("blind", "en"),
    ]
    raws = list(system.predict(documents))
    assert [raw.failure for raw in raws] == [None] * 3
    assert [Path(frame.path).read_bytes() for frame in stills] == before
    assert all(json.loads(text) for text in system.take_prompts().values())
