"""Runs in Python: loaded, and compared as data frames."""

from __future__ import annotations

import sys

import pytest

import m3dllm
from m3dllm import pipeline
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment
from m3dllm.runs import Run
from tests.small import small_corpus


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    corpus = small_corpus(folder / "corpus")
    found = []
    for name, options in (("best", {}), ("singles", {"chain_rule": "singletons"})):
        done = pipeline.run(
            Experiment(system="majority", corpus=corpus, pairs="both", out=folder / name, options=options)
        )
        found.append(done.path)
    return found


def test_a_run_is_loaded_with_its_documents_and_scores(runs):
    run = m3dllm.load_run(runs[0])
    assert run.record.system == "majority"
    assert len(run.examples) == 8
    assert run.part("en", "gold_pairs").tasks["chain"].f1 == 1


def test_a_folder_that_is_no_run_is_not_loaded(tmp_path):
    with pytest.raises(UserError, match=r"has no run\.json"):
        m3dllm.load_run(tmp_path)


def test_scores_of_runs_are_one_frame(runs):
    pytest.importorskip("pandas", reason="needs pandas")
    scores = m3dllm.compare(runs, resamples=100).scores
    chain = scores[(scores.lang == "en") & (scores.pairs == "gold_pairs") & (scores.score == "chain")]
    assert dict(zip(chain.run, chain.f1.round(4), strict=True)) == {"best": 1.0, "singles": 0.5397}


def test_one_run_needs_no_list(runs):
    pytest.importorskip("pandas", reason="needs pandas")
    assert set(m3dllm.compare(runs[0], resamples=100).scores.run) == {"best"}


def test_heuristics_are_of_the_scored_tasks_alone(runs, tmp_path):
    corpus = small_corpus(tmp_path / "corpus")
    run = pipeline.run(Experiment(system="majority", corpus=corpus, tasks=("chain",), out=tmp_path / "run"))
    assert {row.task for row in m3dllm.load_run(run.path).heuristics("en", "end_to_end")} == {"chain"}


def test_loaded_runs_compare_as_their_folders_do(runs):
    pytest.importorskip("pandas", reason="needs pandas")
    one, other = m3dllm.compare(runs, resamples=100), m3dllm.compare(map(m3dllm.load_run, runs), resamples=100)
    for name in ("scores", "heuristics", "differences", "issues", "skipped"):
        assert getattr(one, name).equals(getattr(other, name))


def test_the_table_has_a_row_a_system_and_a_column_a_score(runs):
    pytest.importorskip("pandas", reason="needs pandas")
    table = m3dllm.compare(runs, resamples=100).table()
    assert len(table) == 2 * 2 * 2
    assert {"entity", "chain", "relation", "grounding", "average"} <= set(table.columns)


def test_runs_that_are_left_out_are_named(runs, tmp_path):
    pytest.importorskip("pandas", reason="needs pandas")
    assert list(m3dllm.compare([*runs, tmp_path / "gone"], resamples=100).skipped.run) == ["gone"]


def test_an_unknown_baseline_is_refused(runs):
    pytest.importorskip("pandas", reason="needs pandas")
    with pytest.raises(UserError, match=r"--baseline nobody: no system or run of that name; there are majority"):
        m3dllm.compare(runs, baseline="nobody", resamples=100)


def test_without_pandas_the_error_says_what_to_install(runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"pip install 'm3dllm\[notebook\]'"):
        m3dllm.compare(runs)


def test_what_the_package_offers_is_what_dir_lists():
    assert dir(m3dllm) == sorted(m3dllm.__all__)


def test_values_are_short_in_words_and_tables_in_notebooks(runs):
    pytest.importorskip("pandas", reason="needs pandas")
    corpus = m3dllm.load_corpus(m3dllm.load_run(runs[0]).record.corpus.root)
    assert repr(corpus) == "Corpus('corpus': train 12, dev 6, test 8)"
    run = m3dllm.load_run(runs[0])
    assert repr(run).startswith(f"ScoredRun('{run.name}': majority on 8 of corpus, test)")
    f1 = f"{100 * run.scores.languages['en'].end_to_end.tasks['entity'].f1:.2f}"
    for shown in (run._repr_html_(), Run(run.path)._repr_html_()):
        assert f"<td>en, end to end</td><td>{f1}</td>" in shown
    compared = m3dllm.compare(runs, resamples=100)
    assert repr(compared).startswith("Comparison of 2 runs:")
    assert "<table" in compared._repr_html_()
