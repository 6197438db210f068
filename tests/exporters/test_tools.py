"""Label Studio, BRAT, COCO and Parquet: what each tool is given. Reading them back has tests of its own."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from m3dllm.export import Notes
from m3dllm.labels import Label
from m3dllm.types import Annotation, Chain, Document, Example, Frame, Mention
from tests.exporters.sources import ADA, EMPTY, SUSAN, exported, files_of, source
from tests.small import png
from tests.strategies import LABELS


def test_label_studio_gets_spans_links_and_percents():
    task, *_ = json.loads(exported("label-studio")["train.json"])
    results = {result.get("id"): result for result in task["annotations"][0]["result"]}
    assert results["c0m1"]["value"] == {"start": 24, "end": 27, "text": "She", "labels": ["PER"]}
    assert results["r0"]["to_name"] == "frame_0"
    assert {key: results["r0"]["value"][key] for key in ("x", "y", "width", "height")} == {
        "x": 25,
        "y": 25,
        "width": 25,
        "height": 50,
    }
    links = [
        (r["from_id"], r["labels"], r["to_id"]) for r in task["annotations"][0]["result"] if r["type"] == "relation"
    ]
    assert links == [("c0m0", ["Coreference"], "c0m1"), ("r0", ["shows"], "c0m0"), ("c0m0", ["PER-LOC_birth"], "c1m0")]


def test_predictions_are_pre_annotations_of_their_system():
    predicted = replace(source(SUSAN), made_by={"what": "predictions", "system": "dffm"})
    (task,) = json.loads(files_of("label-studio", predicted, Notes())["train.json"])
    assert "annotations" not in task
    assert task["predictions"][0]["model_version"] == "dffm"


def test_the_labelling_interface_has_every_type_and_a_control_for_every_result():
    files = exported("label-studio")
    interface = ElementTree.fromstring(files["interface.xml"])
    assert [label.get("value") for label in interface.find("Labels")] == ["PER", "LOC", "组织"]
    assert {relation.get("value") for relation in interface.find("Relations")} >= {"Coreference", "shows", "属于"}
    assert interface.find("Repeater/Image").get("value") == "$frames[{{idx}}].image"


def test_the_labelling_interface_is_xml_whatever_types_are_called():
    labels = replace(LABELS, regions=(Label("a\x1bb <c>"),))
    files = files_of("label-studio", replace(source(ADA), labels=labels), Notes())
    interface = ElementTree.fromstring(files["interface.xml"])
    assert [label.get("value") for label in interface.iter("Label") if "<c>" in label.get("value")] == ["a�b <c>"]


@pytest.mark.parametrize("name", ["长" * 200, ".hidden", "a/" + "b" * 300])
def test_brat_files_have_names_that_a_disk_takes_and_an_importer_finds(name, tmp_path):
    notes = Notes()
    files = files_of("brat", source(Example(Document(name, "en", "Ada"), Annotation())), notes)
    (text,) = (path for path in files if path.endswith(".txt"))
    assert all(len(part.encode()) < 200 and not part.startswith(".") for part in text.split("/"))
    assert [note.what for note in notes.changed] == ["document"]


def test_images_go_along_and_one_that_is_missing_is_counted(tmp_path):
    (tmp_path / "24.png").write_bytes(png())
    frames = (Frame(24, str(tmp_path / "24.png"), 64, 48), Frame(48, str(tmp_path / "no.png"), 64, 48))
    one = Example(Document("d", "en", "", frames=frames), Annotation())
    for name in ("label-studio", "coco", "parquet", "brat"):
        notes = Notes()
        files = files_of(name, source(one), notes)
        assert [path for path in files if path.startswith("frames/") and path.endswith("png")] == ["frames/d/24.png"]
        assert [note.what for note in notes.left_out if "file is missing" in note.why] == ["image"]


def test_coco_has_pixels_categories_and_what_frame_an_image_is():
    notes = Notes()
    found = json.loads(files_of("coco", source(ADA, EMPTY), notes)["train.json"])
    assert [(image["id"], image["document"], image["frame"]) for image in found["images"]] == [
        (1, "ada", 24),
        (2, "ada", 48),
    ]
    names = {category["id"]: category["name"] for category in found["categories"]}
    assert [(names[a["category_id"]], a["image_id"], a["bbox"]) for a in found["annotations"]] == [
        ("PER", 1, [16, 12, 16, 24]),
        ("LOC", 1, [0, 0, 64, 24]),
    ]
    assert ("document", "empty") in [(note.what, note.where) for note in notes.left_out]


def test_brat_gets_standoff_and_a_configuration_of_the_types():
    files = exported("brat")
    assert files["ada.txt"].decode() == ADA.document.text
    assert files["ada.ann"] == (
        "T1\tPER 0 3\tAda\nT2\tPER 24 27\tShe\nT3\tLOC 16 21\tArles\n"
        "*\tEquiv T1 T2\nR1\tPER-LOC_birth Arg1:T1 Arg2:T3\n"
    )
    assert "PER\n" in files["annotation.conf"]
    assert "PER-LOC_birth\tArg1:<ENTITY>, Arg2:<ENTITY>" in files["annotation.conf"]
    assert json.loads(files["frames/ada/24.json"])["shapes"][0]["points"] == [[16, 12], [32, 36]]
    assert "frames/ada/48.json" not in files  # nobody annotated it


def test_brat_parts_a_mention_at_the_end_of_a_line():
    one = Example(Document("d", "en", "New\nYork"), Annotation((Chain("c", (Mention(0, 8, "A B"),)),)))
    notes = Notes()
    assert files_of("brat", source(one), notes)["d.ann"] == "T1\tA_B 0 3;4 8\tNew York\n"
    assert [note.what for note in notes.changed] == ["type"]


def test_parquet_rows_are_documents_with_their_gold():
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra 'parquet'")
    table = parquet.read_table(io.BytesIO(exported("parquet")["train.parquet"]))
    first, second, third = table.to_pylist()
    assert (first["id"], second["lang"], third["frames"]) == ("ada", "zh", [])
    assert first["gold"]["regions"][0] == {
        "frame": 24,
        "box": [0.25, 0.25, 0.5, 0.75],
        "type": "PER",
        "chain": "a",
        "confidence": None,
    }
    assert json.loads(table.schema.metadata[b"labels"])["mentions"]
