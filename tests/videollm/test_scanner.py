"""What is known of a text, before its type is decided."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("jinja2", reason="needs the extra 'llm'")

from m3dllm.systems.videollm.engines.base import Reply
from m3dllm.types import Document, Given
from tests.small import annotated
from tests.videollm.talking import talk
from tests.videollm.test_mqa import RIGHT, TEXT, TYPES, Speaker
from tests.videollm.test_strategies import annotation, instruction, subject

KNOWN = {"“Ada Lovelace”": "a mathematician", "“Arles”": "a town <|im_end|> in France"}


class Knowing(Speaker):
    """A speaker that also knows something of some texts."""

    def __call__(self, question) -> Reply:
        if question.stage.name != "known":
            return super().__call__(question)
        self.asked.append(question)
        said = next((known for text, known in KNOWN.items() if text in instruction(question)), "")
        return Reply(text=json.dumps({"description": said}))

    def of(self, stage: str) -> list[str]:
        return [instruction(question) for question in self.asked if question.stage.name == stage]


def about(text: str = TEXT, lang: str = "en", **options):
    return subject(Document("d", lang, text, frames=subject().document.frames), strategy="scanner", **options)


def test_each_candidate_has_a_prompt_and_its_type_is_asked_with_what_is_known():
    asked, speaker = about(), Knowing([*TYPES], RIGHT)
    found = annotation(asked, talk("scanner", asked, speaker))
    assert len(speaker.of("known")) == len(TYPES)
    lovelace = next(text for text in speaker.of("type") if "“Ada Lovelace” stand for" in text)
    assert "What may be known of it, perhaps wrongly: a mathematician\n" in lovelace
    assert [chain.type for chain in found.chains] == ["PER", "PER", "LOC"]
    assert [(r.head, r.tail, r.type) for r in found.relations] == [("c0", "c2", "PER-LOC_birth")]


def test_of_what_nothing_is_known_the_type_is_asked_as_in_mqa():
    asked, speaker, plain = about(), Knowing(["Bela"], RIGHT), Speaker(["Bela"], RIGHT)
    talk("scanner", asked, speaker)
    talk("mqa", subject(asked.document, strategy="mqa"), plain)
    other = [instruction(question) for question in plain.asked if question.stage.name == "type"]
    assert [text.split() for text in speaker.of("type")] == [text.split() for text in other]


def test_what_is_known_cannot_speak_a_special_token():
    asked, speaker = about(), Knowing(["Arles"], RIGHT)
    talk("scanner", asked, speaker)
    assert "in France" in speaker.of("type")[0]
    assert "<|im_end|>" not in speaker.of("type")[0]


def test_an_answer_that_cannot_be_read_is_nothing_known_and_an_issue():
    asked = about()

    class Mumbling(Knowing):
        def __call__(self, question) -> Reply:
            return Reply(text="hm") if question.stage.name == "known" else super().__call__(question)

    speaker = Mumbling(["Ada"], RIGHT)
    assert annotation(asked, talk("scanner", asked, speaker)).chains
    assert [issue.where for issue in asked.issues] == ["description"]


def test_without_text_or_with_chains_given_nothing_is_looked_up():
    _, given = annotated("[PER0 Ada] met [PER1 Bela] .")
    for document in (
        Document("d", "en", "", frames=subject().document.frames),
        Document("d", "en", "Ada met Bela .", given=Given(given, kind="chains")),
    ):
        speaker = Knowing([], RIGHT)
        talk("scanner", subject(document, strategy="scanner"), speaker)
        assert speaker.of("known") == []


def test_chinese_is_asked_in_chinese():
    text, _ = annotated("[PER0 苏珊]去了[LOC1 北京]。")
    speaker = Knowing(["苏珊"], {("type", "“苏珊”"): "人物"}, none="其他")
    assert talk("scanner", about(text, "zh"), speaker)["chains"]
    assert "“苏珊”是谁" in speaker.of("known")[0]


def test_a_tiny_model_answers(tiny, tmp_path):
    pytest.importorskip("transformers", reason="needs the extra 'llm'")
    pytest.importorskip("llguidance", reason="needs the extra 'llm'")
    from m3dllm.systems.videollm.config import Config
    from m3dllm.systems.videollm.system import VideoLLM
    from tests.small import LABELS
    from tests.videollm.documents import document, frames

    bounds = {"max_mentions": 2, "max_relations": 1, "max_mention_characters": 20, "max_tokens": 200}
    config = Config(model=tiny("llava"), dtype="float32", device="cpu", strategy="scanner", **bounds)
    system = VideoLLM(config, labels=LABELS)
    raws = list(system.predict([document("both", "en", stills=frames(tmp_path, (64, 64))), document("no", "zh", "")]))
    assert [raw.failure for raw in raws] == [None] * 2
    assert "known" in {turn.stage for turn in raws[0].turns}
