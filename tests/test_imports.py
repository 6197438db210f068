"""Gold and predictions of other tools are scored after both are imported."""

from __future__ import annotations

import json

import pytest

from m3dllm.cli import app
from m3dllm.errors import UserError
from m3dllm.imports import score_imported
from m3dllm.labels import Label, LabelSet
from m3dllm.wire import encode_labels

GOLD = "Ada\tB-PER\nmet\tO\nBo\tB-PER\n\nCy\tB-PER\n"
PRED = "Ada\tB-PER\nmet\tO\nBo\tB-LOC\n\nCy\tB-PER\n"


@pytest.fixture
def files(tmp_path):
    for name, text in (("gold.conll", GOLD), ("pred.conll", PRED)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / "gold.conll", tmp_path / "pred.conll"


def test_documents_that_files_name_differently_are_those_of_one_text(files):
    scores, notes = score_imported(*files, "conll")
    tasks = scores.languages["en"].end_to_end.tasks
    assert tasks["entity"].f1 == pytest.approx(2 / 3)
    assert "relation" not in tasks or tasks["relation"].f1 is None
    assert notes == []


def test_the_verb_scores_two_files_of_a_format(files, capsys):
    with pytest.raises(SystemExit) as ended:
        app(["score", "--gold", str(files[0]), "--pred", str(files[1]), "--format", "auto", "--json"])
    assert ended.value.code == 0
    assert "0.6666" in capsys.readouterr().out


def test_pre_annotations_are_scored_against_the_annotations_of_the_same_file(tmp_path):
    def spans(*kinds: str) -> list[dict]:
        places = ((0, 3), (8, 10))
        return [
            {"id": str(a), "type": "labels", "value": {"start": a, "end": b, "labels": [kind]}}
            for (a, b), kind in zip(places, kinds, strict=False)
        ]

    task = {"id": 1, "data": {"text": "Ada met Bo"}}
    task |= {"annotations": [{"result": spans("PER", "PER")}], "predictions": [{"result": spans("PER")}]}
    (tmp_path / "a.json").write_text(json.dumps([task]))
    scores, _ = score_imported(tmp_path / "a.json", tmp_path / "a.json", "label-studio")
    entity = scores.languages["en"].end_to_end.tasks["entity"]
    assert (entity.precision, entity.recall) == (1.0, 0.5)


def test_what_cannot_be_matched_is_named(files, tmp_path):
    gold, pred = files
    pred.write_text(PRED + "\nZoe\tB-PER\n")
    with pytest.raises(UserError, match=r"pred\.conll: document 'pred-3' is not in the gold"):
        score_imported(gold, pred, "conll")
    pred.write_text("# id = gold-1\nOther\tO\n")
    with pytest.raises(UserError, match=r"document 'gold-1' has a different text than in the gold"):
        score_imported(gold, pred, "conll")
    with pytest.raises(UserError, match="--format demo reads no files"):
        score_imported(gold, pred, "demo")


def test_types_that_the_labels_lack_are_named(files, tmp_path):
    (tmp_path / "labels.json").write_text(encode_labels(LabelSet((Label("PER"),))))
    with pytest.raises(UserError, match=r"pred\.conll: pred-1: chains\[1\].*unknown type 'LOC'"):
        score_imported(*files, "conll", labels=tmp_path / "labels.json")
