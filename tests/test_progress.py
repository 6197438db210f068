"""How far work is: nothing of short work, lines in a pipe, a bar on a terminal that leaves the log readable."""

from __future__ import annotations

import io
import logging
import sys
import time

import pytest

from m3dllm import progress as module
from m3dllm.ending import Terminal
from m3dllm.progress import left, progress


@pytest.fixture
def impatient(monkeypatch, caplog):
    """Lines come at once."""
    monkeypatch.setattr(module, "QUIET_S", 0.01)
    monkeypatch.setattr(module, "SOON_S", 0.01)
    monkeypatch.setattr(module, "LATER_S", 0.01)
    caplog.set_level(logging.INFO)
    return caplog


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def wait_for(lines, text: str) -> None:
    until = time.monotonic() + 10
    while text not in lines.text:
        assert time.monotonic() < until, lines.text
        time.sleep(0.01)


def test_short_work_says_nothing(caplog):
    caplog.set_level(logging.INFO)
    with progress("documents", 2) as step:
        step()
    assert caplog.text == ""


def test_longer_work_says_how_far_it_is_and_how_long_the_rest_takes(impatient):
    with progress("documents", 4) as step:
        wait_for(impatient, "documents: 0 of 4, 0 s so far")
        step()
        wait_for(impatient, "documents: 1 of 4, about 0 s left")
        step(2)
        wait_for(impatient, "documents: 3 of 4")


def test_work_of_unknown_length_says_for_how_long_it_has_gone_on(impatient):
    with progress("loading model 'x'"):
        wait_for(impatient, "loading model 'x': 0 s so far")


def test_nothing_is_said_any_more_where_the_work_fails(impatient):
    def fail() -> None:
        with progress("documents", 4):
            wait_for(impatient, "0 of 4")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    said = impatient.text
    time.sleep(0.05)
    assert impatient.text == said


def test_a_bar_on_a_terminal_goes_away_and_lines_of_the_log_stay(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    handler = Terminal()
    with progress("[bold]docu\x1bments", 3) as step:
        step()
        handler.handle(logging.makeLogRecord({"msg": "a line"}))
        with progress("loading model 'x'"):
            step()
    shown = screen.getvalue()
    assert "a line\n" in shown
    assert "[bold]docu\\x1bments" in shown
    assert "loading model 'x'" in shown
    assert module._bars == []


@pytest.mark.parametrize(
    ("seconds", "words"), [(40, "about 40 s left"), (150, "about 2 min left"), (9000, "about 2.5 h left")]
)
def test_time_left_is_written_in_words(seconds, words):
    assert left(seconds) == words
