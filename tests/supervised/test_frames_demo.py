"""On the demo corpus: what only frames show is predicted from a document's own frames, and not from those of another.

The checkpoint is the one that comes with the package: what a fit ends at depends on the processor.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs m3dllm[supervised]")

from benchmarks.dffm_frames import measured
from m3dllm.corpora.demo import generate_demo
from m3dllm.corpora.native import write_corpus

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """F1 over gold chains of the facts that only frames show, by what is shown."""
    folder = tmp_path_factory.mktemp("demo")
    write_corpus(folder / "corpus", generate_demo(0, languages=("en",)))
    found = measured(Path("demo"), folder, folder / "corpus")
    return {name: counts.f1 or 0.0 for (name, _), counts in found.items()}


def test_its_own_frames_beat_the_heuristic_baseline(found):
    assert found["own"] > 1.2 * found["floor"]


def test_frames_of_another_document_tell_no_more_than_none(found):
    assert found["exchanged"] < 1.25 * max(found["floor"], found["none"])


def test_exchanged_frames_halve_what_is_found(found):
    assert found["exchanged"] < 0.6 * found["own"]
