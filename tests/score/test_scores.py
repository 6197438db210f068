"""scores.json and per_document.jsonl."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings

from m3dllm.errors import UserError
from m3dllm.score import Ratio, Settings, TaskScores, read_scores, score, total, variants
from m3dllm.score.scores import Scores
from m3dllm.types import PRF, Annotation, Document, Example, Frame, Prediction
from m3dllm.wire import decode, encode, lines, pretty
from tests.score.letters import region, said
from tests.strategies import LABELS, scored

FRAMES = (Frame(0, "0.jpg", 64, 48, annotated=True), Frame(24, "24.jpg", 64, 48))
GOLD = said("ab c", [("ab", "c", "r")], [region(0, 0, 0, 1, 1)])
PRED = said("ab cd", regions=[region(24, 0, 0, 1, 1)])
ONE = [Example(Document("video_1_2", "en", "x" * 200, group="g", frames=FRAMES), GOLD)]


def test_the_object_of_scores_json():
    found = score(ONE, [Prediction("video_1_2", PRED)]).to_wire()
    assert found["format"] == 1
    assert found["settings"] == {"modality": "available", "variants": []}
    english = found["languages"]["en"]
    assert english["documents"] == 1
    assert list(english) == ["documents", "end_to_end", "regions_unannotated"]
    assert list(english["end_to_end"]) == ["tasks", "average_f1", "average_of"]
    assert list(english["end_to_end"]["tasks"]) == [
        "entity",
        "chain",
        "chain.muc",
        "chain.b3",
        "chain.ceaf_e",
        "chain.ceaf_m",
        "chain.mean_m",
        "relation",
        "grounding",
    ]
    assert english["end_to_end"]["tasks"]["entity"] == {
        "precision": 0.75,
        "recall": 1.0,
        "f1": 2 * 0.75 / 1.75,
        "p_num": 3,
        "p_den": 4,
        "r_num": 3,
        "r_den": 3,
    }
    assert english["end_to_end"]["tasks"]["chain"].keys() == {"precision", "recall", "f1"}
    assert english["end_to_end"]["average_of"] == ["entity", "chain", "relation", "grounding"]
    assert english["regions_unannotated"] == 1


def test_what_is_over_nothing_is_null():
    found = score(ONE, [], settings=Settings(tasks=("entity",), modality="all"))
    nothing = score([Example(Document("d", "zh", "文"), Annotation())], [])
    assert json.loads(pretty(nothing.to_wire()))["languages"]["zh"]["end_to_end"]["tasks"]["entity"]["f1"] is None
    assert found.to_wire()["languages"]["en"]["end_to_end"]["tasks"]["entity"]["f1"] == 0


def test_whole_counts_are_written_as_whole_numbers():
    text = encode(score(ONE, [Prediction("video_1_2", said("abc"))]).to_wire()).decode()
    assert '"p_num":3,"p_den":3' in text
    assert '"p_num":3.0' not in text


def test_an_object_of_per_document_jsonl():
    [row] = score(ONE, [Prediction("video_1_2", PRED)]).rows()
    assert {key: row[key] for key in ("document", "lang", "group", "subset", "pairs")} == {
        "document": "video_1_2",
        "lang": "en",
        "group": "g",
        "subset": "full",
        "pairs": "end_to_end",
    }
    assert list(row["tasks"]) == [
        "entity",
        "chain.muc",
        "chain.b3",
        "chain.ceaf_e",
        "chain.ceaf_m",
        "relation",
        "grounding",
    ]
    assert row["tasks"]["relation"] == {
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "p_num": 0,
        "p_den": 0,
        "r_num": 0,
        "r_den": 1,
    }


def test_settings_name_the_tasks_only_where_some_are_left_out():
    found = score(ONE, [], settings=Settings(tasks=("entity",), variants=("iou=0.3",)))
    assert found.to_wire()["settings"] == {"modality": "available", "variants": ["iou=0.3"], "tasks": ["entity"]}


@settings(max_examples=25)
@given(scored())
def test_what_is_written_is_read_again(case):
    found = score(*case, labels=LABELS, settings=Settings(variants=variants()))
    value = decode(encode(found.to_wire()), dict)
    rows = [decode(encode(row), dict) for row in found.rows()]
    again = Scores.from_wire(value, rows)
    assert (again.to_wire(), again.rows()) == (found.to_wire(), found.rows())
    assert again.languages == found.languages
    assert again.per_document == found.per_document


def test_the_files_of_a_run_are_read(tmp_path):
    found = score(ONE, [Prediction("video_1_2", PRED)])
    (tmp_path / "scores.json").write_text(pretty(found.to_wire()))
    (tmp_path / "per_document.jsonl").write_bytes(lines(map(encode, found.rows())))
    assert read_scores(tmp_path / "scores.json").languages == found.languages
    again = read_scores(tmp_path / "scores.json", tmp_path / "per_document.jsonl")
    assert again.documents("en") == found.documents("en")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"scores\.json: not valid JSON"),
        ('{"format": 1}', r"scores\.json: .*lacks the field 'settings'"),
        ('{"format": 2, "settings": {}, "languages": {}}', r"\$\.format: is format 2; this version reads format 1"),
        (
            '{"format": 1, "settings": {"variants": ["x"]}, "languages": {}}',
            r"scores\.json: .*variant 'x' is not known",
        ),
    ],
)
def test_a_file_that_is_none_of_ours_is_named(tmp_path, text, message):
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_scores(tmp_path / "scores.json")


def test_a_mean_is_absent_only_where_all_its_parts_are():
    assert Ratio.mean([PRF(), PRF(1, 1, 1, 1)]) == Ratio(0.5, 0.5, 0.5)
    assert Ratio.mean([PRF(), PRF()]) == Ratio()


def test_the_average_is_over_the_tasks_that_are_present():
    found = TaskScores({"entity": PRF(1, 1, 1, 1), "relation": PRF(), "grounding": PRF(0, 1, 0, 1)})
    assert (found.average_f1, found.average_of) == (0.5, ("entity", "grounding"))


def test_totals_keep_the_names_that_no_document_has():
    found = total([{"entity": PRF(1, 2, 1, 3)}, {"entity": PRF(1, 1, 1, 1)}], ["entity", "grounding"])
    assert found.tasks == {"entity": PRF(2, 3, 2, 4), "grounding": PRF()}
