"""A command ends in its result, in one line, or where it was stopped: never in a traceback."""

from __future__ import annotations

import os
import pty
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from m3dllm.ending import STOPPED
from m3dllm.errors import printable
from tests.small import small_corpus

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("endings") / "corpus")


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "m3dllm", *map(str, words)]


def ended(*words: object, cwd: Path = ROOT, **streams) -> subprocess.CompletedProcess[str]:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.run(command(*words), text=True, env=ENVIRONMENT, cwd=cwd, timeout=120, **streams)


def is_one_line(done: subprocess.CompletedProcess[str]) -> bool:
    last = done.stderr.rstrip("\n").rpartition("\n")[2]
    return done.returncode == 2 and last.startswith("m3dllm: ") and "Traceback" not in done.stderr


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


DROPPED = """
import os, signal, time
from m3dllm.ending import one_line

class Closed:
    def __del__(self):  # where Python drops exceptions, as in callbacks of its import system
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

def command():
    Closed()
    time.sleep(60)

one_line(command)
"""


def test_ctrl_c_where_python_drops_it_is_one_line_too():
    done = subprocess.run([sys.executable, "-c", DROPPED], capture_output=True, text=True, env=ENVIRONMENT, timeout=30)
    assert (done.returncode, done.stderr) == (130, f"{STOPPED}\n")


@pytest.mark.parametrize("after_s", [0.03, 0.1, 0.2, 0.4, 0.8])
@pytest.mark.parametrize("verb", ["import", "run"])
def test_ctrl_c_in_a_pipe_is_one_line_at_any_moment(verb, after_s, corpus, tmp_path):
    words = {
        "import": ("import", "demo", "--out", tmp_path / "demo"),
        "run": ("run", "--system", "majority", "--corpus", corpus, "--out", tmp_path / "run"),
    }[verb]
    program = "from m3dllm.__main__ import main; print('begun', flush=True); main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
    )
    assert process.stdout.readline() == "begun\n"  # before that Ctrl-C is Python's
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    assert process.returncode in (130, 0)
    if process.returncode == 130:
        assert said.rstrip("\n").rpartition("\n")[2] == STOPPED
        assert not (tmp_path / "demo").exists()


def test_ctrl_c_in_a_terminal_stops_the_command_and_the_same_command_resumes(corpus, tmp_path):
    words = command("run", "--system", "majority", "--corpus", corpus, "--out", tmp_path / "run")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(words[0], words, ENVIRONMENT)
    said = os.read(terminal, 4096)  # it has begun
    os.write(terminal, b"\x03")
    try:
        while part := os.read(terminal, 4096):
            said += part
    except OSError:  # the other side is gone
        pass
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert b"Traceback" not in said
    assert code in (130, 0)
    if code == 130:
        assert STOPPED.encode() in said
    assert ended(*words[3:]).returncode == 0


def stopped_once(happened: Callable[[str], bool], log: Path, *words: object) -> tuple[int, str]:
    """(exit code, log) of a command that is stopped as a terminal does it, once that has happened, by its log."""
    with log.open("w") as file:
        process = subprocess.Popen(command(*words), stderr=file, env=ENVIRONMENT, cwd=ROOT, start_new_session=True)
        while process.poll() is None and not happened(log.read_text()):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=120)
    return process.returncode, log.read_text()


def test_ctrl_c_in_training_stops_and_the_same_command_resumes(corpus, tmp_path):
    pytest.importorskip("torch", reason="needs the extra 'supervised'")
    tiny = ("--epochs", 5000, "--hidden", 8, "--image-size", 16, "--latent-size", 8, "--pair-size", 8)
    words = ("fit", "--system", "dffm", "--corpus", corpus, "--lang", "en", "--out", tmp_path / "fit", *tiny)
    for mark in ("epoch 1 of 5000", "resuming after epoch"):
        code, said = stopped_once(lambda said, mark=mark: mark in said, tmp_path / "log", *words)
        assert (code, said.rstrip("\n").rpartition("\n")[2]) == (130, STOPPED)
        assert "Traceback" not in said


OF_A_PROCESS = """
import atexit, os, signal, threading, time
from m3dllm.ending import ignore_ctrl_c_between_commands, one_line
from m3dllm.errors import UserError

def press():
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)

def command():
{}

ignore_ctrl_c_between_commands()
one_line(command)
"""


def of_a_process(command: str) -> subprocess.CompletedProcess[str]:
    """How a process ends whose command is this body of a function."""
    program = OF_A_PROCESS.format(textwrap.indent(textwrap.dedent(command), "    "))
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT, timeout=60
    )


@pytest.mark.parametrize(
    "error", ["KeyboardInterrupt()", "RuntimeError('a library')", "ImportError()", "UserError('x')"]
)
def test_ctrl_c_is_one_line_whatever_it_becomes_on_its_way(error):
    done = of_a_process(f"""
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise {error} from None
    """)
    assert (done.returncode, done.stderr.strip()) == (130, STOPPED)


