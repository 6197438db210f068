"""Runs to report on, and the browser that looks at the report."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from m3dllm import pipeline
from m3dllm.experiment import Experiment
from tests.small import small_corpus
from tests.viewer.conftest import browser, chromium

__all__ = ["browser", "chromium"]


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Path:
    """Runs of one corpus: two configurations, one of them with two seeds, and one with modalities missing."""
    folder = tmp_path_factory.mktemp("runs")
    corpus = small_corpus(folder / "corpus")

    def run(name: str, **more) -> None:
        pipeline.run(Experiment(system="majority", corpus=corpus, pairs="both", out=folder / name, **more))

    run("best")
    run("singles0", options={"chain_rule": "singletons"})
    run("singles1", options={"chain_rule": "singletons"}, seed=1)
    run("thirds", missing="thirds")
    return folder


@pytest.fixture
def copied(runs, tmp_path) -> Path:
    """A run that a test may break."""
    return Path(shutil.copytree(runs / "best", tmp_path / "broken"))
