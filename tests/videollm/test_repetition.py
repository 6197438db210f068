"""Answers that go round in circles."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("jinja2", reason="needs the extra 'llm'")

from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines.base import Reply
from m3dllm.systems.videollm.repetition import collapsed, is_going_round
from m3dllm.systems.videollm.strategies import find_strategy
from m3dllm.systems.videollm.system import VideoLLM
from tests.small import LABELS
from tests.videollm.documents import document
from tests.videollm.test_prompts_two import ask

LOOP = '{"PER":["Ada","Bela","Bela","Bela","Bela"'


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ('{"PER":["Ada","Ada","Ada",', True),
        ('{"PER":["Ada","Ada","Ada"', False),  # it may end by itself
        ('{"PER":["Ada","Ada",', False),
        ('{"PER":["Ada", "Bela", "Ada", "Bela", "Ada", "Bela", ', True),
        ('{"PER":["no, no, no, no, no', False),
        ('{"box":[0,0,0,0,', False),
        ('{"chains":[["m0","m1"],["m0","m1"],["m0","m1"],', True),
        ('[{"id":"c8","mentions":["A"]},{"id":"c9","mentions":["A"]},{"id":"c10","mentions":["A"]},', True),
        ('[{"id":"c8","mentions":["A"]},{"id":"c9","mentions":["B"]},{"id":"c10","mentions":["C"]},', False),
        ('{"A":[],"B":[],"C":[],"D":[],', False),
        ("", False),
        (",,,,", False),
    ],
)
def test_the_third_of_the_same_elements_in_a_row_is_seen_at_the_next_comma(text, seen):
    assert is_going_round(text) is seen


def test_what_is_repeated_is_read_once_and_the_rest_stays():
    text = '{"PER":["Ada","Bela","Bela","Bela","Bela","Cora"],"LOC":["x","x"]}'
    assert collapsed(text) == ('{"PER":["Ada","Bela","Cora"],"LOC":["x","x"]}', 1)
    assert collapsed(LOOP + ",") == ('{"PER":["Ada","Bela",', 1)
    assert collapsed("no JSON, no, no") == ("no JSON, no, no", 0)


def test_chains_that_differ_by_their_names_alone_are_counted_and_stay():
    text = json.dumps({"chains": [{"id": f"c{i}", "mentions": ["Ada"]} for i in range(9, 12)]}, separators=(",", ":"))
    assert collapsed(text) == (text, 1)


@given(st.lists(st.lists(st.sampled_from(["a", ",", '"', '","', "]", "é"]), max_size=3).map("".join), max_size=12))
def test_a_list_stays_a_list_of_the_same_texts(texts):
    for separators in ((",", ":"), (", ", ": ")):
        read, count = collapsed(json.dumps({"PER": texts}, separators=separators, ensure_ascii=False))
        assert set(json.loads(read)["PER"]) == set(texts)
        assert count or json.loads(read)["PER"] == texts


def test_of_any_engine_s_answer_repetitions_are_noted_and_the_text_is_kept():
    said = '{"PER":["Ada","Ada","Ada","Ada"],"LOC":[]}'
    _, raw = ask(said, strategy="staged")
    assert [(i.code, i.where) for i in raw.issues] == [("repetition", "turns[0].text")]
    assert raw.turns[0].text == said


@pytest.mark.parametrize("engine", ["transformers", pytest.param("vllm", marks=pytest.mark.slow)])
def test_an_engine_ends_an_answer_that_goes_round(tiny, engine):
    pytest.importorskip("vllm" if engine == "vllm" else "torch", reason="needs its engine")
    options = {"max_tokens": 400, "context": 4000, "dtype": "float32", "frames": 0, "family": "qwen2.5-vl"}
    config = Config(model=tiny("qwen2_5_vl"), engine=engine, strategy="staged", prompt_version=1, **options)
    raws = list(VideoLLM(config, labels=LABELS).predict([document(str(i), text="a " * i) for i in (3, 9, 20)]))
    ended = [turn for raw in raws for turn in raw.turns if turn.finish == "repetition"]
    assert ended
    assert all(is_going_round(turn.text) and turn.tokens_out < 400 for turn in ended)
    assert all("repetition" in {issue.code for issue in raw.issues} for raw in raws if raw.turns[0] in ended)


@pytest.mark.parametrize("engine", ["transformers", pytest.param("vllm", marks=pytest.mark.slow)])
def test_an_engine_goes_on_with_an_answer(tiny, engine):
    pytest.importorskip("vllm" if engine == "vllm" else "torch", reason="needs its engine")
    options = {"max_tokens": 400, "context": 6000, "dtype": "float32", "frames": 0, "family": "qwen2.5-vl"}
    system = VideoLLM(Config(model=tiny("qwen2_5_vl"), engine=engine, **options), labels=LABELS)
    (view,) = system.builder.of(document("d", text="Ada met Bela ."))
    conversation = find_strategy("joint").run(view.context)
    next(conversation)
    begun = '{"chains":[{"id":"c0","type":"PER","mentions":["Ada"]},{"id":"c1","type":"PER","mentions":["Bela"]}'
    ended = Reply(text=begun + ",", finish="repetition", tokens_out=40)
    (question,) = conversation.send([ended])
    system.engine.submit(0, question.request)
    ((_, reply),) = system.engine.poll()
    assert question.request.begun == begun
    assert reply.text.startswith(("],", ',{"id":"c2"'))
