"""COCO files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m3dllm.corpora.coco import read_coco
from m3dllm.corpora.imported import Imported
from m3dllm.errors import UserError
from m3dllm.types import Box
from tests.corpora.tools import changes, counts, reasons
from tests.small import png

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 5, "name": ""}]


def image(number: int, name: str, **more) -> dict:
    return {"id": number, "file_name": name, "width": 100, "height": 50, **more}


def box(number: int, *bbox: float, category: int = 3, **more) -> dict:
    return {"id": 1, "image_id": number, "category_id": category, "bbox": list(bbox), "iscrowd": 0, **more}


def read(folder: Path, images: list, annotations: list, **options) -> Imported:
    value = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / "instances_val.json").write_text(json.dumps(value), encoding="utf-8")
    return read_coco(folder / "instances_val.json", **options)


@pytest.mark.parametrize(
    "annotations", [None, {"1": box(1, 1, 1, 5, 5)}, [{"id": 1, "image_id": 1, "caption": "a cat"}]]
)
def test_a_file_that_says_nothing_of_boxes_has_no_frame_that_is_annotated_and_empty(tmp_path, annotations):
    value = {"images": [image(1, "a.png")], "categories": CATEGORIES, "annotations": annotations}
    (tmp_path / "a.json").write_text(json.dumps({k: v for k, v in value.items() if v is not None}))
    imported = read_coco(tmp_path / "a.json")
    assert not imported.splits["train"][0].document.frames[0].annotated
    assert [remark.why for remark in imported.remarks] == [
        "it does not mention boxes: its frames are treated as not annotated"
    ]


def test_images_without_any_annotation_are_those_of_a_test_set_and_not_annotated(tmp_path):
    (both,) = read(tmp_path, [image(1, "a.png"), image(2, "b.png")], []).splits.values()
    (alone,) = read(tmp_path, [image(1, "a.png")], []).splits.values()
    assert [e.document.frames[0].annotated for e in (*both, *alone)] == [False, False, True]


def test_images_of_one_name_are_documents_each(tmp_path):
    (tmp_path / "a.png").write_bytes(png(100, 50))
    images = [image(1, "a.jpg"), image(2, "a.png"), image(3, "a.png")]
    imported = read(tmp_path, images, [box(n, 10 * n, 10, 20, 30) for n in (1, 2, 3)])
    found = [(e.document.id, [r.box.x0 for r in e.gold.regions]) for e in imported.splits["dev"]]
    assert found == [("a", [0.1]), ("instances_val-1", [0.2]), ("instances_val-2", [0.3])]
    assert ("document", "its id is a duplicate: renamed") in changes(imported)


def test_the_size_of_an_image_may_be_text(tmp_path):
    imported = read(tmp_path, [image(1, "a.png") | {"width": "100", "height": "50"}], [box(1, 10, 10, 20, 30)])
    assert imported.splits["dev"][0].gold.regions[0].box == Box(0.1, 0.2, 0.3, 0.8)


def test_boxes_in_fractions_are_no_boxes_in_pixels(tmp_path):
    imported = read(tmp_path, [image(1, "a.png")], [box(1, 0.1, 0.1, 0.2, 1), box(1, 0, 0, 1, 1)])
    assert reasons(imported) == [("region", "its numbers are fractions of the image, not pixels")]


def test_an_image_is_a_document_and_boxes_are_pixels(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(png(100, 50))
    imported = read(tmp_path, [image(1, "a.png"), image(2, "b.png")], [box(1, 10, 10, 20, 30)])
    first, second = imported.splits["dev"]
    assert [(r.type, r.box) for r in first.gold.regions] == [("cat", Box(0.1, 0.2, 0.3, 0.8))]
    assert (second.gold.regions, second.document.frames[0].annotated) == ((), True)
    assert imported.images["frames/a/0.png"] == tmp_path / "images/a.png"
    assert changes(imported) == [("image", "its file is missing: replaced by a grey image of its size")]


def test_the_images_of_a_folder_are_the_frames_of_a_clip_on_request(tmp_path):
    images = [image(1, "film/frame_0024.jpg"), image(2, "film/frame_0048.jpg"), image(3, "film/cover.jpg")]
    imported = read(tmp_path, images, [box(2, 0, 0, 50, 50)], clips=True)
    (film,) = imported.splits["dev"]
    assert (film.document.id, [f.index for f in film.document.frames]) == ("film", [24, 48])
    assert film.gold.regions[0].frame == 48
    assert ("frame", "its name has no frame number") in reasons(imported)


@pytest.mark.parametrize(("one", "other"), [(1, "1"), ("1", 1), (1.0, "1"), ("x", "x")])
def test_an_id_may_be_a_number_here_and_text_there(tmp_path, one, other):
    imported = read(tmp_path, [image(one, "a.jpg")], [box(other, 10, 10, 20, 30, category="3")])
    assert counts(imported)["dev"] == (1, 0, 0, 0, 1, 1)


def test_boxes_of_an_id_that_several_images_or_none_have_are_nobody_s(tmp_path):
    images = [image(1, "a.jpg"), image(1, "b.jpg"), {"file_name": "c.jpg", "width": 9, "height": 9}, image(2, "d.jpg")]
    imported = read(tmp_path, images, [box(1, 0, 0, 9, 9), box(None, 0, 0, 9, 9), box(2, 0, 0, 9, 9)])
    assert [(len(e.gold.regions), e.document.frames[0].annotated) for e in imported.splits["dev"]] == [
        (0, False),
        (0, False),
        (0, True),
        (1, True),
    ]
    assert {"several images have the id of its image", "its image is missing"} == {why for _, why in reasons(imported)}


def test_regions_of_a_category_with_two_names_have_no_type(tmp_path):
    value = {"images": [image(1, "a.jpg"), image(2, "b.jpg")], "annotations": [box(1, 0, 0, 9, 9), box(2, 0, 0, 9, 9)]}
    value["annotations"][1]["category_id"] = 4
    names = [*CATEGORIES, {"id": 3, "name": "dog"}, {"id": 4, "name": "cat"}]
    (tmp_path / "val.json").write_text(json.dumps(value | {"categories": names}))
    first, second = read_coco(tmp_path / "val.json").splits["dev"]
    assert (first.gold.regions, first.document.frames[0].annotated, len(second.gold.regions)) == ((), False, 1)


def test_what_is_no_box_is_counted(tmp_path):
    wrong = [box(1, 1, 1, 5), box(9, 1, 1, 5, 5), box(1, 1, 1, 5, 5, category=5), box(1, 1, 1, 5, 5, category=7)]
    wrong += [box(1, 1, 1, 5, 5, iscrowd=1), {"image_id": 1, "caption": "a cat"}, box(1, 1, 1, 0, 5)]
    imported = read(tmp_path, [image(1, "a.jpg")], [*wrong, box(1, 0, 0, 9, 9, segmentation=[[1, 2]])])
    assert sorted(why for what, why in reasons(imported) if what != "image") == [
        "a corpus cannot represent captions",
        "it has no bbox of four numbers",
        "it is a crowd, not a single object",
        "its box has no area",
        "its category has no name",
        "its category has no name",
        "its image is missing",
    ]
    assert ("region", "its outline or keypoints were skipped: its box is kept") in changes(imported)


@pytest.mark.parametrize("text", ["[]", "{}", '{"images": 3}', "{", '{"images": [{"id": 1}]}'])
def test_what_is_no_coco_is_named(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"x\.json"):
        read_coco(tmp_path / "x.json")


def test_the_sets_of_datumaro_and_label_studio(shared_data):
    found = read_coco(shared_data / "cvat_datumaro_assets/tests/assets/coco_dataset/coco_instances")
    assert counts(found) == {"train": (1, 0, 0, 0, 1, 1), "dev": (1, 0, 0, 0, 1, 1)}
    assert ("region", "it is a crowd, not a single object") in reasons(found)
    studio = shared_data / "label_studio/tests/custom/converter/data/test_import_coco/coco_import_input.json"
    assert counts(read_coco(studio)) == {"train": (2, 0, 0, 0, 0, 2)}  # both annotations are crowds
