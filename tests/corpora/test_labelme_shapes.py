"""LabelMe files: rectangles with corners in any order, and everything else named."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.labelme_shapes import parse_labelme
from m3dllm.labels import LabelSet
from m3dllm.types import Box, Region
from tests.corpora.mutations import mutated
from tests.small import png

RECTANGLE = {"label": "Person", "points": [[10, 10], [30, 40]], "shape_type": "rectangle"}
FILE = {
    "version": "5.1.1",
    "flags": {},
    "shapes": [RECTANGLE, {"label": "组织", "points": [[64, 48], [32, 0]], "shape_type": "rectangle"}],
    "imagePath": "00000345.png",
    "imageData": base64.b64encode(png()).decode(),
    "imageWidth": 64,
    "imageHeight": 48,
}


def regions(*shapes, size=(100, 50)) -> tuple[list[Region], Imported]:
    notes = Imported(LabelSet())
    found = parse_labelme(json.dumps({"shapes": shapes}).encode()).regions(345, size=size, where="f.json", notes=notes)
    return [region for _, region in found], notes


def test_corners_in_fractions_are_no_pixels():
    found, notes = regions(RECTANGLE | {"points": [[0.1, 0.1], [0.3, 0.4]]})
    assert (found, [left.why for left in notes.left_out]) == (
        [],
        ["its numbers are fractions of the image, not pixels"],
    )


def test_a_rectangle_becomes_fractions_of_the_frame():
    found, notes = regions(RECTANGLE)
    assert found == [Region(345, Box(0.1, 0.2, 0.3, 0.8), "Person")]
    assert notes.left_out == []


@pytest.mark.parametrize("points", [[[10, 10], [30, 40]], [[30, 40], [10, 10]], [[10, 40], [30, 10]]])
def test_corners_may_stand_in_any_order(points):
    found, _ = regions(RECTANGLE | {"points": points})
    assert found[0].box == Box(0.1, 0.2, 0.3, 0.8)


def test_the_four_corners_of_an_upright_rectangle_are_a_box():
    found, _ = regions(RECTANGLE | {"points": [[10, 10], [30, 10], [30, 40], [10, 40]]})
    assert found[0].box == Box(0.1, 0.2, 0.3, 0.8)


def test_a_shape_without_a_kind_is_a_rectangle():
    found, _ = regions({"label": "Person", "points": [[10, 10], [30, 40]]})
    assert len(found) == 1


def test_the_place_of_a_region_names_file_and_shape():
    found = parse_labelme(json.dumps(FILE).encode())
    places = [place for place, _ in found.regions(1, size=(64, 48), where="9005/1.json", notes=Imported(LabelSet()))]
    assert places == ["9005/1.json: $.shapes[0]", "9005/1.json: $.shapes[1]"]


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        (RECTANGLE | {"shape_type": "polygon"}, "its shape is not a rectangle"),
        (RECTANGLE | {"shape_type": 3}, "its shape is not a rectangle"),
        (RECTANGLE | {"points": [[10, 10]]}, "its points are not two opposite corners"),
        (RECTANGLE | {"points": [[10, 10], [30]]}, "its points are not two opposite corners"),
        (RECTANGLE | {"points": [[10, 10], [30, "40"]]}, "its points are not two opposite corners"),
        (RECTANGLE | {"points": [[10, 10], [30, True]]}, "its points are not two opposite corners"),
        (RECTANGLE | {"points": [[10, 10], [30, 10**400]]}, "its points are not two opposite corners"),
        (RECTANGLE | {"points": [[10, 10], [30, 12], [28, 40], [8, 38]]}, "its points are not two opposite corners"),
        (RECTANGLE | {"points": None}, "its points are not two opposite corners"),
        (RECTANGLE | {"label": ""}, "it has no type"),
        (RECTANGLE | {"label": None}, "it has no type"),
        ("Person", "it is not an object"),
    ],
)
def test_another_shape_is_left_out_by_name_and_hides_no_other(shape, why):
    found, notes = regions(shape, RECTANGLE)
    assert len(found) == 1
    assert [(left.what, left.why) for left in notes.left_out] == [("region", why)]
    assert notes.left_out[0].where.startswith("f.json: $.shapes[0]")


def test_a_file_gives_the_size_and_the_image_inside():
    found = parse_labelme(json.dumps(FILE).encode())
    assert found.size == (64, 48)
    assert found.image == png()


@pytest.mark.parametrize("size", [(None, 48), (0, 48), (64, -1), ("64", 48), (True, True)])
def test_an_invalid_size_is_not_written(size):
    odd = FILE | {"imageWidth": size[0], "imageHeight": size[1]}
    assert parse_labelme(json.dumps(odd).encode()).size is None


@pytest.mark.parametrize("image", [None, "", "苏珊", "a", 7])
def test_an_image_that_is_none_is_not_there(image):
    assert parse_labelme(json.dumps(FILE | {"imageData": image}).encode()).image is None


def test_a_byte_order_mark_is_no_harm():
    assert len(parse_labelme(b"\xef\xbb\xbf" + json.dumps(FILE).encode()).shapes) == 2


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"shapes": 1}', b"\xff\xfe{\x00", b"[" * 100_000])
def test_what_is_no_labelme_file_says_so(data):
    with pytest.raises(ValueError, match=r"it (cannot be parsed|is not a LabelMe file|is UTF-16)"):
        parse_labelme(data)


@given(mutated(FILE), st.sampled_from([(64, 48), (1, 1)]))
def test_a_broken_file_is_read_or_says_why(value, size):
    try:
        found = parse_labelme(json.dumps(value).encode())
    except ValueError:
        assert not (isinstance(value, dict) and isinstance(value.get("shapes"), list))
        return
    notes = Imported(LabelSet())
    read = found.regions(1, size=size, where="f", notes=notes)
    assert len(read) + len(notes.left_out) == len(found.shapes)


# --- other shapes -----------------------------------------------------------------------------------------------------

SHAPES = {
    "polygon": [[10, 10], [30, 20], [20, 40]],
    "circle": [[20, 25], [20, 40]],
    "mask": [[10, 10], [30, 40]],
    "rotation": [[20, 10], [30, 25], [20, 40], [10, 25]],
    "oriented_rectangle": [[20, 10], [30, 25], [20, 40], [10, 25]],
    "rectangle": [[20, 10], [30, 25], [20, 40], [10, 25]],
}


@pytest.mark.parametrize("kind", SHAPES)
def test_shapes_are_covered_by_a_box_on_request(kind):
    notes = Imported(LabelSet())
    shape = RECTANGLE | {"shape_type": kind, "points": SHAPES[kind]}
    found = parse_labelme(json.dumps({"shapes": [shape]}).encode())
    ((_, region),) = found.regions(1, size=(100, 50), where="f", notes=notes, cover=True)
    assert region.box == (Box(0.05, 0.2, 0.35, 0.8) if kind == "circle" else Box(0.1, 0.2, 0.3, 0.8))
    assert [change.why for change in notes.changed] == [
        "its shape is not a rectangle: replaced by the box that covers it"
    ]


@pytest.mark.parametrize("kind", ["point", "points", "line", "linestrip"])
def test_what_has_no_area_is_never_covered(kind):
    notes = Imported(LabelSet())
    found = parse_labelme(json.dumps({"shapes": [RECTANGLE | {"shape_type": kind}]}).encode())
    assert found.regions(1, size=(100, 50), where="f", notes=notes, cover=True) == []
    assert [left.why for left in notes.left_out] == ["its shape is not a rectangle"]
