"""Label Studio exports: spans, links, rectangles on images and in videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.label_studio import read_label_studio
from m3dllm.errors import UserError
from m3dllm.types import TASKS, Box
from tests.corpora.tools import changes, counts, facts, reasons, words
from tests.small import png


def span(name: str, start: int, end: int, kind: str, text: str | None = None) -> dict:
    said = {} if text is None else {"text": text}
    return {
        "id": name,
        "type": "labels",
        "to_name": "text",
        "value": {"start": start, "end": end, "labels": [kind], **said},
    }


def link(head: str, tail: str, *labels: str, **more) -> dict:
    return {"type": "relation", "from_id": head, "to_id": tail, "labels": list(labels), **more}


def rectangle(x: float, y: float, width: float, height: float, kind: str = "PER", **more) -> dict:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": more.pop("rotation", 0)}
    sizes = {"original_width": 100, "original_height": 50, "to_name": "image", "id": "r"}
    return {"type": "rectanglelabels", "value": value | {"rectanglelabels": [kind]}, **sizes, **more}


def task(data: dict, *results: dict, **more) -> dict:
    return {"id": 1, "data": data, "annotations": [{"id": 2, "result": list(results), **more}]}


def read(folder: Path, *tasks: Any, **options) -> Imported:
    (folder / "export.json").write_text(json.dumps(tasks), encoding="utf-8")
    return read_label_studio(folder / "export.json", **options)


TEXT = {"text": "Ada was born in Arles . She wrote ."}
ADA, ARLES, SHE = span("a", 0, 3, "PER", "Ada"), span("b", 16, 21, "LOC", "Arles"), span("c", 24, 27, "PER", "She")


def test_spans_become_chains_and_relations(tmp_path):
    one = task(TEXT, ADA, ARLES, SHE, link("a", "c", "coreference"), link("c", "b", "born"))
    (example,) = read(tmp_path, one).splits["train"]
    assert words(example) == [("PER", ["Ada", "She"]), ("LOC", ["Arles"])]
    assert facts(example) == [("Ada", "born", "Arles")]
    assert example.unannotated == frozenset()


def test_a_relation_to_the_left_begins_at_its_other_end(tmp_path):
    (example,) = read(tmp_path, task(TEXT, ADA, ARLES, link("b", "a", "born", direction="left"))).splits["train"]
    assert facts(example) == [("Ada", "born", "Arles")]


def test_a_relation_both_ways_is_read_one_way_and_counted(tmp_path):
    imported = read(tmp_path, task(TEXT, ADA, ARLES, link("a", "b", "born", direction="bi")))
    assert facts(imported.splits["train"][0]) == [("Ada", "born", "Arles")]
    assert changes(imported) == [("relation", "it is bidirectional: read from its first end to its second")]


def test_what_no_task_has_is_not_annotated_and_what_another_task_has_is_empty(tmp_path):
    tasks = [task(TEXT, ADA, ARLES, link("a", "b", "born")), task(TEXT, ADA), task(TEXT)]
    found = read(tmp_path, *tasks).splits["train"]
    assert [example.unannotated for example in found] == [{"chain"}] * 3
    assert read(tmp_path, {"id": 1, "data": TEXT}).splits["train"][0].unannotated == set(TASKS)


def test_offsets_are_held_against_their_words(tmp_path):
    imported = read(tmp_path, task(TEXT, ADA, span("x", 1, 4, "PER", "Ada"), span("y", 30, 99, "PER", "wrote .")))
    assert reasons(imported) == [
        ("mention", "its text differs from the text at its offsets"),
        ("mention", "its offsets are outside the text"),
    ]


def test_offsets_in_utf16_units_are_found_out(tmp_path):
    text = {"text": "🎬 Ada met 🎬 Bo"}
    imported = read(tmp_path, task(text, span("a", 3, 6, "PER", "Ada"), span("b", 14, 16, "PER", "Bo")))
    assert words(imported.splits["train"][0]) == [("PER", ["Ada"]), ("PER", ["Bo"])]
    assert changes(imported) == [("document", "its offsets count UTF-16 units")]
    points = read(tmp_path, task(text, span("a", 2, 5, "PER", "Ada"), span("b", 12, 14, "PER", "Bo")))
    assert (words(points.splits["train"][0]), changes(points)) == (words(imported.splits["train"][0]), [])


def test_the_text_is_the_one_in_which_the_spans_stand(tmp_path):
    data = {"title": "About", "body": TEXT["text"]}
    (example,) = read(tmp_path, task(data, ADA, SHE)).splits["train"]
    assert example.document.text == TEXT["text"]


def test_rectangles_are_percents_of_the_image_and_may_show_a_mention(tmp_path):
    (tmp_path / "a.png").write_bytes(png(100, 50))
    data = TEXT | {"image": "/data/upload/3/a.png"}
    imported = read(tmp_path, task(data, ADA, rectangle(25, 50, 25, 25), link("r", "a", "shows")))
    (example,) = imported.splits["train"]
    assert [(r.box, r.type, r.chain) for r in example.gold.regions] == [(Box(0.25, 0.5, 0.5, 0.75), "PER", "c0")]
    assert imported.images == {"frames/1/0.png": tmp_path / "a.png"}
    assert imported.left_out == []


def test_turned_rectangles_and_other_results_are_counted(tmp_path):
    results = [
        rectangle(1, 1, 2, 2, rotation=30),
        {"id": "p", "type": "polygonlabels", "value": {}},
        rectangle(1, 1, 2, 2),
    ]
    imported = read(tmp_path, task({"image": "a.jpg"}, *results))
    assert [why for what, why in reasons(imported) if what in ("region", "result")] == [
        "a corpus cannot represent results of type 'polygonlabels'",
        "it is rotated: not an upright box",
    ]
    assert len(imported.splits["train"][0].gold.regions) == 1


def test_an_empty_label_is_no_type(tmp_path):
    imported = read(
        tmp_path, task(TEXT | {"image": "a.jpg"}, rectangle(1, 1, 2, 2, ""), span("a", 0, 3, "", "Ada"), SHE)
    )
    assert ("region", "it has no type") in reasons(imported)
    assert ("mention", "it has no type") in reasons(imported)


def test_frames_of_videos_count_from_one_there_and_from_nought_here(tmp_path):
    keys = [
        {"frame": 1, "x": 0, "y": 0, "width": 50, "height": 50, "enabled": True, "time": 0.04},
        {"frame": 25, "x": 50, "y": 0, "width": 50, "height": 50, "enabled": False, "time": 1.0},
    ]
    result = {"id": "v", "type": "videorectangle", "to_name": "video", "value": {"sequence": keys, "labels": ["PER"]}}
    (example,) = read(tmp_path, task({"video": "a.mp4"}, result), video_size="100x50").splits["train"]
    assert [(f.index, f.time_s, f.width_px) for f in example.document.frames] == [(0, 0.04, 100), (24, 1.0, 100)]
    assert [(r.frame, r.box.x0) for r in example.gold.regions] == [(0, 0.0), (24, 0.5)]
    with pytest.raises(UserError, match="pass --video-size"):
        read(tmp_path, task({"video": "a.mp4"}, result))
    with pytest.raises(UserError, match="--video-size 100: expected WIDTHxHEIGHT"):
        read(tmp_path, task({"video": "a.mp4"}, result), video_size="100")


def test_a_rectangle_and_its_labels_may_be_two_results(tmp_path):
    shape = rectangle(25, 50, 25, 25)
    bare = shape | {"type": "rectangle", "value": {k: v for k, v in shape["value"].items() if k != "rectanglelabels"}}
    labels = bare | {"type": "labels", "value": bare["value"] | {"labels": ["LOC"]}}
    imported = read(tmp_path, task(TEXT | {"image": "a.jpg"}, ADA, bare, labels))
    (example,) = imported.splits["train"]
    assert [(r.type, r.box) for r in example.gold.regions] == [("LOC", Box(0.25, 0.5, 0.5, 0.75))]
    assert (words(example), imported.left_out) == ([("PER", ["Ada"])], [])


@pytest.mark.parametrize(
    "sound", [{"original_length": 9.5, "value": {"start": 0, "end": 3, "labels": ["x"]}},
              {"value": {"start": 0, "end": 3, "channel": 0, "labels": ["x"]}},
              {"value": {"start": 0.5, "end": 3, "labels": ["x"]}}]
)  # fmt: skip
def test_labels_of_a_sound_are_no_mentions_of_a_text_beside(tmp_path, sound):
    imported = read(tmp_path, task(TEXT, {"id": "s", "type": "labels", "to_name": "audio", **sound}, ARLES))
    assert words(imported.splits["train"][0]) == [("LOC", ["Arles"])]
    assert ("result", "it is of a sound or a series") in reasons(imported)


def test_a_text_beside_a_sound_that_was_annotated_is_not(tmp_path):
    sound = {"type": "labels", "value": {"start": 0, "end": 3, "channel": 0, "labels": ["x"]}}
    assert "entity" in read(tmp_path, task(TEXT, sound)).splits["train"][0].unannotated


@pytest.mark.parametrize("text", [None, "Bo"])
def test_spans_of_another_text_of_the_task_are_no_mentions_of_this_one(tmp_path, text):
    other = span("t", 0, 2, "PER", text) | {"to_name": "title"}
    imported = read(tmp_path, task(TEXT | {"title": "Bo in Rome"}, other, ADA))
    assert words(imported.splits["train"][0]) == [("PER", ["Ada"])]
    assert reasons(imported) == [("mention", "it is of another text of its task")]


def test_what_is_said_of_a_rectangle_is_not_drawn(tmp_path):
    said = rectangle(25, 50, 25, 25) | {"type": "textarea"}
    imported = read(tmp_path, task({"image": "a.jpg"}, rectangle(25, 50, 25, 25), said))
    assert imported.splits["train"][0].document.frames[0].annotated
    assert [what for what, _ in changes(imported)] == ["image"]


@pytest.mark.parametrize(("rotation", "kept"), [(0, 1), (360, 1), (90, 0), (359.9, 0)])
def test_a_whole_turn_is_none(tmp_path, rotation, kept):
    imported = read(tmp_path, task({"image": "a.jpg"}, rectangle(1, 1, 2, 2, rotation=rotation)))
    assert len(imported.splits["train"][0].gold.regions) == kept


def film(name: str, *keyframes: tuple[int, float, bool], **more) -> dict:
    """A rectangle in a video: (frame, left edge, whether it is shown until the next one)."""
    keys = [{"frame": n, "x": x, "y": 0, "width": 10, "height": 10, "enabled": on, **more} for n, x, on in keyframes]
    sizes = {"original_width": 100, "original_height": 50}
    return {"id": name, "type": "videorectangle", "value": {"sequence": keys, "labels": [name]}, **sizes}


def test_a_frame_with_a_keyframe_of_one_thing_holds_all_others_that_are_shown(tmp_path):
    imported = read(
        tmp_path,
        task({"video": "a.mp4"}, film("A", (1, 0, True), (21, 20, False)), film("B", (11, 50, True), (31, 50, True))),
    )
    found = [(r.type, r.frame, round(r.box.x0, 3)) for r in imported.splits["train"][0].gold.regions]
    assert found == [("A", 0, 0.0), ("A", 10, 0.1), ("A", 20, 0.2), ("B", 10, 0.5), ("B", 20, 0.5), ("B", 30, 0.5)]
    why = "its frame is not a keyframe: placed where Label Studio shows it"
    assert [one for one in changes(imported) if one[0] == "region"] == [("region", why)] * 2


def test_a_frame_with_a_turned_keyframe_is_not_annotated(tmp_path):
    imported = read(tmp_path, task({"video": "a.mp4"}, film("A", (1, 0, False), rotation=10)))
    assert not imported.splits["train"][0].document.frames[0].annotated


def test_line_ends_count_as_browsers_count_them(tmp_path):
    imported = read(
        tmp_path,
        task(
            {"text": "Ada\r\nLovelace 😀\r\nmet Bo"},
            span("a", 0, 12, "PER", "Ada\\nLovelace"),
            span("b", 20, 22, "PER", "Bo"),
        ),
    )
    assert words(imported.splits["train"][0]) == [("PER", ["Ada\r\nLovelace"]), ("PER", ["Bo"])]
    assert changes(imported) == [("document", "its offsets count UTF-16 units and a line end as one character")]


def test_of_several_annotations_the_ground_truth_is_taken_and_cancelled_ones_never(tmp_path):
    one = task(TEXT, ADA)
    one["annotations"] += [{"result": [SHE], "ground_truth": True}, {"result": [ARLES], "was_cancelled": True}]
    imported = read(tmp_path, one)
    assert words(imported.splits["train"][0]) == [("PER", ["She"])]
    assert reasons(imported) == [
        ("annotation", "it was cancelled"),
        ("annotation", "another annotation of its task is used"),
    ]


def test_pre_annotations_are_imported_on_request_or_where_there_is_nothing_else(tmp_path):
    one = task(TEXT, ADA) | {"predictions": [{"result": [ARLES]}]}
    assert words(read(tmp_path, one, predictions=True).splits["train"][0]) == [("LOC", ["Arles"])]
    imported = read(tmp_path, one | {"annotations": []})
    assert words(imported.splits["train"][0]) == [("LOC", ["Arles"])]
    assert changes(imported) == [("document", "it has no annotation: its pre-annotations were used")]


@pytest.mark.parametrize("left", [[], [{"result": [ADA], "was_cancelled": True}]])
def test_pre_annotations_of_a_task_that_nobody_annotated_are_no_gold(tmp_path, left):
    skipped = task(TEXT) | {"annotations": left, "predictions": [{"result": [ARLES]}]}
    _, example = read(tmp_path, task(TEXT, ADA), skipped).splits["train"]
    assert (words(example), example.unannotated) == ([], frozenset(TASKS))


@pytest.mark.parametrize("text", ["{", "{}", "[]", "[1]", '[{"id": 1, "text": "Ada"}]', '[{"data": {}}]'])
def test_what_is_no_export_is_named(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"x\.json"):
        read_label_studio(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("name", "found", "left_out"),
    [
        # one rectangle, a polygon, two keypoints
        (
            "test_export_coco/data.json",
            (1, 0, 0, 0, 1, 1),
            {"a corpus cannot represent results of type 'polygonlabels'": 1},
        ),
        # two tasks with three rectangles
        ("test_export_csv/csv_test.json", (2, 0, 0, 0, 3, 2), {}),
        # two tasks; the second annotation of the first is not taken
        ("test_export_yolo/data.json", (2, 0, 0, 0, 4, 2), {"another annotation of its task is used": 1}),
        # 25 turned rectangles
        ("test_export_yolo/data_obb.json", (3, 0, 0, 0, 0, 3), {"it is rotated: not an upright box": 25}),
        # a rectangle and keypoints, with five relations between them
        ("test_export_yolo/data_keypoints.json", (1, 0, 0, 0, 1, 1), {"one of its ends is a region": 5}),
    ],
)
def test_the_exports_of_its_sdk(shared_data, name, found, left_out):
    imported = read_label_studio(shared_data / "label_studio/tests/custom/converter/data" / name)
    (held,) = counts(imported).values()
    whys = [why for _, why in reasons(imported)]
    assert held == found
    assert {why: whys.count(why) for why in left_out} == left_out
