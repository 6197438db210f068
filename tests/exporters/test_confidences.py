"""The confidences of predictions in the formats that have a place for them, and back."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from m3dllm.cli import app
from m3dllm.confidence import confidences
from m3dllm.corpora.importers import find_importer
from m3dllm.export import Notes
from m3dllm.types import Annotation, Chain, Example, Mention, Region, Relation
from tests.exporters.sources import ADA, files_of, source
from tests.small import png

FRAMES = ADA.document.frames
BOX = ADA.gold.regions[0].box
SURE = Example(
    ADA.document,
    Annotation(
        (
            Chain("a", (Mention(0, 3, "PER", 0.9), Mention(24, 27, "PER", 0.8, 0.7))),
            Chain("b", (Mention(16, 21, "LOC", 0.6),)),
        ),
        (Relation("a", "b", "PER-LOC_birth", 0.5),),
        (Region(24, BOX, "PER", "a", 0.4),),
    ),
)
SAID = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]


def predicted(name, notes=None, **options):
    found = replace(source(SURE), made_by={"what": "predictions", "system": "dffm", "exporter": "m3dllm"})
    return files_of(name, found, notes or Notes(), **options)


@pytest.mark.parametrize(
    ("name", "back"),
    [("parquet", SAID), ("label-studio", SAID), ("coco", [0.4])],
    ids=["parquet", "label-studio", "coco"],
)
def test_confidences_come_back_from_a_format_that_has_them(tmp_path, name, back):
    if name == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra 'parquet'")
    for path, content in predicted(name).items():
        (tmp_path / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    for frame in FRAMES:
        image = tmp_path / "frames" / "ada" / f"{frame.index}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(png())
    (example,) = find_importer(name).read(tmp_path).splits["train"]
    assert sorted(confidences(example.gold)) == sorted(back)
    again = list(example.gold.mentions)
    assert [m.link for m in again if m.link is not None] == ([0.7] if 0.7 in back else [])


def test_label_studio_orders_tasks_by_the_mean_confidence():
    ((task,),) = (json.loads(text) for path, text in predicted("label-studio").items() if path.endswith(".json"))
    assert task["predictions"][0]["score"] == pytest.approx(sum(SAID) / len(SAID))


def test_a_score_that_a_person_took_over_is_no_confidence(tmp_path):
    text = predicted("label-studio")["train.json"]
    (tmp_path / "train.json").write_text(text.replace('"predictions"', '"annotations"'), encoding="utf-8")
    (example,) = find_importer("label-studio").read(tmp_path).splits["train"]
    assert list(example.gold.mentions)
    assert list(confidences(example.gold)) == []


def test_what_is_imported_as_gold_has_no_confidence(tmp_path):
    (tmp_path / "train.json").write_text(predicted("label-studio")["train.json"], encoding="utf-8")
    made = CliRunner().invoke(app, ["import", "label-studio", str(tmp_path), "--out", str(tmp_path / "corpus")])
    assert "skipped: 6 confidences: gold has none" in made.output
    assert b"confidence" not in (tmp_path / "corpus" / "train.jsonl").read_bytes()


def test_tables_have_a_column_for_them():
    files = predicted("csv")
    rows = {
        name: list(csv.DictReader(io.StringIO(files[f"{name}.csv"]))) for name in ("mentions", "relations", "regions")
    }
    assert [(row["confidence"], row["link"]) for row in rows["mentions"]] == [("0.9", ""), ("0.8", "0.7"), ("0.6", "")]
    assert [row["confidence"] for row in rows["relations"] + rows["regions"]] == ["0.5", "0.4"]


def test_graphs_have_them_as_properties():
    nodes = predicted("graphml", all_nodes=True)["train.graphml"]
    assert nodes.count('<data key="node-confidence">') == 4
    assert '<data key="edge-confidence">0.5</data>' in nodes
    assert predicted("neo4j")["relation.csv"].splitlines()[0] == ":START_ID,:END_ID,:TYPE,document,confidence:double"


def test_json_ld_and_webvtt_say_them():
    graph = json.loads(predicted("jsonld")["train.jsonld"])["@graph"]
    assert sorted(node["m3dllm:confidence"] for node in graph if "m3dllm:confidence" in node) == [
        0.4,
        0.5,
        0.6,
        0.8,
        0.9,
    ]
    (track,) = predicted("webvtt").values()
    assert track.count('"confidence":') == 5


@pytest.mark.parametrize("name", ["brat", "conll", "corefud"])
def test_a_format_without_a_place_for_them_says_so(name):
    notes = Notes()
    assert not any("confidence" in str(content) for content in predicted(name, notes).values())
    assert any(left.what == "the confidences of a document" for left in notes.left_out)
