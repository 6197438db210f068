"""LabelMe files as documents: a JSON file an image."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from m3dllm.corpora.labelme import read_labelme
from m3dllm.corpora.native import load_corpus, write_corpus
from m3dllm.errors import UserError
from m3dllm.types import Box
from tests.corpora.tools import changes, reasons
from tests.small import png

CAT = {"label": "cat", "points": [[30, 40], [10, 20]], "shape_type": "rectangle"}
ROUND = {"label": "ball", "points": [[50, 50], [50, 60]], "shape_type": "circle"}


def labelme(*shapes, image: bytes | None = None, path: str = "cat.png", **keys) -> str:
    size = {"imageWidth": 100, "imageHeight": 100}
    data = base64.b64encode(image).decode() if image else None
    return json.dumps({"version": "5.1.1", "shapes": shapes, "imagePath": path, "imageData": data} | size | keys)


def test_an_image_is_a_document_with_its_boxes(tmp_path):
    (tmp_path / "cat.png").write_bytes(png(100, 100))
    (tmp_path / "cat.json").write_text(labelme(CAT), encoding="utf-8")
    imported = read_labelme(tmp_path)
    (example,) = imported.splits["train"]
    assert (example.document.id, example.document.text, example.document.frames[0].annotated) == ("cat", "", True)
    assert [(r.type, r.box, r.chain) for r in example.gold.regions] == [("cat", Box(0.1, 0.2, 0.3, 0.4), None)]
    assert example.unannotated == {"entity", "chain", "relation"}
    assert imported.images == {"frames/cat/0.png": tmp_path / "cat.png"}
    assert imported.left_out == []


def test_a_renamed_file_has_the_image_of_its_own_name(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / f"{name}.png").write_bytes(png(100, 100))
    (tmp_path / "dog.json").write_text(labelme(CAT), encoding="utf-8")
    imported = read_labelme(tmp_path)
    assert imported.images == {"frames/dog/0.png": tmp_path / "dog.png"}
    assert [one.where for one in imported.remarks] == ["dog.json: cat.png"]


def test_shapes_of_old_files_which_do_not_say_their_kind_are_polygons(tmp_path):
    shape = {"label": "cat", "points": [[10, 20], [30, 20], [30, 40], [5, 50]]}
    (tmp_path / "cat.json").write_text(labelme(shape), encoding="utf-8")
    assert reasons(read_labelme(tmp_path))[0] == ("region", "its shape is not a rectangle")
    (example,) = read_labelme(tmp_path, shapes="cover").splits["train"]
    assert example.gold.regions[0].box == Box(0.05, 0.2, 0.3, 0.5)


def test_the_image_inside_a_file_is_its_frame_where_there_is_none_beside_it(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "cat.json").write_text(labelme(CAT, image=png(100, 100)), encoding="utf-8")
    imported = read_labelme(tmp_path / "in" / "cat.json")
    write_corpus(tmp_path / "corpus", imported)
    (example,) = load_corpus(tmp_path / "corpus")["train"]
    assert Path(example.document.frames[0].path).read_bytes() == png(100, 100)
    assert changes(imported) == []


def test_without_any_image_a_grey_one_of_its_size_stands_for_it(tmp_path):
    (tmp_path / "cat.json").write_text(labelme(CAT), encoding="utf-8")
    imported = read_labelme(tmp_path)
    assert imported.splits["train"][0].gold.regions[0].box == Box(0.1, 0.2, 0.3, 0.4)
    assert changes(imported) == [("image", "its file is missing: replaced by a grey image of its size")]


@pytest.mark.parametrize(("shapes", "types"), [("boxes", ["cat"]), ("cover", ["cat", "ball"])])
def test_other_shapes_are_skipped_or_covered(tmp_path, shapes, types):
    (tmp_path / "cat.json").write_text(labelme(CAT, ROUND), encoding="utf-8")
    imported = read_labelme(tmp_path, shapes=shapes)
    assert [r.type for r in imported.splits["train"][0].gold.regions] == types
    assert (("region", "its shape is not a rectangle") in reasons(imported)) == (shapes == "boxes")


def test_an_image_of_which_nothing_that_is_drawn_can_be_used_is_not_annotated(tmp_path):
    (tmp_path / "a.json").write_text(labelme(ROUND), encoding="utf-8")
    (tmp_path / "b.json").write_text(labelme(), encoding="utf-8")
    spoilt, empty = read_labelme(tmp_path).splits["train"]
    assert (spoilt.document.frames[0].annotated, empty.document.frames[0].annotated) == (False, True)


def test_what_is_no_labelme_file_is_named(tmp_path):
    (tmp_path / "a.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match="it is not a LabelMe file: it has no list of shapes"):
        read_labelme(tmp_path / "a.json")
    (tmp_path / "b.json").write_text(labelme(CAT), encoding="utf-8")
    assert ("file", "it is not a LabelMe file") in reasons(read_labelme(tmp_path))


def test_folders_name_the_splits_and_what_is_not_used_is_counted(tmp_path):
    for name in ("train", "val"):
        (tmp_path / name).mkdir()
        shape = CAT | {"group_id": 3, "flags": {"hidden": True}}
        (tmp_path / name / f"{name}.json").write_text(labelme(shape), encoding="utf-8")
    imported = read_labelme(tmp_path)
    assert sorted(imported.splits) == ["dev", "train"]
    assert {one.what for one in imported.details} == {"key 'group_id'", "key 'hidden'"}