@pytest.mark.parametrize(
    "command", ["threading.Thread(target=press).start()", "atexit.register(press)"], ids=["thread", "exit"]
)
def test_ctrl_c_after_the_command_has_ended_changes_nothing(command):
    done = of_a_process(command)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_pressed_again_ends_what_holds_up_a_command_that_has_ended():
    done = of_a_process("threading.Thread(target=lambda: [press(), press(), time.sleep(600)]).start()")
    assert done.returncode == 130


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("systems",), ("systems", "majority"), ("--help",), ("--version",)])
def test_a_result_that_cannot_be_written_is_one_line(words):
    with Path("/dev/full").open("w") as full:
        done = ended(*words, stdout=full)
    assert done.returncode == 2
    assert done.stderr.startswith("m3dllm: ")
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_a_log_that_cannot_be_written_stops_nothing_else(corpus, tmp_path):
    with Path("/dev/full").open("w") as full:
        done = ended("run", "--system", "majority", "--corpus", corpus, "--out", tmp_path / "r", stderr=full)
    assert done.returncode == 0
    assert "end to end" in done.stdout


def test_a_disk_too_full_for_the_log_of_a_run_is_one_line_that_names_it(corpus, tmp_path):
    words = ("run", "--system", "majority", "--corpus", corpus, "--out", tmp_path / "r")
    assert ended(*words).returncode == 0
    (tmp_path / "r" / "raw.jsonl").write_bytes(b"")
    (tmp_path / "r" / "log.txt").unlink()
    (tmp_path / "r" / "log.txt").symlink_to("/dev/full")
    done = ended(*words)
    assert is_one_line(done)
    assert "log.txt: cannot be written: No space left on device" in done.stderr


@pytest.mark.parametrize("bytes_", [300, 2500])
def test_a_disk_too_full_for_the_files_of_a_run_is_one_line_that_names_one(bytes_, corpus, tmp_path):
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))

    words = ("run", "--system", "majority", "--corpus", corpus, "--out", tmp_path / "r")
    done = ended(*words, preexec_fn=little_room)
    assert is_one_line(done)
    assert "cannot be written: File too large" in done.stderr


def test_a_reader_that_leaves_is_no_error():
    done = subprocess.run(
        f"{' '.join(command('systems'))} | true", shell=True, capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT
    )
    assert done.stderr == ""


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x" * 300, "长" * 90, "a/" * 3000])
@pytest.mark.parametrize(
    "words",
    [
        ("check", "{}"),
        ("score", "{}"),
        ("normalize", "{}"),
        ("report", "{}", "--out", "{}"),
        ("import", "demo", "--out", "{}"),
        ("run", "--system", "majority", "--corpus", "{}"),
        ("run", "--system", "majority", "--checkpoint", "{}"),
        ("run", "--system", "majority", "--missing", "{}"),
        ("run", "--system", "majority", "--out", "{}"),
    ],
)
def test_a_name_longer_than_the_disk_takes_is_one_line(words, name, tmp_path):
    assert is_one_line(ended(*(word.format(tmp_path / name) for word in words)))


def test_names_that_are_not_utf8_are_one_line(corpus, tmp_path):
    odd = os.fsencode(tmp_path) + b"/\xff\xfe"
    for words in (["check", odd], ["run", "--system", "majority", "--corpus", odd], ["import", "demo", "--out", odd]):
        done = subprocess.run([*command(), *words], capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT)
        assert is_one_line(done), done.stderr
    Path(os.fsdecode(odd)).mkdir()
    done = subprocess.run(command("systems", "majority"), capture_output=True, text=True, env=ENVIRONMENT, cwd=odd)
    assert is_one_line(done), done.stderr


# --- what is shown ----------------------------------------------------------------------------------------------------

ESCAPES = ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\r", "\x08", "\u202e", "\u2066", "\x7f", "\udc80", "\u2028"]


@pytest.mark.parametrize("sent", ESCAPES)
def test_what_would_move_the_cursor_is_shown_not_sent(sent):
    shown = printable(f"Ada {sent} 艾达")
    assert sent not in shown
    assert shown.startswith("Ada \\")
    assert shown.endswith(" 艾达")


def test_ordinary_text_stays_as_it_is():
    text = "F1 12.5\N{NO-BREAK SPACE}% · 艾达\u3000é\n\tb"
    assert printable(text) == text


# --- closed streams ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_command_with_closed_streams_writes_its_files_all_the_same(closed, corpus, tmp_path):
    words = " ".join(command("run", "--system", "majority", "--corpus", corpus, "--out", tmp_path / "run"))
    done = subprocess.run(["sh", "-c", f"{words} {closed}"], env=ENVIRONMENT, cwd=ROOT, timeout=120)
    assert done.returncode == 0
    assert (tmp_path / "run" / "scores.json").read_text(encoding="utf-8").startswith("{")
