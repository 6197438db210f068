"""A supervised baseline of a third party: a spec, a config and a backbone, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from m3dllm.corpora.native import load_corpus
from m3dllm.runs import Run
from m3dllm.types import Document
from tests.small import small_corpus

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "tests/plugin/mean-frames"
SMALL = {"hidden": 16, "image_size": 32, "layers": 3, "pair_size": 8, "epochs": 2}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("small") / "corpus")


@pytest.fixture
def plugin(monkeypatch):
    """The plugin's modules, importable."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    import mean_frames
    import mean_frames.model

    return mean_frames


def test_it_takes_less_than_sixty_lines():
    assert sum(len(path.read_text().splitlines()) for path in PLUGIN.rglob("*.*") if path.suffix != ".pyc") < 60


@pytest.mark.slow
def test_it_is_installed_trained_and_scored_on_all_tasks(corpus, tmp_path):
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(PLUGIN)], check=True, capture_output=True)
    environment = os.environ | {"PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}

    def m3dllm(*words: str) -> str:
        command = [sys.executable, "-m", "m3dllm", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = {row["name"]: row for row in json.loads(m3dllm("systems", "--json"))}
    assert listed["mean-frames"]["tasks"] == listed["dffm"]["tasks"]
    assert "--frame-weight" in m3dllm("systems", "mean-frames")
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    out = tmp_path / "run"
    m3dllm("run", "--system", "mean-frames", "--corpus", str(corpus), "--pairs", "both", "--out", str(out), *options)
    assert sorted(path.name for path in (out / "checkpoint").iterdir()) == ["done.json", "model.safetensors"]
    for lang in ("en", "zh"):
        scores = Run(out).scores()["languages"][lang]["end_to_end"]
        assert scores["average_of"] == ["entity", "chain", "relation", "grounding"]


def test_its_checkpoint_answers_as_it_did(plugin, corpus, tmp_path):
    found = load_corpus(corpus)
    config = plugin.Config(**SMALL)
    system = plugin.model.MeanFrames(config, labels=found.labels)
    system.fit(found["train"], found["dev"], tmp_path)
    again = plugin.model.MeanFrames(config, labels=found.labels, checkpoint=tmp_path)
    documents = [example.document for example in found["test"]] + [Document("empty", "zh", "")]
    answers = [[raw.payload for raw in one.predict(documents)] for one in (system, again)]
    assert answers[0] == answers[1]
    assert answers[0][-1] == {"chains": [], "relations": [], "regions": []}


def test_its_frames_change_its_words_and_no_frames_add_nothing(plugin, corpus):
    from m3dllm.systems.supervised.learner import describe

    found = load_corpus(corpus)
    system = plugin.model.MeanFrames(plugin.Config(**SMALL), labels=found.labels)
    model = system.new_model(describe(system.config, found.labels, found["train"])).eval()
    inputs = model.inputs(next(e.document for e in found["train"] if e.document.text and e.document.frames))
    with torch.no_grad():
        seen, unseen = (model.encode(model.batch([one])).words for one in (inputs, inputs.without_frames()))
        alone = model.backbone.text(model.batch([inputs])).last + model.backbone.project.bias
    assert not torch.allclose(seen, unseen)
    torch.testing.assert_close(unseen, alone)
