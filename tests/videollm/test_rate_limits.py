"""Rate limits of servers: how long is waited, and for how many requests at once."""

from __future__ import annotations

import datetime
import email.utils
import json
import time

import pytest

from m3dllm.systems.videollm.engines.openai.pace import Pace
from m3dllm.systems.videollm.engines.openai.refusals import refusal, wait_of
from tests.videollm.documents import document
from tests.videollm.test_openai_engine import ANSWER, completion, serve, system  # noqa: F401

pytest.importorskip("m3dllm.systems.videollm.engines.openai.client", reason="needs the extra 'server'")

OK = (200, completion(ANSWER))


def error(message: str, **more) -> dict:
    return {"error": {"message": message, **more}}


def one(server, **options):
    """What becomes of one document."""
    (raw,) = system(server, **options).predict([document("d")])
    return raw


@pytest.fixture
def waits(monkeypatch):
    """The seconds that were waited, in order, without waiting."""
    found: list[float] = []
    now = [1000.0]

    def sleep(seconds: float) -> None:
        found.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return found


def later(seconds: float) -> str:
    return email.utils.format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds), True)


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"Retry-After": "7"}, "", 7),
        ({"retry-after": "1.5"}, "", 1.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, "", 0.25),
        ({"x-ratelimit-reset-requests": "6m0s"}, "", 360),
        ({}, '{"error": {"details": [{"retryDelay": "37s"}]}}', 37),
        ({}, "Rate limit reached. Please try again in 20ms.", 0.02),
        ({}, "Please try again in 1m30s.", 90),
        ({"Retry-After": "soon"}, "no", None),
        ({"Retry-After": "-3"}, "", None),
        ({"Retry-After": "nan"}, "", None),
    ],
)
def test_when_a_server_wants_to_be_asked_again(headers, body, expected):
    assert wait_of(headers, body) == (None if expected is None else pytest.approx(expected, rel=0.1))


@pytest.mark.parametrize(("seconds", "expected"), [(9000, 9000), (-20, 0)])
def test_a_server_may_name_the_date_at_which_to_ask_again(seconds, expected):
    assert wait_of({"Retry-After": later(seconds)}, "") == pytest.approx(expected, abs=60)


def test_a_rate_limit_is_waited_out_however_few_the_retries(serve, waits):  # noqa: F811
    server = serve(says=lambda n: (429, error("slow down"), {"Retry-After": "30"}) if n < 6 else OK)
    raw = one(server, retries=0)
    assert raw.failure is None
    assert waits == [30.0] * 6


def test_a_rate_limit_that_says_nothing_of_its_end_is_waited_out_too(serve, waits):  # noqa: F811
    assert one(serve(says=lambda n: (429, error("slow down")) if n < 12 else OK), retries=0).failure is None
    assert 120 < sum(waits) < 360
    waits.clear()
    assert one(serve(says=lambda n: (429, error("slow down"))), max_wait=100.0).failure.retryable
    assert 50 < sum(waits) <= 100


def test_patience_with_a_rate_limit_is_an_option(serve, waits):  # noqa: F811
    server = serve(says=lambda n: (429, error("slow down"), {"Retry-After": "30"}))
    assert "429" in one(server, max_wait=100.0).failure.message
    assert waits == [30.0] * 3


def test_a_rate_limit_names_which_limit_it_is():
    found = refusal("http://s", 429, json.dumps(error("x")), {"x-ratelimit-limit-tokens": "6000"}, key="K")
    assert "x-ratelimit-limit-tokens 6000" in found.message


def test_an_exhausted_quota_is_not_waited_for():
    assert refusal("u", 429, json.dumps(error("x", code="insufficient_quota")), {}, key="K").kind == "down"


def test_one_pause_is_for_all(waits):
    pace = Pace()
    pace.pause(12)
    pace.wait(1)
    pace.wait(1)
    assert waits == [12.0]


def test_requests_a_minute_come_evenly_after_the_first(waits):
    pace = Pace(rpm=2)
    for _ in range(4):
        pace.wait(1)
    assert waits == [pytest.approx(30.0)] * 2


def test_tokens_a_minute_count_prompt_and_answer(waits):
    pace = Pace(tpm=600)
    pace.wait(600)
    pace.wait(300)
    assert waits == [pytest.approx(30.0)]
