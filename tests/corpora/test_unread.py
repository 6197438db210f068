"""What a tool says and an importer has no use for is counted by name, in every format: keys, elements, files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from m3dllm.corpora.imported import Imported, LeftOut, reasons
from m3dllm.corpora.importers import find_importer
from m3dllm.corpora.jsonfiles import keys, note_unread
from m3dllm.corpora.yolo import parse_yolo
from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.types import Box
from tests.small import png

TASK = {
    "id": 1,
    "data": {"text": "Ada met Bo", "x": 1},
    "annotations": [
        {
            "result": [
                {
                    "id": "a",
                    "type": "labels",
                    "value": {"start": 0, "end": 3, "text": "Ada", "labels": ["PER"], "x1": 1},
                },
                {"id": "b", "type": "relation", "from_id": "a", "to_id": "z", "labels": ["met"], "score": 0.5},
            ],
            "x2": 1,
        }
    ],
    "meta": {"who": "me"},
}
CAS = {
    "%TYPES": {},
    "%FEATURE_STRUCTURES": [
        {"%ID": 1, "%TYPE": "uima.cas.Sofa", "sofaString": "Ada met Bo"},
        {"%ID": 2, "%TYPE": "x.NamedEntity", "begin": 0, "end": 3, "value": "PER", "identifier": "Q1"},
        {"%ID": 3, "%TYPE": "x.Relation", "@Governor": 2, "@Dependent": 9, "label": "met", "x": 1},
    ],
}
COCO = {
    "info": {},
    "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48, "x": 1}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "attributes": {"seen": True}}],
    "categories": [{"id": 1, "name": "PER", "supercategory": "thing"}],
    "videos": [1],
}
ENTITIES = [{"id": 1, "start_offset": 0, "end_offset": 3, "label": "PER", "x": 1}]
DOCCANO = {
    "text": "Ada",
    "entities": ENTITIES,
    "relations": [{"from_id": 1, "to_id": 2, "type": "t", "y": 1}],
    "meta": {"z": 1},
}
SPAN = {"start": 0, "end": 3, "label": "PER", "x_": 1}
PRODIGY = {"text": "Ada", "spans": [SPAN], "meta": {"id": "d", "source": "s"}, "accept": ["a"]}
PAIR = {
    "token": ["Ada", "met", "Bo"],
    "h": {"name": "Ada", "pos": [0, 1], "kb": "Q1"},
    "t": {"name": "Bo", "pos": [2, 3]},
    "img_id": "a.jpg",
    "relation": "/per/per/peer",
    "user": "me",
}
VOC = (
    "<annotation><filename>a.png</filename><size><width>64</width><height>48</height></size><object><name>PER</name>"
    "<pose>Left</pose><truncated>1</truncated><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
    "<ymax>9</ymax></bndbox></object><owner>me</owner></annotation>"
)
CVAT = (
    '<annotations><version>1.1</version><image id="0" name="a.png" width="64" height="48"><box label="PER" xtl="1" '
    'ytl="1" xbr="9" ybr="9" occluded="1" z_order="0" group_id="3"><attribute name="age">old</attribute></box></image>'
    "</annotations>"
)
ELAN = (
    '<ANNOTATION_DOCUMENT><TIME_ORDER><TIME_SLOT TIME_SLOT_ID="t1" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="t2" '
    'TIME_VALUE="9"/></TIME_ORDER><TIER TIER_ID="a" PARTICIPANT="Ada"><ANNOTATION><ALIGNABLE_ANNOTATION '
    'ANNOTATION_ID="a1" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t2"><ANNOTATION_VALUE>Hello</ANNOTATION_VALUE>'
    "</ALIGNABLE_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>"
)
FILES: dict[str, tuple[str, Any, set[str]]] = {
    "label-studio": ("a.json", [TASK], {"x", "x1", "x2", "score", "meta"}),
    "uima": ("a.json", CAS, {"identifier", "x"}),
    "coco": ("a.json", COCO, {"x", "seen", "supercategory", "videos"}),
    "doccano": ("a.jsonl", [DOCCANO], {"x", "y", "meta"}),
    "prodigy": ("a.jsonl", [PRODIGY], {"x_", "source", "accept"}),
    "mnre": ("a.json", [PAIR], {"kb", "user"}),
    "voc": ("a.xml", VOC, {"pose", "truncated", "owner"}),
    "cvat": ("a.xml", CVAT, {"@occluded", "@group_id", "age"}),
    "elan": ("a.eaf", ELAN, {"@PARTICIPANT"}),
}
"""format -> (file, its content, the keys that nobody uses)"""


def written(folder: Path, name: str, content: Any) -> Path:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    (folder / "a.png").write_bytes(png())
    return folder / name


def imported(kind: str, path: Path) -> Imported:
    return find_importer(kind).read(path)


@pytest.mark.parametrize("kind", FILES)
def test_what_nobody_uses_is_counted_by_its_key(kind, tmp_path):
    name, content, unused = FILES[kind]
    found = imported(kind, written(tmp_path, name, content))
    assert {one.what for one in found.details} == {f"key {key!r}" for key in unused}


@pytest.mark.parametrize("kind", [kind for kind, (_, content, _) in FILES.items() if not isinstance(content, str)])
def test_keys_that_stand_twice_are_counted(kind, tmp_path):
    name, content, _ = FILES[kind]
    path = written(tmp_path, name, content)
    path.write_text(path.read_text().replace("{", '{"x": 2, "x": 2, ', 1))
    assert [one.why for one in imported(kind, path).left_out if one.what == "key"] == [
        "it appears twice in one object: the last value is used"
    ]


SHAPES = {
    "a list": json.dumps,
    "a list for people": lambda rows: json.dumps(rows, indent=2),
    "JSON Lines": lambda rows: "\n".join(map(json.dumps, rows)),
    "objects for people": lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows),
    "columns": lambda rows: json.dumps({key: [row[key] for row in rows] for key in rows[0]}),
    "a byte-order mark": lambda rows: "\ufeff" + json.dumps(rows),
}
ROWS = {"label-studio": TASK, "doccano": DOCCANO, "prodigy": PRODIGY, "mnre": PAIR}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ROWS)
def test_rows_are_read_in_every_shape(kind, shape, packed, tmp_path):
    rows = [ROWS[kind], ROWS[kind] | ({"img_id": "b.jpg"} if kind == "mnre" else {})]
    data = SHAPES[shape](rows).encode()
    (tmp_path / "a.json").write_bytes(gzip.compress(data) if packed else data)
    assert len(imported(kind, tmp_path / "a.json").splits["train"]) == 2


@pytest.mark.parametrize("name", ["a.JSON", "a.json.gz", "a.jsonl", "a.ndjson"])
@pytest.mark.parametrize("kind", ["label-studio", "doccano", "prodigy"])
def test_files_in_a_folder_are_found_by_any_of_their_names(kind, name, tmp_path):
    data = json.dumps(ROWS[kind]).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert len(imported(kind, tmp_path).splits["train"]) == 1


@pytest.mark.parametrize("kind", ["uima", "coco"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.decode().encode("utf-16"), "is UTF-16; expected UTF-8"),
        (lambda data: data + b"\n" + data, "is JSON Lines, or objects one after another; expected one JSON value"),
        (lambda data: b"\x1f\x8bjunk", "is gzipped and damaged"),
    ],
)
def test_one_value_in_another_form_is_named(kind, change, message, tmp_path):
    (tmp_path / "a.json").write_bytes(change(json.dumps(FILES[kind][1]).encode()))
    with pytest.raises(UserError, match=message):
        imported(kind, tmp_path / "a.json")


@pytest.mark.parametrize("kind", ["uima", "coco"])
def test_one_value_may_be_gzipped(kind, tmp_path):
    (tmp_path / "a.json").write_bytes(gzip.compress(json.dumps(FILES[kind][1]).encode()))
    assert len(imported(kind, tmp_path / "a.json").splits["train"]) == 1


def test_numbers_that_are_none_hide_no_document(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([DOCCANO | {"score": float("nan")}]))
    assert len(imported("doccano", tmp_path / "a.json").splits["train"]) == 1


# --- links that lead nowhere ------------------------------------------------------------------------------------------

LINKS: dict[str, tuple[str, Any]] = {
    "label-studio": ("a.json", [TASK]),
    "doccano": ("a.jsonl", [DOCCANO]),
    "prodigy": (
        "a.jsonl",
        [PRODIGY | {"relations": [{"head_span": SPAN, "child_span": {"start": 4, "end": 7}, "label": "met"}]}],
    ),
    "uima": ("a.json", CAS),
    "mnre": ("a.json", [PAIR | {"t": {"name": "Bo", "pos": [2, 9]}}]),
}


@pytest.mark.parametrize("kind", LINKS)
def test_a_relation_whose_end_is_nowhere_is_counted(kind, tmp_path):
    found = imported(kind, written(tmp_path, *LINKS[kind]))
    assert ("relation", "one of its ends is not a mention") in [(one.what, one.why) for one in found.left_out]


CHAIN = {"%ID": 5, "%TYPE": "x.CoreferenceChain", "@first": 6}
LINK = {"%ID": 6, "%TYPE": "x.CoreferenceLink", "begin": 0, "end": 3, "@next": 7}


@pytest.mark.parametrize("link", [[], [LINK], [LINK, {"%ID": 7, "%TYPE": "x.CoreferenceLink", "begin": 9, "end": 99}]])
def test_a_link_of_a_chain_that_is_nowhere_is_counted(link, tmp_path):
    things = [*CAS["%FEATURE_STRUCTURES"][:2], CHAIN, *link]
    found = imported("uima", written(tmp_path, "a.json", CAS | {"%FEATURE_STRUCTURES": things}))
    assert ("link of mentions", "one of its ends is not a mention") in [(one.what, one.why) for one in found.left_out]


@pytest.mark.parametrize("odd", [3, "met", ["met"]])
@pytest.mark.parametrize(
    ("kind", "name", "row", "part"),
    [("doccano", "a.jsonl", DOCCANO, "relations"), ("prodigy", "a.jsonl", PRODIGY, "spans")],
)
def test_what_is_no_object_among_objects_is_counted(kind, name, row, part, odd, tmp_path):
    found = imported(kind, written(tmp_path, name, [row | {part: [odd]}]))
    assert (f"key '{part}'", "it is not an object") in [(one.what, one.why) for one in found.left_out]


# --- the mechanism ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", [None, "", 0, False, [], {}])
def test_a_key_that_says_nothing_is_not_counted(nothing):
    notes = Imported(LabelSet())
    note_unread({"a": nothing}, keys(""), "$", notes)
    assert notes.details == []


def test_the_names_of_keys_without_end_share_a_line():
    found = list(reasons("skipped", [LeftOut(f"key 'k{i}'", "why", "where") for i in range(1000)]))
    assert (len(found), found[0][:30]) == (41, "skipped: 960 other keys: why (")


# --- other formats ----------------------------------------------------------------------------------------------------


def row(number: int, word: str, misc: str) -> str:
    return "\t".join([str(number), word, *"_______", misc])


def test_what_rows_of_corefud_say_beyond_entities_is_counted(tmp_path):
    rows = [row(1, "Ada", "Entity=(e1-person-1-)|Bridge=e1<e2"), row(2, "ran", "Entity=e7|Gloss=run")]
    (tmp_path / "a.conllu").write_text("# newdoc id = d\n# genre = news\n" + "\n".join(rows) + "\n\n")
    found = imported("corefud", tmp_path / "a.conllu")
    assert {one.what for one in found.details} == {"key 'genre'", "key 'Bridge'", "key 'Gloss'"}
    assert ("mention", "its bracket cannot be parsed") in [(one.what, one.why) for one in found.left_out]


def test_columns_of_conll_that_are_not_read_are_counted(tmp_path):
    (tmp_path / "a.conll").write_text("Ada NNP B-NP B-PER\nran VBD B-VP O\n")
    details = imported("conll", tmp_path / "a.conll").details
    assert [(one.what, one.where) for one in details] == [("columns beside token and tag", "a.conll:1: 2")]


POSE = "0 0.5 0.5 0.4 0.4 0.4 0.4 2 0.6 0.6 0"


def test_a_pose_of_yolo_is_its_box_and_its_keypoints_are_counted():
    notes = Imported(LabelSet())
    ((_, region),) = parse_yolo(POSE, 0, names=("PER",), where="a.txt", notes=notes, cover=True)
    assert (region.box, [one.what for one in notes.details]) == (Box(0.3, 0.3, 0.7, 0.7), ["keypoints of a region"])


@pytest.mark.parametrize("line", ["0 0 0 1 0 1 1 0 1 0 0", "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2 0.15 0.15"])
def test_a_polygon_of_five_corners_is_no_pose(line):
    notes = Imported(LabelSet())
    ((_, region),) = parse_yolo(line, 0, names=("PER",), where="a.txt", notes=notes, cover=True)
    assert (region.box.has_area, notes.details) == (True, [])


# --- turned boxes -----------------------------------------------------------------------------------------------------

TURNED = {
    "coco": ("a.json", COCO | {"annotations": [COCO["annotations"][0] | {"attributes": {"rotation": 30.0}}]}),
    "voc": (
        "a.xml",
        VOC.replace(
            "</object>",
            "<attributes><attribute><name>rotation</name><value>30.0</value></attribute></attributes></object>",
        ),
    ),
    "cvat": ("a.xml", CVAT.replace("<box ", '<box rotation="30" ')),
}


@pytest.mark.parametrize("kind", TURNED)
def test_a_box_that_is_turned_is_none(kind, tmp_path):
    found = imported(kind, written(tmp_path, *TURNED[kind]))
    assert ("region", "it is rotated: not an upright box") in [(one.what, one.why) for one in found.left_out]
    assert [frame.annotated for frame in found.splits["train"][0].document.frames] == [False]


# --- files and splits -------------------------------------------------------------------------------------------------


def test_a_file_that_may_hold_annotations_and_is_not_read_is_counted(tmp_path):
    for name in ("README.md", "b.csv", "c.json.zip"):
        (tmp_path / name).write_text("x")
    found = imported("doccano", written(tmp_path, "train.jsonl", DOCCANO).parent)
    assert [one.where for one in found.left_out if one.what == "file"] == ["b.csv", "c.json.zip"]


def test_a_link_that_leads_nowhere_is_counted(tmp_path):
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "gone")
    found = imported("doccano", written(tmp_path, "a.jsonl", DOCCANO).parent)
    assert ("file", "it is a link that leads nowhere") in [(one.what, one.why) for one in found.left_out]


def test_a_file_of_no_split_beside_splits_is_named(tmp_path):
    for name in ("validation.jsonl", "holdout.jsonl"):
        written(tmp_path, name, DOCCANO)
    found = imported("doccano", tmp_path)
    assert (sorted(found.splits), [one.where for one in found.remarks]) == (["dev", "train"], ["holdout.jsonl"])


def test_lists_of_images_are_splits_by_any_of_their_names(tmp_path):
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "Validation.txt").write_text("a\n")
    for name in ("a", "b"):
        written(tmp_path, f"{name}.xml", VOC)
    found = imported("voc", tmp_path)
    assert (sorted(found.splits), [one.where for one in found.remarks]) == (["dev", "train"], ["b.xml"])


def test_the_subset_of_cvat_is_the_split(tmp_path):
    found = imported("cvat", written(tmp_path, "a.xml", CVAT.replace("<image ", '<image subset="Validation" ')))
    assert list(found.splits) == ["dev"]
