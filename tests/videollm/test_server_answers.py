"""What servers say, in all the ways in which they say it: every text is kept, and read."""

from __future__ import annotations

import json

import pytest

from m3dllm.normalize import normalize
from m3dllm.systems.videollm.engines.openai.kinds import PROBE
from tests.small import LABELS
from tests.videollm.documents import document
from tests.videollm.test_openai_engine import ANSWER, completion, serve, system  # noqa: F401
from tests.videollm.test_servers import VLLM, answer, codes, one


@pytest.mark.parametrize("finish", ["stop", "STOP", "eos", "end_turn", "eos_token", "COMPLETE", "", None, "tool_calls"])
def test_a_whole_answer_is_one_however_its_end_is_spelled(serve, finish):  # noqa: F811
    raw = one(serve(says=lambda n: answer({"content": ANSWER}, finish)))
    assert (raw.failure, raw.turns[0].finish, codes(raw)) == (None, "stop", [])


def test_a_reason_that_is_missing_is_no_failure(serve):  # noqa: F811
    assert one(serve(says=lambda n: (200, {"choices": [{"message": {"content": ANSWER}}]}))).failure is None


@pytest.mark.parametrize("finish", ["content_filter", "SAFETY", "error", "abort"])
def test_a_whole_answer_is_used_and_half_of_one_kept_where_the_server_broke_off(serve, finish):  # noqa: F811
    assert one(serve(says=lambda n: answer({"content": ANSWER}, finish))).failure is None
    raw = one(serve(says=lambda n: answer({"content": ANSWER[:30]}, finish)))
    assert raw.failure is not None
    assert raw.turns[0].text == ANSWER[:30]
    assert raw.failure.retryable == (finish in ("error", "abort"))


@pytest.mark.parametrize("finish", ["length", "MAX_TOKENS", "max_output_tokens", "model_length"])
def test_a_cut_answer_is_cut_however_that_is_spelled(serve, finish):  # noqa: F811
    raw = one(serve(says=lambda n: answer({"content": ANSWER[:-9]}, finish)))
    assert (raw.turns[0].finish, codes(raw)) == ("length", ["truncated"])


@pytest.mark.parametrize(
    "message",
    [
        {"content": None},
        {"content": "", "reasoning_content": "Ada is a name, and"},
        {"content": "<think>\nAda is a name, and"},
    ],
)
def test_thoughts_that_took_all_tokens_are_no_empty_answer(serve, message):  # noqa: F811
    raw = one(serve(says=lambda n: answer(message, "length")))
    assert raw.failure is not None
    assert "before its answer began: raise --max-tokens" in raw.failure.message


def test_thoughts_and_refusals_are_kept(serve):  # noqa: F811
    thought = one(serve(says=lambda n: answer({"content": ANSWER, "reasoning_content": "Ada is a name."})))
    assert thought.turns[0].reasoning == "Ada is a name."
    refused = one(serve(says=lambda n: answer({"content": None, "refusal": "I cannot help with that."})))
    assert refused.turns[0].refusal == "I cannot help with that."
    assert "I cannot help" in refused.failure.message
    assert not refused.failure.retryable


@pytest.mark.parametrize(
    "message",
    [
        {"content": [{"type": "text", "text": ANSWER[:20]}, {"type": "text", "text": ANSWER[20:]}]},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": ANSWER},
            ]
        },
        {"content": None, "tool_calls": [{"function": {"name": "answer", "arguments": ANSWER}}]},
        {"content": "", "reasoning": ANSWER},
        {"content": {"type": "text", "text": ANSWER}},
    ],
)
def test_an_answer_may_stand_in_parts(serve, message):  # noqa: F811
    raw = one(serve(says=lambda n: answer(message)))
    assert (raw.turns[0].text, codes(raw)) == (ANSWER, [])


def events(*chunks: dict) -> bytes:
    lines = (f"data: {json.dumps({'choices': [chunk]})}\n\n" for chunk in chunks)
    return f": PROCESSING\n\n{''.join(lines)}data: [DONE]\n\n".encode()


@pytest.mark.parametrize(("finish", "said"), [("stop", []), ("length", ["truncated"])])
def test_a_server_that_streams_though_it_was_not_asked_to_is_read(finish, said, serve):  # noqa: F811
    halves = ({"delta": {"role": "assistant", "content": part}} for part in (ANSWER[:20], ANSWER[20:]))
    raw = one(serve(says=lambda n: (200, events(*halves, {"delta": {}, "finish_reason": finish}))), retries=0)
    assert (raw.payload, raw.failure) == (ANSWER, None)
    assert codes(raw) == said


def test_a_stream_that_breaks_off_is_no_answer_but_what_it_said_is_kept(serve):  # noqa: F811
    begun = events({"delta": {"content": ANSWER[:30]}}).removesuffix(b"data: [DONE]\n\n")
    raw = one(serve(says=lambda n: (200, begun)), retries=0)
    assert raw.failure is not None
    assert raw.failure.retryable
    assert raw.turns[0].text == ANSWER[:30]


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + json.dumps(completion(ANSWER)).encode(),
        json.dumps({"choices": [{"index": 1, "message": {}}, {"index": 0, "message": {"content": ANSWER}}]}).encode(),
    ],
)
def test_a_byte_order_mark_and_choices_in_another_order_hide_no_answer(body, serve):  # noqa: F811
    assert one(serve(says=lambda n: (200, body)), retries=0).payload == ANSWER


def test_half_a_character_in_an_answer_is_replaced(serve):  # noqa: F811
    raw = one(serve(says=lambda n: answer({"content": ANSWER + " \ud83d"})), retries=0)
    assert (raw.payload, raw.failure) == (ANSWER + " �", None)


def test_the_arguments_of_a_tool_may_be_an_object(serve):  # noqa: F811
    call = {"function": {"name": "answer", "arguments": json.loads(ANSWER)}}
    raw = one(serve(says=lambda n: answer({"content": None, "tool_calls": [call]}, "tool_calls")))
    assert json.loads(raw.payload) == json.loads(ANSWER)


def test_an_answer_in_the_form_of_old_completions_is_read(serve):  # noqa: F811
    assert one(serve(says=lambda n: (200, {"choices": [{"text": ANSWER}]}))).turns[0].text == ANSWER


@pytest.mark.parametrize("strategy", ["mqa", "joint"])
def test_a_model_that_thinks_unasked_has_the_tokens_for_it(serve, strategy):  # noqa: F811
    """As with OpenAI's reasoning models, and with vLLM's --reasoning-parser: also in the probe of grammars."""

    def says(n, body):
        if body["max_tokens"] < 500:
            return answer({"content": "", "reasoning_content": "Let me think"}, "length")
        if PROBE in json.dumps(body):
            return answer({"content": PROBE, "reasoning_content": "Let me think"}, "stop")
        said = {"joint": ANSWER, "mqa": "A" if "letter alone" in str(body["messages"]) else '{"mentions":["Ada"]}'}
        return answer({"content": said[strategy], "reasoning_content": "Let me think"}, "stop")

    server = serve(VLLM, says)
    made = system(server, strategy=strategy, max_tokens=600)
    (raw,) = made.predict([document("d")])
    assert raw.failure is None
    assert [mention.span for mention in normalize(document("d"), raw, LABELS).annotation.mentions]
    assert made.provenance["constraint"] == "grammar"
    assert sum(body["max_tokens"] < 500 for body in server.asked) == 1
