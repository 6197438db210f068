"""Metrics register: one file and one entry point each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from m3dllm.score import Metric, Sides
from m3dllm.score.metric import headline, means, metrics
from m3dllm.types import PRF, TASKS, Annotation
from tests.small import small_corpus

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def plugged(tmp_path_factory) -> dict[str, str]:
    """The environment of a process in which tests/plugin/unlabelled is installed."""
    target = tmp_path_factory.mktemp("plugged")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    plugin = ROOT / "tests/plugin/unlabelled"
    subprocess.run([*command, "--target", str(target), str(plugin)], check=True, capture_output=True)
    return os.environ | {"PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}


def m3dllm(*words: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "m3dllm", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)


def test_each_task_has_a_headline_metric_of_its_own():
    assert headline() == TASKS
    assert {metric.task for metric in metrics() if metric.headline} == set(TASKS)


def test_a_mean_is_of_scores_that_its_metric_counts():
    assert means()["chain"] == ("chain.muc", "chain.b3", "chain.ceaf_e")


def test_a_metric_of_no_task_cannot_be_made():
    with pytest.raises(ValueError, match="summary"):
        Metric("summary", "summary", lambda sides: PRF())  # type: ignore[arg-type]


def test_what_metrics_share_is_made_once():
    made = []
    sides = Sides(Annotation(), Annotation())
    assert sides.both(made.append) == sides.both(made.append) == (None, None)
    assert len(made) == 2


@pytest.mark.slow
def test_a_metric_of_another_package_stands_in_scores_table_and_report(tmp_path, plugged):
    corpus, run, out = small_corpus(tmp_path / "corpus"), tmp_path / "run", tmp_path / "report"
    done = m3dllm("run", "--system", "majority", "--corpus", corpus, "--out", run, env=plugged)
    assert done.returncode == 0, done.stderr
    assert "relation.unlabelled" in done.stdout
    scores = json.loads((run / "scores.json").read_text())["languages"]["en"]["end_to_end"]
    assert scores["tasks"]["relation.unlabelled"]["r_den"] > 0
    assert scores["average_of"] == [task for task in TASKS if task in scores["average_of"]]
    assert m3dllm("report", run, "--out", out, env=plugged).returncode == 0
    assert all("relation.unlabelled.f1" in table.read_text() for table in (out / "tables").glob("*-scores.csv"))
    without = {name: value for name, value in plugged.items() if name != "PYTHONPATH"}
    assert m3dllm("report", run, "--out", out, env=without).returncode == 0
    assert all("relation.unlabelled.f1" in table.read_text() for table in (out / "tables").glob("*-variants.csv"))
    assert not any("relation.unlabelled.f1" in table.read_text() for table in (out / "tables").glob("*-scores.csv"))


@pytest.mark.slow
def test_a_metric_that_cannot_be_loaded_is_named_in_one_line(tmp_path, plugged):
    (tmp_path / "rotten.py").write_text("raise RuntimeError('no such luck')\n")
    info = tmp_path / "rotten-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: rotten\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[m3dllm.metrics]\nrotten = rotten:METRIC\n")
    corpus = small_corpus(tmp_path / "corpus")
    env = plugged | {"PYTHONPATH": str(tmp_path)}
    done = m3dllm("run", "--system", "majority", "--corpus", corpus, "--out", tmp_path / "run", env=env)
    assert done.returncode == 2
    assert "m3dllm: metric 'rotten' of rotten cannot be loaded: RuntimeError: no such luck" in done.stderr
