"""Warnings on the terminal: of one kind the first, and a count; all with --verbose."""

from __future__ import annotations

import importlib
import logging
import sys

import pytest

from m3dllm import cli
from m3dllm.ending import Terminal, one_line

log = logging.getLogger("test.ending")


@pytest.fixture
def shown(capsys):
    """What a terminal shows of warnings, given as arguments of `log.warning`."""

    def show(*warnings: tuple, verbose: bool = False, **more) -> list[str]:
        terminal = Terminal(verbose=verbose)
        log.addHandler(terminal)
        log.propagate = False
        try:
            for words in warnings:
                log.warning(*words, **more)
            terminal.sum_up()
        finally:
            log.removeHandler(terminal)
            log.propagate = True
        return capsys.readouterr().err.splitlines()

    return show


FAILED = "document %s was not answered"


def test_of_warnings_of_one_kind_the_first_is_shown_and_the_others_are_counted(shown):
    assert shown((FAILED, "a"), (FAILED, "b"), ("once: %s", "c"), (FAILED, "d")) == [
        "document a was not answered",
        "once: c",
        "2 more like this: document … was not answered (--verbose shows all)",
    ]


def test_verbose_shows_all(shown):
    assert len(shown((FAILED, "a"), (FAILED, "b"), verbose=True)) == 2


def test_what_has_no_words_of_its_own_is_no_kind(shown):
    assert shown(("%s: %s", "a", "one"), ("%s: %s", "a", "two"), ("a note",), ("a note",)) == [
        *("a: one", "a: two", "a note", "a note")
    ]


def test_a_kind_may_be_named(shown):
    said = shown(("%s: %s", "a", "no subtitles"), ("%s: %s", "b", "no subtitles"), extra={"kind": "no subtitles"})
    assert said == ["a: no subtitles", "1 more like this: no subtitles (--verbose shows all)"]


def test_verbose_may_stand_anywhere_and_is_no_part_of_the_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["m3dllm", "run", "--system", "majority", "--verbose"])
    assert cli._takes("--verbose")
    assert sys.argv == ["m3dllm", "run", "--system", "majority"]
    assert not cli._takes("--verbose")


PLUGIN = """
def answer(document):
    return document["txet"]
"""


def test_a_fault_of_a_plugin_shows_its_frames_and_not_ours(tmp_path, monkeypatch, capsys):
    (tmp_path / "theirs_of_a_test.py").write_text(PLUGIN)
    info = tmp_path / "someone-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: someone\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[m3dllm.systems]\ntheirs = theirs_of_a_test:answer\n")
    monkeypatch.syspath_prepend(tmp_path)
    answer = importlib.import_module("theirs_of_a_test").answer
    with pytest.raises(SystemExit) as ended:
        one_line(lambda: answer({"text": ""}))
    said = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert said[0] == "m3dllm: the plugin 'someone' failed:"
    assert said[1].endswith('theirs_of_a_test.py", line 3, in answer')
    assert said[-1] == "KeyError: 'txet'"
    assert not any("m3dllm/" in line for line in said)


def test_a_bug_of_ours_keeps_its_traceback():
    def command() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        one_line(command)
