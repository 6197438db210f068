"""The confidences of systems in a report: table, reliability diagrams, precision-recall curves."""

from __future__ import annotations

import json

import pytest

from m3dllm.report.confidences import curve_plot, reliability_plot
from m3dllm.report.drawing import Path, draw
from m3dllm.report.groups import groups
from m3dllm.report.terminal import run_table
from m3dllm.scored import read_run
from m3dllm.types import Annotation, Prediction
from m3dllm.wire import encode_prediction
from tests.report.reading import reported, rows
from tests.viewer.documents import EXAMPLES, corpus, replay
from tests.viewer.test_confidence import SAID


@pytest.fixture(scope="module")
def sure(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sure")
    root = corpus(folder / "corpus")
    lines = [Prediction(e.document.id, SAID if e.document.id == "en-1" else Annotation()) for e in EXAMPLES]
    return replay(root, [json.loads(encode_prediction(line)) for line in lines], folder / "sure")


def test_a_table_says_how_sure_each_system_is_and_how_often_correct(sure, tmp_path):
    texts = reported([sure.path], tmp_path / "report")
    found = {row["task"]: row for row in rows(texts["tables/corpus-test-en-e2e-calibration.csv"])}
    assert list(found) == ["entity", "chain links", "relation", "grounding"]
    entity = found["entity"]
    assert (float(entity["predictions"]), float(entity["confidence"]), float(entity["correct"])) == (5, 0.82, 1)
    assert float(entity["ece"]) == pytest.approx(0.18)
    assert float(entity["average_precision"]) == 1


def test_figures_have_a_panel_a_task_and_the_line_of_what_is_meant(sure):
    (group,) = [one for one in groups([read_run(sure.path)]) if one.lang == "en"]
    reliability, curves = reliability_plot("r", group, "end_to_end"), curve_plot("c", group, "end_to_end")
    for figure in (reliability, curves):
        assert [panel.title for panel in figure.panels] == ["entity", "chain links", "relation", "grounding"]
    diagonals = [item for item in draw(reliability).items if isinstance(item, Path) and item.style == "front"]
    assert len(diagonals) == 4
    last = curves.panels[0].series[0].points[-1]
    assert (last.x, last.y) == (100, 100)


def test_the_table_on_a_terminal_says_it_in_a_line(sure):
    assert "confidence (ECE; average precision): entity 18.00; 100.00" in run_table(sure)


def test_without_confidences_nothing_is_said_of_them(runs, tmp_path):
    texts = reported([runs / "best"], tmp_path / "report")
    assert not any("calibration" in name or "reliability" in name for name in texts)
    assert "ECE" not in texts["report.md"]
