"""YOLO datasets in the layouts of Ultralytics and Darknet."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3dllm.corpora.yolo_dataset import read_yolo_dataset
from m3dllm.errors import UserError
from m3dllm.types import Box
from tests.corpora.tools import counts, reasons
from tests.small import png

LINE = "1 0.5 0.5 0.25 0.5\n"


def put(folder: Path, **files: str | bytes) -> Path:
    """Files by path, written `images__train__a.png` for images/train/a.png."""
    for name, content in files.items():
        file = folder / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def test_boxes_stand_in_labels_for_images_and_names_in_yaml(tmp_path):
    files = {"data.yaml": "names: [cat, dog]\n", "images__val__a.png": png(), "labels__val__a.txt": LINE}
    imported = read_yolo_dataset(put(tmp_path, **files, images__train__b__png=b"no image"))
    (example,) = imported.splits["dev"]
    assert (example.document.id, [(r.type, r.box) for r in example.gold.regions]) == (
        "val/a",
        [("dog", Box(0.375, 0.25, 0.625, 0.75))],
    )


def test_boxes_may_stand_beside_images_and_an_image_without_any_shows_nothing(tmp_path):
    files = {"obj.names": "cat\ndog\n", "obj_train_data__a.png": png(), "obj_train_data__b.png": png()}
    imported = read_yolo_dataset(put(tmp_path, **files, **{"obj_train_data__a.txt": LINE}))
    assert [len(e.gold.regions) for e in imported.splits["train"]] == [1, 0]
    assert all(e.document.frames[0].annotated for e in imported.splits["train"])


def test_the_images_of_a_folder_are_a_clip_on_request(tmp_path):
    files = {"classes.txt": "a\nb\n", "film__24.png": png(), "film__48.png": png(), "film__48.txt": LINE}
    (film,) = read_yolo_dataset(put(tmp_path, **files), clips=True).splits["train"]
    assert (film.document.id, [f.index for f in film.document.frames], film.gold.regions[0].frame) == (
        "film",
        [24, 48],
        48,
    )


def test_the_words_of_the_layout_and_suffixes_may_stand_in_any_case(tmp_path):
    files = {"classes.txt": "a\nb\n", "Train__Images__a.PNG": png(), "Train__Labels__a.TXT": LINE}
    (example,) = read_yolo_dataset(put(tmp_path, **files)).splits["train"]
    assert len(example.gold.regions) == 1


def test_linked_folders_are_looked_through(tmp_path):
    files = {"classes.txt": "a\nb\n", "data__images__a.png": png(), "data__labels__a.txt": LINE}
    put(tmp_path / "here", **{name.replace("data__", ""): file for name, file in files.items()})
    put(tmp_path / "there", **{"x.png": png(), "x.txt": LINE})
    (tmp_path / "here/images/more").symlink_to(tmp_path / "there")
    imported = read_yolo_dataset(tmp_path / "here")
    assert {e.document.id: len(e.gold.regions) for e in imported.splits["train"]} == {"a": 1, "more/x": 1}


def test_images_of_a_folder_without_any_boxes_are_not_annotated(tmp_path):
    files = {"classes.txt": "a\nb\n", "images__train__a.png": png(), "labels__train__a.txt": LINE}
    imported = read_yolo_dataset(put(tmp_path, **files, images__train__b__png=png(), **{"images__test__c.png": png()}))
    assert [e.document.frames[0].annotated for e in imported.splits["test"]] == [False]
    why = "it has no box file: no image of its folder has one, and it is not annotated"
    assert [one.why for one in imported.remarks] == [why]


def test_each_folder_has_its_own_names_of_classes(tmp_path):
    files = {"a__classes.txt": "cat\ndog\n", "b__classes.txt": "dog\ncat\n"}
    boxes = {f"{part}__{part}.{end}": png() if end == "png" else LINE for part in "ab" for end in ("png", "txt")}
    imported = read_yolo_dataset(put(tmp_path, **files, **boxes))
    assert [e.gold.regions[0].type for e in imported.splits["train"]] == ["dog", "cat"]


def test_names_that_two_files_of_a_folder_tell_otherwise_are_counted(tmp_path):
    files = {"classes.txt": "cat\ndog\n", "data.yaml": "names: [dog, cat]\n", "a.png": png(), "a.txt": LINE}
    imported = read_yolo_dataset(put(tmp_path, **files))
    assert imported.splits["train"][0].gold.regions[0].type == "dog"
    assert reasons(imported) == [("file", "another file in its folder has other class names and is used")]


@pytest.mark.parametrize(
    "said",
    [
        {"data.yaml": "path: ../set\ntrain:\n  - images/a # the first\nval: images/c\nnames: [x, y]\n"},
        {"data.yaml": "train: [./images/a]\nval: '../images/c'\nnames: [x, y]\n"},
        {"data.yaml": "train: t.txt\nval: data/v.txt\nnames: [x, y]\n"},
        {"obj.data": "classes=2\ntrain = t.txt\nvalid=v.txt", "obj.names": "x\ny"},
    ],
)
def test_settings_tell_the_split_of_folders_and_lists(tmp_path, said):
    put(tmp_path, **{"t.txt": "/elsewhere/images/a/1.png", "v.txt": "./images/c/2.png\r\n"})
    files = {"images__a__1.png": png(), "labels__a__1.txt": LINE, "images__c__2.png": png(), "labels__c__2.txt": LINE}
    imported = read_yolo_dataset(put(tmp_path, **said, **files))
    assert counts(imported) == {"train": (1, 0, 0, 0, 1, 1), "dev": (1, 0, 0, 0, 1, 1)}


def test_an_image_of_two_splits_is_of_the_first(tmp_path):
    files = {"data.yaml": "train: images\nval: images\nnames: [x, y]\n", "images__1.png": png(), "labels__1.txt": LINE}
    imported = read_yolo_dataset(put(tmp_path, **files))
    assert list(imported.splits) == ["train"]
    assert [one.why for one in imported.remarks] == ["lists of several splits have it: it is of the first"]


def test_keypoints_of_two_numbers_are_no_outline(tmp_path):
    line = "0 0.5 0.5 0.25 0.5 0.45 0.45 0.7 0.9\n"
    files = {"data.yaml": "names: [x]\nkpt_shape: [2, 2]\n", "a.png": png(), "a.txt": line}
    imported = read_yolo_dataset(put(tmp_path, **files), shapes="cover")
    assert imported.splits["train"][0].gold.regions[0].box == Box(0.375, 0.25, 0.625, 0.75)


def test_boxes_without_an_image_are_counted(tmp_path):
    files = {"classes.txt": "a\nb\n", "images__a.png": png(), "labels__a.txt": LINE, "labels__b.txt": LINE}
    assert reasons(read_yolo_dataset(put(tmp_path, **files))) == [("box file", "there is no image for it")]


def test_a_folder_without_boxes_is_named(tmp_path):
    with pytest.raises(UserError, match="has no text file of boxes"):
        read_yolo_dataset(put(tmp_path, **{"images__a.png": png()}))
    with pytest.raises(UserError, match="is not a folder"):
        read_yolo_dataset(tmp_path / "images/a.png")


@pytest.mark.parametrize("name", ["yolo", "yolov8_detection", "yolov8_detection_with_subset_txt"])
def test_the_layouts_of_datumaro(shared_data, name):
    folder = shared_data / "cvat_datumaro_assets/tests/assets/yolo_dataset" / name
    imported = read_yolo_dataset(folder)
    assert counts(imported) == {"train": (1, 0, 0, 0, 2, 1)}
    assert sorted(r.type for r in imported.splits["train"][0].gold.regions) == ["label_2", "label_4"]


def test_outlines_are_covered_on_request(shared_data):
    folder = shared_data / "cvat_datumaro_assets/tests/assets/yolo_dataset/yolov8_segmentation"
    assert counts(read_yolo_dataset(folder, shapes="cover")) == {"train": (1, 0, 0, 0, 2, 1)}
    assert len(read_yolo_dataset(folder).left_out) == 2


def test_the_exports_of_label_studio(shared_data):
    data = shared_data / "label_studio/tests/custom/converter/data"
    assert counts(read_yolo_dataset(data / "test_import_yolo_data"))["train"][0] == 7
    assert counts(read_yolo_dataset(data / "test_import_yolo_data_unif_dims"))["train"][0] == 5
