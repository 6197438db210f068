"""A second look where the first is not sure, and presence before frames."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("jinja2", reason="needs the extra 'llm'")

from m3dllm.systems.videollm.engines.base import Reply
from m3dllm.systems.videollm.strategies import find_strategy
from m3dllm.systems.videollm.strategies.choices import Choice, Ranking, entropy
from m3dllm.types import Document
from tests.videollm.talking import talk
from tests.videollm.test_mqa import RIGHT, TEXT, TYPES, Speaker
from tests.videollm.test_strategies import annotation, instruction, subject


class Doubter(Speaker):
    """A speaker that is less sure the first time, and knows who is to be seen."""

    def __init__(self, *args, sure: float, present: str = "Bela", **more):
        super().__init__(*args, **more)
        self.sure, self.present = sure, present

    def __call__(self, question) -> Reply:
        if question.stage.name == "present":
            self.asked.append(question)
            yes = self.present in instruction(question)
            return Reply(text="yes" if yes else "no", scores=(-0.1, -3.0) if yes else (-3.0, -0.1))
        reply = super().__call__(question)
        if reply.scores is None or question.stage.name.endswith("_again"):
            return reply
        return Reply(text=reply.text, scores=tuple(score * self.sure for score in reply.scores))


def about(text: str = TEXT, **options):
    return subject(Document("d", "en", text, frames=subject().document.frames), strategy="gem", **options)


AGAIN = {**RIGHT, **{("type_again", words): pick for (stage, words), pick in RIGHT.items() if stage == "type"}}
AGAIN |= {("relation_again", words): pick for (stage, words), pick in RIGHT.items() if stage == "relation"}


def stages(speaker: Speaker) -> set[str]:
    return {question.stage.name for question in speaker.asked}


def test_what_is_not_sure_is_prompted_again_and_that_answer_counts():
    asked, speaker = about(), Doubter([*TYPES], AGAIN, sure=0.1)
    found = annotation(asked, talk("gem", asked, speaker))
    assert {"type_again", "relation_again", "present"} <= stages(speaker)
    assert [chain.type for chain in found.chains] == ["PER", "PER", "LOC"]
    assert [(r.head, r.tail, r.type) for r in found.relations] == [("c0", "c2", "PER-LOC_birth")]


def test_what_is_sure_is_asked_once():
    asked, speaker = about(), Doubter([*TYPES], AGAIN, sure=20.0)
    talk("gem", asked, speaker)
    assert not {"type_again", "relation_again"} & stages(speaker)


def test_the_gate_says_what_is_sure():
    speaker = Doubter([*TYPES], AGAIN, sure=0.1)
    talk("gem", about(gate=1.0), speaker)
    assert not {"type_again", "relation_again"} & stages(speaker)


def test_an_engine_without_likelihoods_is_asked_once():
    asked, speaker = about(), Doubter([*TYPES], AGAIN, sure=0.1, scored=False)
    found = annotation(asked, talk("gem", asked, speaker))
    assert not {"type_again", "relation_again"} & stages(speaker)
    assert found.chains


def test_only_who_is_present_is_sought_in_the_frames():
    for present, regions in (("Bela", 1), ("nobody", 0)):
        asked, speaker = about(), Doubter([*TYPES], AGAIN, sure=20.0, present=present)
        found = annotation(asked, talk("gem", asked, speaker))
        assert len(found.regions) == regions
        assert ("seen" in stages(speaker)) == bool(regions)


def test_a_second_question_offers_the_likeliest_options_in_their_order():
    choice = Choice({}, [{"n": i} for i in range(4)], "abcd")
    best = Ranking(choice, 1, (0.1, 0.4, 0.05, 0.3, 0.15)).best(3)
    assert (best.meanings, [o["n"] for o in best.options]) == (["a", "b", "d"], [0, 1, 3])


@pytest.mark.parametrize(("shares", "expected"), [((0.5, 0.5), 1.0), ((1.0, 0.0), 0.0), ((1.0,), 0.0)])
def test_entropy_is_from_0_to_1(shares, expected):
    assert math.isclose(entropy(shares), expected)


def test_the_share_that_was_prompted_again_is_reported():
    told = find_strategy("gem").sums_up({"type": 40, "type_again": 10, "relation": 8})
    assert told == "asked again: 25.0% of the questions of stage type and 0.0% of the questions of stage relation"
