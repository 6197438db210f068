"""What the documents of a run need at most, measured before any weights are loaded."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("transformers", reason="needs the extra 'llm'")
pytest.importorskip("llguidance", reason="needs the extra 'llm'")

from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines.base import ContextBudget
from m3dllm.systems.videollm.engines.local.tokenizer_only import TokenizerOnlyEngine
from m3dllm.systems.videollm.system import VideoLLM
from m3dllm.types import Chain, Document, Given, Mention
from tests.small import LABELS, example
from tests.videollm.documents import adversarial, document, frames

SIZES = ((160, 90), (90, 160), (64, 64))
FAMILIES = ("qwen2_5_vl", "qwen3_vl", "llava", "internvl")


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    return frames(tmp_path_factory.mktemp("frames"), *SIZES)


def system(tiny, model: str = "qwen2_5_vl", *, examples=(), **options) -> VideoLLM:
    """A system whose engine takes any prompt."""
    config = Config(model=tiny(model), **options)
    engine = TokenizerOnlyEngine(config)
    engine.context = 1 << 30
    return VideoLLM(config, labels=LABELS, examples=examples, engine=engine)


def documents(stills) -> list[Document]:
    made = [
        document("both", "en", stills=stills),
        document("zh", "zh", stills=stills[:1]),
        document("silent", "zh", "", stills),
        document("blind", "en"),
        document("empty", "en", ""),
    ]
    given = Given((Chain("c0", (Mention(0, 3, "PER"),)),), kind="chains")
    return [*made, replace(made[0], given=given), *adversarial(20, "en", stills), *adversarial(20, "zh", stills)]


@pytest.mark.parametrize("strategy", ["joint", "staged", "mqa"])
@pytest.mark.parametrize("model", FAMILIES)
def test_every_document_fits_the_room_that_is_made_for_it(tiny, stills, model, strategy):
    made = system(tiny, model, strategy=strategy)
    for one in documents(stills):
        subject = made.builder.show(one)
        room = made.builder.budget([one])
        assert room.tokens >= made.builder.needed(subject), one.id
        assert room.images == len(subject.frames)


def test_the_room_is_not_much_more_than_is_needed(tiny, stills):
    made = system(tiny)
    one = document("both", "en", "Ada met Bela . " * 400, stills)
    assert made.builder.budget([one]).tokens < 1.3 * made.builder.needed(made.builder.show(one)) + 512


def test_a_clip_and_examples_have_their_room_too(tiny, stills):
    train = [example("train", "[PER0 Ada] was here .", group="other")]
    for options in ({"video": True}, {"shots": 1}):
        made = system(tiny, examples=train, **options)
        one = document("both", "en", stills=stills)
        assert made.builder.budget([one]).tokens >= made.builder.needed(made.builder.show(one))


def test_the_longest_document_decides(tiny):
    made = system(tiny)
    short, long = document("short"), document("long", text="Ada met Bela . " * 2000)
    assert made.builder.budget([short, long]) == made.builder.budget([long])
    assert made.builder.budget([short]).tokens < made.builder.budget([long]).tokens


def test_no_frame_is_read_for_it(tiny, stills):
    gone = tuple(replace(frame, path="/nowhere.png") for frame in stills)
    assert system(tiny).builder.budget([document("gone", stills=gone)]).images == len(SIZES)


def test_no_documents_need_no_room(tiny):
    assert system(tiny).builder.budget([]) == ContextBudget(0, 0)


def test_only_vllm_has_a_budget_of_the_run(tiny):
    made = VideoLLM(Config(model=tiny("qwen2_5_vl")), labels=LABELS)
    made.predict([document("one")])
    assert made.budget is None
