"""What a run has cost."""

from __future__ import annotations

import pytest

from m3dllm.systems.videollm.engines.base import Reply
from m3dllm.systems.videollm.tally import Tally


def test_rates_are_over_the_time_that_the_user_waited():
    tally = Tally()
    for _ in range(4):
        tally.add(Reply(tokens_in=90, tokens_vision=40, tokens_out=30, seconds=5.0, grammar_s=0.5, retries=1))
    tally.end_pass(4, 8.0, memory_mb=700.0)
    assert (tally.requests, tally.tokens_in, tally.tokens_vision, tally.tokens_out) == (4, 360, 160, 120)
    assert (tally.documents, tally.documents_a_minute, tally.tokens_a_second) == (4, 30.0, 15.0)
    assert (tally.grammar_share, tally.memory_mb, tally.retries, tally.finishes) == (0.25, 700.0, 4, {"stop": 4})


def test_passes_add_up():
    tally = Tally()
    tally.end_pass(2, 30.0, memory_mb=10.0)
    tally.end_pass(2, 30.0, memory_mb=5.0)
    assert (tally.documents_a_minute, tally.memory_mb) == (4.0, 10.0)


def test_what_no_engine_tells_is_not_there():
    tally = Tally()
    tally.add(Reply(tokens_out=3))
    tally.end_pass(1, 1.0, memory_mb=None)
    assert (tally.grammar_s, tally.grammar_share, tally.memory_mb) == (None, None, None)
    assert str(tally) == "60.0 documents a minute, 3 tokens a second"


@pytest.mark.parametrize("documents", [0, 1])
def test_a_pass_that_took_no_time_has_no_rate(documents):
    tally = Tally()
    tally.end_pass(documents, 0.0, memory_mb=None)
    assert tally.documents_a_minute is None
