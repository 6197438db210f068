"""The checkpoint that comes with the package: small, safe, found by name, and as good as the fit that it was."""

from __future__ import annotations

import json
import struct

import pytest

from m3dllm.errors import UserError
from m3dllm.experiment import CHECKPOINTS, Experiment, find_checkpoint, plan, read_done

pytest.importorskip("torch", reason="needs the extra 'supervised'")

from m3dllm import run
from tests.small import LABELS, small_corpus

DEMO = CHECKPOINTS / "dffm" / "demo"
MEGABYTES = 6.5
FLOOR = {"entity": 0.85, "chain": 0.75, "relation": 0.3, "grounding": 0.9}
"""F1 of the whole test split lies well above these in both languages, see its card."""


def test_it_is_small_in_half_precision_and_says_nothing_of_where_it_was_made():
    with (DEMO / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    assert {row["dtype"] for name, row in header.items() if name != "__metadata__"} == {"F16"}
    assert sum(path.stat().st_size for path in DEMO.iterdir()) < MEGABYTES * 1_000_000
    assert read_done(DEMO)["corpus"]["root"] == ""


def test_its_card_says_how_it_is_made_again():
    card = (DEMO / "README.md").read_text(encoding="utf-8")
    assert "python -m benchmarks.demo_checkpoint WORK" in card
    assert "of no use on other documents" in card


def test_it_is_found_by_name_and_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("demo", "dffm") == DEMO
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/done.json").write_text("{}")
    assert find_checkpoint("demo", "dffm").resolve() == tmp_path / "demo"


def test_another_system_has_none_of_that_name():
    with pytest.raises(UserError, match="demo: does not exist; expected a checkpoint that 'm3dllm fit' wrote"):
        plan(Experiment(system="majority", checkpoint="demo"))


def test_on_another_corpus_it_is_said_where_it_was_fitted(tmp_path):
    from m3dllm.corpora.m3d import m3d_labels

    corpus = small_corpus(tmp_path / "corpus", labels=m3d_labels() if m3d_labels() != LABELS else LABELS)
    notes = plan(Experiment(system="dffm", corpus=corpus, checkpoint="demo")).notes
    assert any("the checkpoint was fitted to another corpus: demo" in note for note in notes)
    assert not any("fitted to another" in note for note in plan(Experiment(system="dffm", checkpoint="demo")).notes)


@pytest.mark.slow
def test_it_answers_as_its_card_says(tmp_path):
    scores = run(Experiment(system="dffm", checkpoint="demo", limit=8, out=tmp_path / "run")).scores()
    for lang in ("en", "zh"):
        tasks = scores["languages"][lang]["end_to_end"]["tasks"]
        assert {name: tasks[name]["f1"] for name, least in FLOOR.items() if tasks[name]["f1"] < least} == {}, lang
