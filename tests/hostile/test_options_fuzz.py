"""Every option of every verb ends in a result or in one line, whatever stands after it.

The options are those of the program's own tables: the parser's for verbs, the systems' for systems.
"""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import typer

from m3dllm import cli
from m3dllm.options import option_table
from m3dllm.registry import find_system
from tests.small import small_corpus

NUMBERS = ["nan", "inf", "-inf", "-1", "0", "1e400", "1e-400", "7", "99999999999999999999", "0x10", "", "１２"]
TEXTS = [
    "",
    " ",
    ",",
    "\x1b[2J",
    "x" * 300,
    "长" * 90,
    "/dev/zero",
    "..",
    "\0",
    "%s{}",
    "--",
    "nan",
    "[::1",
    "http://[",
]
VALUES = list(dict.fromkeys(NUMBERS + TEXTS))


def some(option: str) -> list[str]:
    """A few of the values, others for each option: all of them with all options would take an hour."""
    return random.Random(option).sample(VALUES, 4)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("fuzz") / "corpus")


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("fuzz-run") / "run"
    assert code_of(["run", "--system", "majority", "--corpus", str(corpus), "--out", str(out)]) == 0
    return out


def code_of(words: list[str]) -> object:
    """The exit code of a command, in this process. What is no SystemExit is a bug, and raised."""
    before = sys.argv, logging.getLogger().handlers[:]
    sys.argv = ["m3dllm", *words]
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code or 0
    finally:
        sys.argv, logging.getLogger().handlers[:] = before
    raise AssertionError("a command ended without a code")


def verbs(command=None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every verb, by its words, with its command."""
    command = command or typer.main.get_command(cli.app)
    names = command.list_commands(None) if hasattr(command, "list_commands") else []
    if not names:
        yield path, command
    for name in names:
        yield from verbs(command.get_command(None, name), (*path, name))


CASES = [
    (path, parameter.opts[0], bool(getattr(parameter, "is_flag", False)))
    for path, command in verbs()
    for parameter in command.params
    if parameter.opts[0].startswith("--") and parameter.name not in ("help", "version", "browser")
]
UNTRIED = ("push",)  # asks a hub
NEEDS = {
    "run": ["--system", "majority"],
    "fit": ["--system", "majority"],
    "predict": ["--system", "majority"],
}


@pytest.mark.parametrize(("path", "option", "flag"), CASES, ids=lambda case: str(case).strip("()'"))
def test_every_option_of_every_verb_ends_in_one_line(path, option, flag, corpus, run, tmp_path, monkeypatch, capfd):
    if path[-1] in UNTRIED:
        pytest.skip("asks a hub")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if path == ("serve",):  # it would answer until someone stops it
        monkeypatch.setattr(pytest.importorskip("uvicorn").Server, "run", lambda *_, **__: None)
    for value in [None] if flag else some(option):
        words = [*path, *([option] if value is None else [f"{option}={value}"])]
        if path[0] in NEEDS:
            words += [word for word in NEEDS[path[0]] if option != "--system" or word not in NEEDS[path[0]]]
            words += [] if option == "--corpus" else ["--corpus", str(corpus)]
            words += [] if option == "--limit" else ["--limit", "1"]
        elif path[0] in ("normalize", "score", "report", "view", "export"):
            words += [str(run)]
        elif path[0] in ("split", "check"):
            words += [str(corpus)]
        ends_in_one_line(words, capfd)


def ends_in_one_line(words: list[str], capfd) -> None:
    code = code_of(words)
    said = capfd.readouterr().err
    assert code in (0, 2), (words, said)
    assert "Traceback" not in said, words
    assert "\x1b[2J" not in said, words
    if code == 2 and said:
        assert said.rstrip("\n").rpartition("\n")[2].startswith("m3dllm: ") or "incomplete" in said, (words, said)


# --- the options of systems -------------------------------------------------------------------------------------------

SYSTEMS = ["majority", "replay", "dffm", "video-llm"]


def options_of(system: str) -> list[str]:
    return [row["flag"] for row in option_table(find_system(system).config_class())]


@pytest.mark.parametrize(
    ("system", "option"), [(system, option) for system in SYSTEMS for option in options_of(system)]
)
def test_every_option_of_every_system_is_read_or_refused_in_one_line(
    system, option, corpus, tmp_path, monkeypatch, capfd
):
    """Only what the options themselves are is asked here: nothing is trained and no model is loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from m3dllm.errors import UserError
    from m3dllm.experiment import Experiment, plan
    from m3dllm.options import parse_options

    for value in VALUES:
        options = parse_options([f"{option}={value}"])
        experiment = Experiment(system=system, corpus=corpus, limit=1, options=options, out=tmp_path / "run")
        with suppress(UserError, OSError):  # which the command line tells in one line
            plan(experiment)


@pytest.mark.parametrize(
    ("system", "option"), [(system, option) for system in ("majority", "replay") for option in options_of(system)]
)
def test_every_option_of_a_system_without_a_model_runs_or_ends_in_one_line(
    system, option, corpus, run, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    answers = ["--answers", str(run)] if system == "replay" and option != "--answers" else []
    for value in some(option):
        words = ["run", "--system", system, "--corpus", str(corpus), "--limit", "1", f"{option}={value}", *answers]
        ends_in_one_line(words, capfd)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--batch-size", ["1", "9223372036854775807", "9223372036854775808"]),
        ("--device", ["cpu", "meta", "cuda:99", "\0"]),
        ("--precision", ["bf16"]),
        ("--linkage", ["single"]),
        ("--cache-gb", ["0", "1e-300", "1e300"]),
        ("--max-frames", ["1"]),
        ("--seed", ["-1", "99999999999999999999"]),
    ],
)
def test_a_fitted_model_answers_or_ends_in_one_line(option, values, tmp_path, monkeypatch, capfd):
    pytest.importorskip("torch", reason="needs the extra 'supervised'")
    monkeypatch.chdir(tmp_path)
    for i, value in enumerate(values):
        words = ["run", "--system", "dffm", "--checkpoint", "demo", "--lang", "en", "--limit", "1", "--out", f"run{i}"]
        ends_in_one_line([*words, f"{option}={value}"], capfd)
