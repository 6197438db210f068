"""One training by several processes: what one would learn, and how they end together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from m3dllm import pipeline
from m3dllm.ending import STOPPED
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment
from m3dllm.systems.supervised.checkpoint import MODEL, read_checkpoint
from m3dllm.training import TRAINING
from m3dllm.wire import decode
from tests.small import small_corpus

ROOT = Path(__file__).parents[2]
SMALL = {"hidden": 16, "latent_size": 8, "image_size": 32, "layers": 3, "pair_size": 8}
OPTIONS = SMALL | {"epochs": 12, "batch_size": 4, "hide": 0.5}
"""A small model; two steps an epoch, the second one of two documents."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Six documents to train on, English and Chinese; one has no text."""
    return small_corpus(tmp_path_factory.mktemp("small") / "corpus", train=6, dev=3, test=1)


def started(corpus: Path, out: Path) -> subprocess.Popen[str]:
    """'m3dllm fit' by two processes, in a group of their own."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    command = [sys.executable, "-m", "m3dllm", "fit", "--system", "dffm", "--corpus", str(corpus), "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [*command, *options, "--processes", "2"], env=environment, cwd=ROOT, start_new_session=True, **pipes
    )


def history(checkpoint: Path) -> list[dict[str, float]]:
    return decode(read_checkpoint(checkpoint / MODEL)[0]["m3dllm"], dict)["history"]


def at_work(process: subprocess.Popen[str], out: Path) -> int:
    """The second process, when an epoch is done."""
    while not (out / "checkpoint" / TRAINING).exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(process.pid)], capture_output=True, text=True
    )
    return next(int(line.split()[0]) for line in listed.stdout.splitlines() if "spawn_main" in line)


def is_alive(pid: int) -> bool:
    """Whether it runs; one that nobody has waited for yet does not."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(found) and not found.startswith("Z")


@pytest.fixture(scope="module")
def killed(corpus, tmp_path_factory) -> tuple[Path, int, list[str]]:
    """(run, exit code, what was said) of a fit of which the second process was killed when an epoch was done."""
    out = tmp_path_factory.mktemp("runs") / "killed"
    process = started(corpus, out)
    os.kill(at_work(process, out), signal.SIGKILL)
    said = process.communicate(timeout=60)[1]
    return out, process.returncode, said.splitlines()


def test_a_process_that_dies_ends_them_all_in_one_line(killed):
    _, code, said = killed
    why = "process 2 of 2 ended with SIGKILL (memory may have run out): the same command resumes"
    assert (code, said[-1]) == (2, f"m3dllm: {why}")
    assert all(line.startswith(("fit ", "epoch ", "training")) for line in said[:-1])


def test_two_processes_walk_the_curve_of_one_when_they_resume_too(corpus, killed, tmp_path):
    out, _, _ = killed
    said = started(corpus, out).communicate()[1]
    one = pipeline.fit(Experiment(system="dffm", corpus=corpus, out=tmp_path / "one", options=OPTIONS)).checkpoint
    assert history(out / "checkpoint") == [pytest.approx(row, rel=1e-4) for row in history(one)]
    assert "resuming after epoch" in said


def test_processes_that_mpi_started_train_together(corpus, tmp_path):
    options = {**OPTIONS, "epochs": 2}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "m3dllm", "fit", "--system", "dffm", "--corpus", str(corpus), *words]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = []
    for rank in range(2):  # as `mpirun` does, and `accelerate launch` on a CPU by it
        told = {"OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": str(rank)}
        environment = os.environ | told | {"MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        both.append(subprocess.Popen([*command, "--out", str(tmp_path / "two")], env=environment, cwd=ROOT))
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    pipeline.fit(Experiment(system="dffm", corpus=corpus, out=tmp_path / "one", options=options))
    curves = [[epoch["loss"] for epoch in history(tmp_path / run / "checkpoint")] for run in ("one", "two")]
    assert curves[0] == pytest.approx(curves[1], rel=1e-6)


def test_ctrl_c_is_one_line_and_leaves_no_process(corpus, tmp_path):
    process = started(corpus, tmp_path / "run")
    other = at_work(process, tmp_path / "run")
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert (process.returncode, said.splitlines()[-1], said.count(STOPPED)) == (130, STOPPED, 1)
    assert "Traceback" not in said
    assert not is_alive(other)


def test_a_loss_that_compares_documents_is_refused(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    options = OPTIONS | {"aux_loss": "cag"}
    with pytest.raises(UserError, match="--aux-loss cag: compares the documents of a step: fit it in one process"):
        pipeline.fit(Experiment(system="dffm", corpus=corpus, out=tmp_path / "run", options=options))


def test_a_system_that_is_fitted_otherwise_is_refused(corpus, tmp_path):
    with pytest.raises(UserError, match="system 'majority' trains in one process: omit --processes"):
        pipeline.fit(Experiment(system="majority", corpus=corpus, out=tmp_path / "run"), processes=2)
    assert not (tmp_path / "run").exists()
