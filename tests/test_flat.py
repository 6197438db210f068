"""What each verb holds of a document is a few numbers, so that memory hardly grows with the number of documents."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.native import load_corpus, write_corpus
from m3dllm.corpora.split import split_corpus, write_split
from tests.small import LABELS, example

FEW, MANY = 500, 2_500
MOST = 250
"""The bytes of a document that a verb may hold at once, while it sorts ids; the lines below have 700."""


@pytest.fixture(autouse=True)
def _spools_in_files(monkeypatch):
    monkeypatch.setattr("m3dllm.stream.IN_MEMORY", 2**12)


def corpus_of(n: int, folder: Path) -> Path:
    made = [example(f"document {i}", "[PER0 Ada] met [PER1 Bela] in [LOC2 Basel] . " + "word " * 100) for i in range(n)]
    write_corpus(folder, Imported(LABELS, {"dev": made}))
    return folder


def peak(function: Callable[[], object]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def split(corpus: Path, work: Path) -> None:
    found = load_corpus(corpus)
    write_split(work / "split", found, split_corpus(found))


@pytest.mark.parametrize("verb", [split], ids=lambda verb: verb.__name__)
def test_a_document_takes_few_bytes(verb, tmp_path):
    peaks = []
    for n in (FEW, FEW, MANY):  # the first one imports modules and fills caches
        work = tmp_path / str(len(peaks))
        corpus = corpus_of(n, work / "corpus")
        peaks.append(peak(lambda corpus=corpus, work=work: verb(corpus, work)))
    assert peaks[2] - peaks[1] < MOST * (MANY - FEW)
