"""What each verb holds of a document is a few numbers, so that memory hardly grows with the number of documents."""

from __future__ import annotations

import gc
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from m3dllm import pipeline
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.native import load_corpus, write_corpus
from m3dllm.corpora.split import split_corpus, write_split
from m3dllm.experiment import Experiment
from m3dllm.export import export
from m3dllm.score import score_files
from tests.small import LABELS, example

FEW, MANY = 100, 600
MOST = 300
"""The bytes of a document that a verb may hold at once, while it sorts ids; the lines below have 700."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    """Three folders with a corpus and a run: two with few documents, one with many."""
    made = [tmp_path_factory.mktemp("flat") for _ in range(3)]
    for folder, n in zip(made, (FEW, FEW, MANY), strict=True):
        run_of(n, folder)
    return made


@pytest.fixture(autouse=True)
def _small_buffers(monkeypatch):
    monkeypatch.setattr("m3dllm.stream.IN_MEMORY", 2**12)
    monkeypatch.setattr("m3dllm.score.scores.MOST_APART", 50)


def run_of(n: int, folder: Path) -> None:
    """A finished run on a corpus of n documents, both in `folder`; its answers are the gold."""
    made = [example(f"document {i}", "[PER0 Ada] met [PER1 Bela] in [LOC2 Basel] . " + "word " * 100) for i in range(n)]
    write_corpus(folder / "corpus", Imported(LABELS, {"dev": made}))
    answers = str(folder / "corpus/dev.jsonl")
    made_by = {"system": "replay", "options": {"answers": answers}}
    pipeline.run(Experiment(**made_by, corpus=folder / "corpus", split="dev", out=folder / "run"))


def peak(function: Callable[[], object]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def split(folder: Path) -> None:
    corpus = load_corpus(folder / "corpus")
    write_split(folder / "split", corpus, split_corpus(corpus))


def score(folder: Path) -> None:
    pipeline.score(folder / "run")


def score_two_files(folder: Path) -> None:
    score_files(folder / "corpus/dev.jsonl", folder / "run/predictions.jsonl")


def export_csv(folder: Path) -> None:
    shutil.rmtree(folder / "csv", ignore_errors=True)
    export("csv", folder / "run", folder / "csv")


@pytest.mark.parametrize("verb", [split, score, score_two_files, export_csv], ids=lambda verb: verb.__name__)
def test_a_document_takes_few_bytes(verb, folders):
    verb(folders[0])  # imports modules and fills caches
    few, many = (peak(lambda folder=folder: verb(folder)) for folder in folders[1:])
    assert many - few < MOST * (MANY - FEW)
