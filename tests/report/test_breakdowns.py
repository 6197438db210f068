"""Where a score comes from, what the answers were like, what they cost, and curves over an option."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from m3dllm import pipeline
from m3dllm.corpora.native import load_corpus
from m3dllm.experiment import Experiment
from m3dllm.report import answers, breakdowns, curves
from m3dllm.report.groups import ComparisonGroup, groups
from m3dllm.scored import read_run
from tests.small import small_corpus


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run that sees everything, and one from which thirds are hidden."""
    folder = tmp_path_factory.mktemp("runs")
    corpus = small_corpus(folder / "corpus")
    for name, missing in (("whole", None), ("thirds", "thirds")):
        pipeline.run(Experiment(system="majority", corpus=corpus, pairs="both", out=folder / name, missing=missing))
    return folder


@pytest.fixture(scope="module")
def english(folder) -> ComparisonGroup:
    return groups([read_run(folder / "whole")])[0]


def changed(run: Path, to: Path, **changes) -> Path:
    """A copy of a run whose record says something else."""
    shutil.copytree(run, to)
    record = json.loads((to / "run.json").read_text())
    (to / "run.json").write_text(json.dumps(record | changes))
    return to


# --- breakdowns ---


def test_the_types_of_a_task_have_its_gold(english):
    table = breakdowns.type_table("t", english, "end_to_end")
    gold = {(row.cells[0].value, row.cells[1].value): row.cells[2].value for row in table.rows}
    assert gold == {
        ("entity", "PER"): 9,
        ("entity", "LOC"): 3,
        ("relation", "PER-LOC_birth"): 3,
        ("grounding", "PER"): 6,
    }


def test_thirds_hold_about_the_same_number_and_equal_sizes_stay_together():
    def thirds(*sizes):
        return {words: chosen.nonzero()[0].tolist() for words, chosen in breakdowns.thirds(sizes)}

    assert thirds(1, 2, 3, 6, 5, 4) == {"1 to 2": [0, 1], "3 to 4": [2, 5], "5 to 6": [3, 4]}
    assert thirds(7, None, 7, 7) == {"7": [0, 2, 3]}
    assert thirds() == {}


def test_documents_of_one_size_are_not_broken_down(english):
    assert breakdowns.measure_table("t", "chains", english, "end_to_end") is None


def test_the_classes_of_errors_and_precision_add_up(english):
    table = breakdowns.error_table("t", english, "end_to_end", None)
    part = english.runs[0].part("en", "end_to_end")
    row = {c.key: cell.value for c, cell in zip(table.columns, table.rows[0].cells, strict=True)}
    for task in ("entity", "relation", "grounding"):
        wrong = sum(value for key, value in row.items() if key.startswith(task))
        assert wrong == pytest.approx(1 - part.tasks[task].precision)


# --- answers and cost ---


def test_answers_that_could_be_read_are_counted(english):
    table = answers.answer_table("t", english)
    row = {c.key: cell.value for c, cell in zip(table.columns, table.rows[0].cells, strict=True)}
    assert row["answers"] == 3 * 4
    assert row["readable"] == 1
    assert row["shown"] == 1


def test_frames_that_were_not_shown_are_missing_from_the_share(folder, tmp_path):
    run = Path(shutil.copytree(folder / "whole", tmp_path / "few"))
    lines = [json.loads(line) for line in (run / "raw.jsonl").read_text().splitlines()]
    for line in lines:
        line["frames"] = [0]
    (run / "raw.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert answers.frames_shown(read_run(run), "en") == 0.5


def test_a_run_without_its_answers_is_reported_without_their_cost(folder, tmp_path):
    run = Path(shutil.copytree(folder / "whole", tmp_path / "bare"))
    (run / "raw.jsonl").unlink()
    found = read_run(run)
    assert answers.seconds_each(found) is None
    assert answers.frames_shown(found, "en") is None


def test_a_pareto_figure_joins_those_that_no_other_beats(folder, tmp_path):
    slow = changed(
        folder / "whole", tmp_path / "slow", seconds={"predict": 100.0}, config={"chain_rule": "dev", "boxes": 9}
    )
    quick = changed(folder / "whole", tmp_path / "quick", seconds={"predict": 1.0})
    group = groups([read_run(slow), read_run(quick)])[0]
    (panel,) = answers.pareto("p", group, "end_to_end").panels
    assert len(panel.series) == 2
    assert [point.x for point in panel.front] == [pytest.approx(1 / 24)]


def test_one_system_has_no_pareto_figure(english):
    assert answers.pareto("p", english, "end_to_end") is None


# --- curves ---


def test_runs_that_differ_in_what_was_hidden_make_a_curve(folder):
    (sweep,) = [
        d
        for d in curves.sweeps(groups([read_run(folder / n) for n in ("whole", "thirds")]), "end_to_end")
        if d.lang == "en"
    ]
    plot = curves.curve_plot("p", sweep)
    assert sweep.name == "missing"
    assert [point.x for point in plot.panels[0].series[0].points] == [0, 0.5]
    table = curves.curve_table("t", sweep)
    assert [row.cells[1].value for row in table.rows] == [0, 0.5]


@pytest.mark.parametrize(("kind", "ratio"), [("share", 3 / 8), ("thirds", None)])
def test_of_a_requested_share_one_modality_may_be_missing_more_often(folder, tmp_path, kind, ratio):
    splits = load_corpus(folder / "corpus").splits
    hidden = {e.document.id: "full" for examples in splits.values() for e in examples}
    hidden |= {e.document.id: "no_text" for e in list(splits["test"])[:3]}
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"kind": kind, "seed": 0, "documents": hidden, "format": 1}))
    made = pipeline.run(
        Experiment(system="majority", corpus=folder / "corpus", out=tmp_path / "run", missing=str(manifest))
    )
    assert curves.missing_ratio(read_run(made.path)) == ratio


def test_runs_that_differ_in_an_option_make_a_curve(folder, tmp_path):
    runs = [
        read_run(changed(folder / "whole", tmp_path / f"shots{n}-{seed}", config={"shots": n}, seed=seed))
        for n, seed in ((0, 0), (2, 0), (2, 1), (4, 0))
    ]
    (sweep,) = [d for d in curves.sweeps(groups(runs), "gold_pairs") if d.lang == "zh"]
    points = curves.curve_plot("p", sweep).panels[0].series[0].points
    assert [(p.x, p.low is None) for p in points] == [(0, True), (2, False), (4, True)]


def test_runs_that_differ_in_two_things_make_no_curve(folder, tmp_path):
    one = read_run(changed(folder / "whole", tmp_path / "a", config={"shots": 0, "other": 1}))
    two = read_run(changed(folder / "whole", tmp_path / "b", config={"shots": 2, "other": 2}))
    assert list(curves.sweeps(groups([one, two]), "end_to_end")) == []
