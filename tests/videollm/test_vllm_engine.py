"""The vllm engine in this process, against the transformers engine, over the same tiny models."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("transformers", reason="needs the extra 'llm'")
pytest.importorskip("llguidance", reason="needs the extra 'llm'")
pytest.importorskip("vllm", reason="needs the extra 'vllm'")

import llguidance

from m3dllm.normalize import normalize
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.dialogue import converse
from m3dllm.systems.videollm.engines.local import masks
from m3dllm.systems.videollm.system import VideoLLM
from m3dllm.types import Document
from tests.small import LABELS
from tests.videollm.documents import HARMLESS, adversarial, document, frames

pytestmark = pytest.mark.slow

SMALL = {"max_chains": 4, "max_mentions": 3, "max_relations": 3, "max_regions": 1, "max_mention_characters": 30}


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    return frames(tmp_path_factory.mktemp("frames"), (160, 90), (90, 160), (64, 64))


@pytest.fixture(scope="module")
def make(tiny):
    loaded = {}

    def system(engine: str, model: str = "qwen2_5_vl", **options) -> VideoLLM:
        fixed = {"model": tiny(model), "engine": engine, "dtype": "float32", "device": "cpu", "context": 6000}
        config = Config(**fixed | {"max_tokens": 300} | SMALL | options)
        heavy = (engine, model, config.video)
        made = VideoLLM(config, labels=LABELS, engine=loaded.get(heavy))
        loaded[heavy] = made.engine
        return made

    yield system
    for engine in loaded.values():
        engine.close()


def mixed(stills) -> list[Document]:
    return [
        document("both", "en", stills=stills),
        document("zh", "zh", stills=stills[:1]),
        document("silent", "zh", "", stills),
        document("blind", "en"),
        document("empty", "en", ""),
    ]


@pytest.mark.parametrize("strategy", ["joint", "staged", "mqa"])
@pytest.mark.parametrize("model", ["qwen2_5_vl", "qwen3_vl"])
def test_the_greedy_answers_are_those_of_the_transformers_engine(make, stills, model, strategy):
    documents = mixed(stills)
    ours = list(make("transformers", model, strategy=strategy).predict(documents))
    theirs = list(make("vllm", model, strategy=strategy).predict(documents))
    assert [raw.failure for raw in theirs] == [None] * 5
    for made, one, other in zip(documents, ours, theirs, strict=True):
        assert [turn.text for turn in one.turns] == [turn.text for turn in other.turns]
        assert normalize(made, one, LABELS) == normalize(made, other, LABELS)
        assert [(t.tokens_in, t.tokens_vision, t.tokens_out) for t in one.turns] == [
            (t.tokens_in, t.tokens_vision, t.tokens_out) for t in other.turns
        ]


def test_later_stages_find_the_document_encoded(make, stills):
    (raw,) = make("vllm", strategy="staged").predict([document("again", stills=stills)])
    assert raw.turns[-1].tokens_reused > raw.turns[-1].tokens_vision > 0
    assert all(0 < turn.first_token_s <= turn.seconds for turn in raw.turns)


def test_a_document_that_is_too_long_is_read_in_windows(make, stills):
    long, short = make("vllm", max_tokens=40).predict(
        [document("long", text="Ada met Bela . " * 2000), document("short")]
    )
    assert long.failure is short.failure is None
    assert [issue.code for issue in long.issues if issue.where == "prompt"] == ["windows"]
    assert len(long.turns) > 1 == len(short.turns)


def test_answers_are_right_whatever_the_document_says(make, stills):
    documents = adversarial(12, "en", stills) + adversarial(12, "zh", stills)
    finished = 0
    for made, raw in zip(documents, make("vllm", strategy="staged").predict(documents), strict=True):
        assert raw.failure is None
        if all(turn.finish == "stop" for turn in raw.turns):
            finished += 1
            issues = {issue.code for issue in normalize(made, raw, LABELS).issues}
            assert issues <= HARMLESS | {"duplicate_relation"}
    assert finished


def test_grammars_have_the_room_that_the_transformers_engine_gives_them(make, stills, monkeypatch):
    system = make("vllm")
    monkeypatch.setattr(masks, "LIMITS", llguidance.LLParserLimits(initial_lexer_fuel=1))
    (refused,) = system.predict([document("zh", "zh", stills=stills)])
    assert refused.failure is not None


def test_a_free_model_and_one_held_to_the_schema_are_answered_too(make, stills):
    for options in ({"unconstrained": True, "max_tokens": 24}, {"schema_only": True}):
        raws = make("vllm", **options).predict(mixed(stills))
        assert [raw.failure for raw in raws] == [None] * 5


def test_a_video_is_seen_as_by_the_transformers_engine(make, stills):
    """Images and videos of the tiny model are normalized by different means, unlike those of the released ones."""
    made, found = document("both", stills=stills), {}
    for engine in ("transformers", "vllm"):
        system = make(engine, "qwen3_vl", video=True)
        (question,) = next(converse(made, system.builder.of(made)))
        system.engine.submit(0, replace(question.request, options=tuple("ABCDEFGH"), constraint=None))
        ((_, reply),) = system.engine.poll()
        found[engine] = reply
    ours, theirs = found["transformers"], found["vllm"]
    assert (ours.tokens_in, ours.tokens_vision) == (theirs.tokens_in, theirs.tokens_vision)
    assert theirs.tokens_vision > 0
    assert theirs.scores == pytest.approx(ours.scores, abs=1e-4)


def test_a_frame_is_known_by_its_file_and_its_size(make, stills):
    """Were it known by less, the second frame would be taken for the first."""
    asked = [document("same", stills=(still,)) for still in stills[:2]]

    def payloads(engine: str) -> list:
        return [raw.payload for made in asked for raw in make(engine).predict([made])]

    assert payloads("vllm") == payloads("vllm") == payloads("transformers")


def test_it_makes_room_for_what_the_documents_need_and_answers_as_with_more(tiny, make, stills):
    documents = mixed(stills)
    more = make("vllm", max_tokens=60)
    system = VideoLLM(more.config, labels=LABELS)
    answers = system.predict(documents)
    try:
        assert system.budget is not None
        assert system.engine.context == system.budget.tokens < more.engine.context
        assert [raw.payload for raw in answers] == [raw.payload for raw in more.predict(documents)]
    finally:
        system.engine.close()
