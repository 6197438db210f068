"""The gates that a system kept, drawn by task."""

from __future__ import annotations

import json

from m3dllm.report.gates import gate_plot
from m3dllm.report.groups import groups
from m3dllm.scored import read_run
from tests.report.reading import reported


def test_gates_are_drawn_by_task_as_shares_of_questions(copied, tmp_path):
    record = json.loads((copied / "run.json").read_text())
    record["tally"] = {"gate": {"entity": [0.0, 0.1, 0.1, 0.2], "relation": [0.5, 0.5], "chain": []}}
    (copied / "run.json").write_text(json.dumps(record))
    (group, *_) = groups([read_run(copied)])
    figure = gate_plot("gates", group)
    assert [panel.title for panel in figure.panels] == ["entity", "relation"]
    entity, relation = (panel.series[0].points for panel in figure.panels)
    assert [(round(p.x, 3), p.y) for p in entity if p.y] == [(0.005, 25), (0.105, 50), (0.195, 25)]
    assert [(p.x, p.y) for p in relation] == [(0.5, 100)]
    assert any("gates" in name for name in reported([copied], tmp_path / "report", figures=True))


def test_without_gates_nothing_is_drawn(runs):
    assert all(gate_plot("gates", group) is None for group in groups([read_run(runs / "best")]))
