"""Workers on the nodes of a real cluster: the files of an undisturbed run, whatever node dies or comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs the extra 'ray'")

from m3dllm.cluster import Worker, connect, job_of
from m3dllm.ending import STOPPED
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment, plan
from m3dllm.runs import Run
from m3dllm.session import make_system
from tests.conftest import ROOT
from tests.small import small_corpus
from tests.timeless import files_of

SMALL = {"node_ip_address": "127.0.0.2", "object_store_memory": 80_000_000, "include_dashboard": False}
"""A node of a test. Ray would take 127.0.0.1 for the machine's own address in a network."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("small") / "corpus", test=24)


@pytest.fixture(scope="module")
def cluster(plugged) -> Iterator[Any]:
    """A head without processors, and two nodes with one each."""
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ |= plugged | {"RAY_USAGE_STATS_ENABLED": "0"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, **SMALL)
        yield cluster
    finally:
        cluster.shutdown()
        os.environ.clear()
        os.environ.update(before)


def command(corpus: Path, out: Path, *words: object) -> list[str]:
    asked = ["run", "--system", "capitals", "--corpus", corpus, "--lang", "en", "--pause-s", 0.3, "--out", out]
    return [sys.executable, "-m", "m3dllm", *map(str, (*asked, *words))]


def begun(run: Path, answers: int) -> bool:
    file = run / "raw.jsonl"
    return file.is_file() and file.read_bytes().count(b"\n") >= answers


@dataclass(frozen=True)
class Disturbed:
    """A run one of whose two nodes is removed, and another added, while another command asks for the same run."""

    run: Path
    code: int
    log: str
    second: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def disturbed(cluster, corpus, plugged, tmp_path_factory) -> Disturbed:
    out, log = tmp_path_factory.mktemp("runs") / "disturbed", tmp_path_factory.mktemp("log") / "log"
    words = command(corpus, out, "--executor", "ray", "--address", cluster.address)
    with log.open("w") as file:
        driver = subprocess.Popen(words, stdout=file, stderr=file, env=plugged, cwd=ROOT)
        while not begun(out, 2) and driver.poll() is None:
            time.sleep(0.05)
        cluster.remove_node(cluster.list_all_nodes()[1], allow_graceful=False)
        second = subprocess.run(words, capture_output=True, text=True, env=plugged, cwd=ROOT)
        cluster.add_node(num_cpus=1, **SMALL)
        driver.wait(timeout=120)
    return Disturbed(out, driver.returncode, log.read_text(), second)


def test_a_node_that_is_removed_and_one_that_is_added_change_nothing_of_a_run(disturbed, corpus, plugged, tmp_path):
    assert disturbed.code == 0, disturbed.log
    assert "a worker died" in disturbed.log
    subprocess.run(command(corpus, tmp_path / "whole"), check=True, env=plugged, cwd=ROOT, capture_output=True)
    assert files_of(disturbed.run) == files_of(tmp_path / "whole")


def test_every_document_is_answered_once(disturbed):
    run = Run(disturbed.run)
    lines = (run.path / "raw.jsonl").read_bytes().splitlines()
    assert len(lines) == len(run.raws()) == len(run.examples())


def test_a_second_driver_of_one_run_is_refused(disturbed):
    assert disturbed.second.returncode == 2
    assert "is in use by another process: wait for it, or choose another --out" in disturbed.second.stderr


def test_an_experiment_over_a_cluster_leaves_the_runs_of_one_process(cluster, corpus, plugged, tmp_path):
    file = tmp_path / "two.toml"
    file.write_text(
        'title = "Two"\n[[systems]]\nsystem = "majority"\n'
        '[[systems]]\nname = "one"\nsystem = "majority"\noptions = { boxes = 1 }\n'
    )
    words = ["bench", file, "--corpus", corpus, "--limit", 2, "--seeds", 1]
    for out, over in (
        (tmp_path / "here", ()),
        (tmp_path / "there", ("--executor", "ray", "--address", cluster.address)),
    ):
        asked = [sys.executable, "-m", "m3dllm", *map(str, (*words, "--out", out, *over))]
        subprocess.run(asked, check=True, env=plugged, cwd=ROOT, capture_output=True)
    runs = sorted(path.parent.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("run.json"))
    assert len(runs) == 2
    for run in runs:
        assert files_of(tmp_path / "there" / run) == files_of(tmp_path / "here" / run)


def test_ctrl_c_stops_the_workers_and_the_same_command_resumes(corpus, plugged, tmp_path):
    """Here Ray is started by the command, on this machine alone."""
    words = command(corpus, tmp_path / "run", "--executor", "ray", "--workers", 2)
    with (tmp_path / "log").open("w") as file:
        driver = subprocess.Popen(words, stdout=file, stderr=file, env=plugged, cwd=ROOT, start_new_session=True)
        while not begun(tmp_path / "run", 2) and driver.poll() is None:
            time.sleep(0.05)
        os.killpg(driver.pid, signal.SIGINT)
        driver.wait(timeout=60)
    said = (tmp_path / "log").read_text()
    assert (driver.returncode, said.rstrip("\n").rpartition("\n")[2]) == (130, STOPPED)
    assert "Traceback" not in said
    assert begun(tmp_path / "run", 2)
    assert not begun(tmp_path / "run", 14)
    assert (
        "there already"
        in subprocess.run(words[:-4], check=True, env=plugged, cwd=ROOT, capture_output=True, text=True).stderr
    )
    assert begun(tmp_path / "run", 14)


def test_a_node_without_the_corpus_is_sent_the_frames(cluster, tmp_path):
    pytest.importorskip("torch", reason="needs the extra 'supervised'")
    asked = plan(Experiment(system="dffm", checkpoint="demo", lang="en", limit=1, out=tmp_path / "run"))
    documents = [example.document for example in asked.test]
    ours = make_system(asked, checkpoint=asked.checkpoint).predict(documents)
    ray = connect(cluster.address)
    try:
        worker = Worker()
        said = worker.load(replace(job_of(asked, asked.checkpoint), corpus=Path("/gone"), options={"device": "cpu"}))
        assert not said.has_corpus
        frames = {f"/gone/{f.path}": ray.put(Path(f.path).read_bytes()) for d in documents for f in d.frames}
        sent = [replace(d, frames=tuple(replace(f, path=f"/gone/{f.path}") for f in d.frames)) for d in documents]
        theirs = [said[0] for said in worker.answer(sent, frames) if isinstance(said, tuple)]
        worker.folder.cleanup()
    finally:
        ray.shutdown()
    assert frames
    assert [raw.payload for raw in theirs] == [raw.payload for raw in ours]


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere.invalid:6379", "head", "ray://head:10001"])
def test_an_address_without_a_cluster_is_one_line(address):
    with pytest.raises(UserError, match=f"--address {address}: no Ray cluster responds there"):
        connect(address)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ({"address": "head:6379"}, "--address needs --executor ray"),
        ({"workers": 2}, "--workers needs --executor ray"),
        ({"executor": "ray", "workers": 0}, "--workers 0: expected 1 or more"),
        ({"executor": "slurm"}, "--executor slurm: expected local or ray"),
    ],
)
def test_words_that_do_not_go_together_are_refused(corpus, words, what):
    with pytest.raises(UserError, match=what):
        plan(Experiment(system="majority", corpus=corpus, **words))
