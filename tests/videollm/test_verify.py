"""What another system proposes, put to the model part by part: what is asked, and what the letters come to."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("jinja2", reason="needs the extra 'llm'")

from m3dllm.errors import UserError
from m3dllm.normalize import normalize
from m3dllm.systems.videollm.strategies import find_strategy
from m3dllm.systems.videollm.windows import cut
from m3dllm.types import Annotation, Box, Chain, Document, Frame, Given, Mention, RawOutput, Region, Relation
from tests.small import LABELS
from tests.videollm.talking import talk
from tests.videollm.test_mqa import Speaker
from tests.videollm.test_strategies import instruction, subject

TEXT = "Ada Lovelace met Bela in Arles . She left ."
PROPOSED = Annotation(
    (
        Chain("a", (Mention(0, 12, "PER", 0.9), Mention(33, 36, "PER", 0.6, 0.5))),
        Chain("b", (Mention(17, 21, "LOC", 0.7),)),
        Chain("c", (Mention(25, 30, "LOC", 0.99),)),
        Chain("d", (Mention(13, 16, "PER", 0.4),)),
    ),
    (Relation("a", "c", "PER-LOC_birth", 0.8), Relation("d", "c", "PER-LOC_birth", 0.3)),
    (
        Region(24, Box(0.1, 0.2, 0.3, 0.4), "PER", "a", 0.6),
        Region(24, Box(0.5, 0.2, 0.7, 0.4), "PER", None, 0.2),
        Region(48, Box(0.1, 0.2, 0.3, 0.4), "PER", None, 0.3),
    ),
)
RIGHT = {
    ("type", "“Ada Lovelace”"): "person",
    ("type", "“She”"): "person",
    ("type", "“Bela”"): "person",
    ("type", "“Arles”"): "location",
    ("coreference", "“She”"): "“Ada Lovelace”",
    ("relation", "“Arles”"): "born in",
    ("region", "[100,200,300,400]"): "Ada Lovelace",
}


def about(proposed: Annotation = PROPOSED, text: str = TEXT, lang: str = "en", **options):
    frames = tuple(Frame(i, f"{i}.png", 640, 360) for i in (24, 48))
    return subject(Document("d", lang, text, frames=frames, proposed=proposed), strategy="verify", **options)


def checked(asked, speaker: Speaker):
    """What the conversation comes to, normalized: its boxes are fractions."""
    return normalize(asked.document, RawOutput("d", payload=talk("verify", asked, speaker)), LABELS).annotation


@pytest.mark.parametrize("scored", [True, False])
def test_each_part_is_confirmed_retyped_or_dropped(scored):
    found = checked(about(), Speaker([], RIGHT, scored=scored))
    said = [[(TEXT[m.start : m.end], m.type) for m in chain.mentions] for chain in found.chains]
    assert said == [[("Ada Lovelace", "PER"), ("She", "PER")], [("Bela", "PER")], [("Arles", "LOC")]]
    assert [(r.head, r.tail, r.type) for r in found.relations] == [("c0", "c2", "PER-LOC_birth")]
    assert [(r.frame, r.chain) for r in found.regions] == [(24, "c0"), (48, None)]


def test_nothing_is_asked_of_what_was_not_proposed():
    speaker = Speaker([], RIGHT)
    assert checked(about(Annotation()), speaker) == Annotation()
    assert speaker.asked == []


def test_a_decision_has_its_own_confidence_and_what_was_not_asked_that_of_the_proposal():
    found = checked(about(), Speaker([], RIGHT))
    assert 0.5 < found.chains[0].mentions[0].confidence != 0.9
    assert found.relations[0].confidence != 0.8
    assert [region.confidence for region in found.regions][1] == 0.3  # its frame is not shown


def test_a_link_that_does_not_hold_begins_a_chain():
    found = checked(about(), Speaker([], {**RIGHT, ("coreference", "“She”"): "none"}))
    assert sorted(len(chain.mentions) for chain in found.chains) == [1, 1, 1, 1]
    assert len(found.relations) == 1  # of what is left of its chain


def test_only_what_is_not_sure_is_asked_behind_a_gate():
    speaker = Speaker([], RIGHT)
    found = checked(about(gate=0.5), speaker)
    asked = {instruction(q).strip().partition("\n")[0] for q in speaker.asked if q.stage.name == "type"}
    assert not any("Arles" in line for line in asked)
    assert any("met" in line for line in asked)
    assert next(m for m in found.mentions if m.start == 25).confidence == 0.99


def test_proposals_without_confidences_are_all_prompted_about():
    bare = Annotation((Chain("a", (Mention(0, 12, "PER"),)),))
    speaker = Speaker([], RIGHT)
    checked(about(bare, gate=0.9), speaker)
    assert [q.stage.name for q in speaker.asked] == ["type", "type"]


def test_what_a_box_shows_is_asked_in_the_numbers_of_the_model_and_the_box_stays():
    speaker = Speaker([], RIGHT)
    found = checked(about(), speaker)
    (first, *_) = [instruction(q).strip() for q in speaker.asked if q.stage.name == "region"]
    assert first.startswith("What does the box [100,200,300,400] in frame 24 show?")
    assert "(A) Ada Lovelace / She (person)" in first
    assert found.regions[0].box == Box(0.1, 0.2, 0.3, 0.4)


def test_two_relations_of_a_pair_are_two_questions_that_do_not_meet():
    couple = Annotation(
        (Chain("a", (Mention(0, 12, "PER"),)), Chain("b", (Mention(17, 21, "PER"),))),
        (Relation("a", "b", "PER-PER_couple"),),
    )
    found = checked(about(couple), Speaker([], {**RIGHT, ("relation", "“Bela”"): "couple"}))
    assert [r.type for r in found.relations] == ["PER-PER_couple"]


@pytest.mark.parametrize(("kind", "stages"), [("mentions", {"coreference"}), ("chains", {"relation"})])
def test_what_is_given_bounds_the_questions(kind, stages):
    asked = about(replace(PROPOSED, regions=()))
    document = replace(asked.document, given=Given(chains=PROPOSED.chains, kind=kind))
    asked.document = document
    speaker = Speaker([], RIGHT)
    checked(asked, speaker)
    assert {q.stage.name for q in speaker.asked} == stages


def test_windows_cut_what_is_proposed():
    document = about().document
    windows = cut(document, 2)
    assert {m.start + w.start for w in windows for m in w.document.proposed.mentions} == {0, 13, 17, 25, 33}


def test_chinese_and_documents_of_one_modality():
    text = "苏珊去了北京。"
    chinese = Annotation((Chain("a", (Mention(0, 2, "PER"),)),))
    found = checked(about(chinese, text, "zh"), Speaker([], {("type", "“苏珊”"): "人物"}, none="不是"))
    assert [m.span for m in found.mentions] == [(0, 2)]
    silent = replace(PROPOSED, chains=(), relations=(), regions=(Region(24, Box(0.1, 0.2, 0.3, 0.4), "PER"),))
    found = checked(about(silent, ""), Speaker([], {("region", "frame 24"): "person"}))
    assert [region.frame for region in found.regions] == [24]


def test_a_label_set_that_is_too_large_is_one_line():
    from m3dllm.labels import Label, LabelSet

    with pytest.raises(UserError, match="52 types of mentions"):
        find_strategy("verify").check(LabelSet(mentions=tuple(Label(f"T{i}") for i in range(52))))
