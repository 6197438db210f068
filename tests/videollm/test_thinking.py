"""Thinking before the answer: free, kept, counted, and no part of what is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the extra 'llm'")
pytest.importorskip("llguidance", reason="needs the extra 'llm'")

from m3dllm.errors import UserError
from m3dllm.normalize import normalize
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines.local.model import LocalModel
from m3dllm.systems.videollm.engines.local.thinking import MARKS, find_marks
from m3dllm.systems.videollm.messages import Message
from m3dllm.systems.videollm.system import VideoLLM
from m3dllm.systems.videollm.tuning.trainer import check
from tests.small import LABELS, examples
from tests.videollm.documents import document, frames

SMALL = {"max_chains": 3, "max_mentions": 2, "max_relations": 2, "max_regions": 1, "max_mention_characters": 20}
THINK = MARKS[0]
DOCUMENTS = [document("en"), document("zh", "zh"), document("short", text="Ada met Bela ."), document("empty", text="")]


@pytest.fixture(scope="module")
def make(tiny):
    loaded = {}

    def system(model: str, **options) -> VideoLLM:
        fixed = {"model": model, "dtype": "float32", "device": "cpu", "max_tokens": 200, "thinking": 12}
        config = Config(**fixed | SMALL | options)
        heavy = (config.engine, model, config.thinking, config.batch)
        made = VideoLLM(config, labels=LABELS, engine=loaded.get(heavy))
        loaded[heavy] = made.engine
        return made

    yield system
    for engine in loaded.values():
        engine.close()


@pytest.fixture(scope="module")
def sees(tiny, tmp_path_factory) -> str:
    """A model that reads images, and whose tokenizer writes `</think>` in several tokens."""
    folder = Path(shutil.copytree(tiny("qwen2_5_vl"), tmp_path_factory.mktemp("sees") / "model"))
    template = folder / "chat_template.jinja"
    template.write_text(
        template.read_text().replace("assistant\n{% endif", "assistant\n<think>\n{# </think> #}{% endif")
    )
    return str(folder)


def test_the_marks_of_a_model_are_those_of_its_chat_format_or_its_tokens():
    assert find_marks("… [/THINK] …", ()) is MARKS[2]
    assert find_marks("", ("<s>", "</think>")) is THINK
    assert find_marks("{{ message.content }}", ("<s>",)) is None


def test_thoughts_are_begun_once():
    assert THINK.start("user: Hi\n", thinks=True) == "user: Hi\n<think>\n"
    assert THINK.start("user: Hi\n<think>\n", thinks=True) == "user: Hi\n<think>\n"


def test_an_answer_may_have_a_mark_of_its_own():
    """GPT-OSS answers in one channel and thinks in another; what closes both is a mark of other models too."""
    marks = find_marks('"<|start|>assistant<|channel|>analysis<|message|>" + message.thinking + "<|end|>"', ())
    assert marks.start("<|start|>assistant", thinks=False) == "<|start|>assistant<|channel|>final<|message|>"
    begun = marks.start("<|start|>assistant", thinks=True)
    assert begun == "<|start|>assistant<|channel|>analysis<|message|>"
    assert marks.end("Ada is a name.").endswith("<|end|><|start|>assistant<|channel|>final<|message|>")
    assert find_marks("<|assistant|>{{ message.content }}<|end|>", ("<|end|>",)) is None


def test_thoughts_that_the_chat_format_begins_are_closed_where_nothing_is_to_be_thought():
    assert THINK.start("user: Hi\n<think>\n", thinks=False) == "user: Hi\n<think>\n\n</think>\n\n"
    assert THINK.start("user: Hi\n", thinks=False) == "user: Hi\n"


@pytest.mark.parametrize(("tokens", "end"), [(0, "<think>\n\n</think>\n\n"), (9, "assistant\n<think>\n")])
def test_the_chat_format_gets_the_switch_of_thinking(tiny, tokens, end):
    local = LocalModel(Config(model=tiny("thinking"), thinking=tokens))
    assert local.chat([Message("user", ("Who?",))]).endswith(end)


def test_a_model_that_does_not_think_is_refused(tiny):
    with pytest.raises(UserError, match=r"--thinking 9: model '.*' is not a thinking model"):
        LocalModel(Config(model=tiny("text_only"), thinking=9))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"thinking": 9}, "--thinking 9: gold answers"), ({"model": "a.gguf"}, "a GGUF file cannot")],
)
def test_a_fit_has_no_thoughts_and_no_gguf_file(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        check(Config(**options), examples("train", 1), tmp_path)


@pytest.mark.parametrize("strategy", ["joint", "mqa"])
def test_the_answer_is_constrained_and_the_thoughts_are_kept_and_counted(make, tiny, strategy):
    system = make(tiny("thinking"), strategy=strategy)
    raws = list(system.predict(DOCUMENTS))
    turns = [turn for raw in raws for turn in raw.turns]
    assert [raw.failure for raw in raws] == [None] * 4
    assert all(0 < turn.tokens_thinking <= 12 and turn.tokens_thinking < turn.tokens_out for turn in turns)
    assert all(0 < turn.first_token_s <= turn.thinking_s < turn.seconds for turn in turns)
    assert any(turn.reasoning for turn in turns)
    assert not any("</think>" in turn.reasoning + turn.text for turn in turns)
    for about, raw in zip(DOCUMENTS, raws, strict=True):
        assert not {issue.code for issue in normalize(about, raw, LABELS).issues} & {"not_json", "repaired"}
    assert system.tally.tokens_thinking == sum(turn.tokens_thinking for turn in turns)


def test_thoughts_end_by_themselves_or_at_their_longest(make, tiny):
    long = [
        turn.tokens_thinking for raw in make(tiny("thinking"), thinking=60).predict(DOCUMENTS) for turn in raw.turns
    ]
    short = [
        turn.tokens_thinking for raw in make(tiny("thinking"), thinking=2).predict(DOCUMENTS) for turn in raw.turns
    ]
    assert min(long) < 60
    assert max(short) == 2


def test_a_document_gets_the_same_thoughts_in_any_company(make, tiny):
    def said(batch: int) -> list:
        raws = make(tiny("thinking"), batch=batch).predict(DOCUMENTS)
        return [(turn.reasoning, turn.text, turn.tokens_in) for raw in raws for turn in raw.turns]

    assert said(4) == said(1)


def test_a_model_thinks_about_frames_too(make, sees, tmp_path):
    about = document("d", stills=frames(tmp_path, (160, 90), (64, 64)))
    system = make(sees, strategy="staged")
    (raw,) = system.predict([about])
    assert raw.failure is None
    assert all(turn.tokens_thinking == 12 and turn.tokens_vision > 0 for turn in raw.turns)
    assert raw.turns[0].tokens_reused == 0
    assert raw.boxes.sizes
    needed = system.builder.needed(system.builder.show(about))
    free = make(sees, thinking=0, strategy="staged").builder
    assert needed - free.needed(free.show(about)) >= 12


@pytest.mark.slow
def test_vllm_thinks_as_the_transformers_engine_does(make, tiny):
    pytest.importorskip("vllm", reason="needs the extra 'vllm'")
    said = [
        [
            (turn.reasoning, turn.text, turn.tokens_in, turn.tokens_thinking, turn.tokens_out)
            for raw in make(tiny("thinking"), engine=engine, context=4000).predict(DOCUMENTS)
            for turn in raw.turns
        ]
        for engine in ("transformers", "vllm")
    ]
    assert said[0] == said[1]
    assert all(json.loads(text) for _, text, *_ in said[1])
