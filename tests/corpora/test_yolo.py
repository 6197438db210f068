"""YOLO box files: centre and size, classes by number or name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.yolo import parse_names, parse_yolo, read_names
from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.types import Box, Region


def parsed(text: str, *names: str) -> tuple[list[Region], Imported]:
    notes = Imported(LabelSet())
    return [region for _, region in parse_yolo(text, 24, names=names, where="24.txt", notes=notes)], notes


def test_a_line_is_type_centre_and_size():
    assert parsed("PER 0.5 0.5 0.5 0.25\n")[0] == [Region(24, Box(0.25, 0.375, 0.75, 0.625), "PER")]


def test_a_number_is_the_name_at_its_place():
    found, _ = parsed("1 0.5 0.5 0.5 0.25\n0 0.5 0.5 0.5 0.25", "PER", "地点")
    assert [region.type for region in found] == ["地点", "PER"]


@pytest.mark.parametrize(
    ("names", "why"),
    [((), "its class has no name: give the file of class names"), (("PER",), "its class is beyond the list of names")],
)
def test_a_class_without_a_name_is_left_out_by_name(names, why):
    found, notes = parsed("1 0.5 0.5 0.5 0.25", *names)
    assert found == []
    assert [(left.why, left.where) for left in notes.left_out] == [(why, "24.txt:1: '1 0.5 0.5 0.5 0.25'")]


@pytest.mark.parametrize("line", ["PER", "PER 1 2 3", "PER 0.1 0.1 0.1 0.1 0.9", "PER a b c d", "PER 0,5 0,5 1 1"])
def test_another_line_is_left_out_by_name_and_hides_no_other(line):
    found, notes = parsed(f"PER 0.5 0.5 1 1\n{line}\nPER 0.5 0.5 0.5 0.5\n")
    assert len(found) == 2
    assert [(left.why, left.where[:8]) for left in notes.left_out] == [("it is not 'class cx cy w h'", "24.txt:2")]


@pytest.mark.parametrize("text", ["", "\n", "\r\n \n"])
def test_an_empty_file_has_no_boxes_and_no_faults(text):
    found, notes = parsed(text)
    assert found == []
    assert notes.left_out == []


@pytest.mark.parametrize("kind", ["0x1", "1_0", "١", "LOC"])
def test_a_class_that_is_no_number_is_one_of_the_names_or_left_out(kind):
    found, notes = parsed(f"{kind} 0.5 0.5 0.5 0.25\nPER 0.5 0.5 0.5 0.25", "PER")
    assert [region.type for region in found] == ["PER"]
    assert [left.why for left in notes.left_out] == ["its class is not among the names"]


def test_names_stand_one_a_line():
    assert parse_names("PER\r\n地点\n\n") == ("PER", "地点")
    assert parse_names("\n") == ()


def test_a_file_without_names_is_refused(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("\n")
    with pytest.raises(UserError, match=r"classes\.txt: has no names"):
        read_names(path)


@given(st.text("01.9 PERnaif-e\n\r苏"), st.lists(st.sampled_from(["PER", "", "地点"])))
def test_every_line_is_a_box_or_left_out(text, names):
    found, notes = parsed(text, *names)
    assert len(found) + len(notes.left_out) == sum(bool(line.strip()) for line in text.split("\n"))


# --- classes and shapes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["1", "1.0", "+1", "01", "1.", "1e0", "10e-1"])
def test_a_class_is_a_whole_number_in_any_notation(kind):
    found, _ = parsed(f"{kind} 0.5 0.5 0.5 0.25", "PER", "LOC")
    assert [region.type for region in found] == ["LOC"]


@pytest.mark.parametrize("kind", ["-1", "1.5", "-0.5", "1e-1", "1e999"])
def test_a_number_that_is_no_class_is_left_out_by_name(kind):
    found, notes = parsed(f"{kind} 0.5 0.5 0.5 0.25", "PER", "LOC")
    assert found == []
    assert [left.why for left in notes.left_out] == ["its class is not a whole number from 0"]


OUTLINES = {
    "a triangle": "0 0.1 0.2 0.5 0.6 0.3 0.8",
    "a rotated box": "0 0.3 0.2 0.5 0.4 0.3 0.8 0.1 0.5",
    "a segment": "0 0.1 0.2 0.3 0.2 0.5 0.3 0.4 0.8 0.2 0.7",
}


@pytest.mark.parametrize("what", OUTLINES)
def test_outlines_are_left_out_by_name_or_covered(what):
    _, notes = parsed(OUTLINES[what], "PER")
    assert "it is a polygon or a rotated box" in notes.left_out[0].why
    covered = parse_yolo(OUTLINES[what], 1, names=("PER",), where="f", notes=Imported(LabelSet()), cover=True)
    assert covered[0][1].box == Box(0.1, 0.2, 0.5, 0.8)


# --- files of names ---------------------------------------------------------------------------------------------------

NAMED = {
    "classes.txt": "PER\nLOC\n",
    "obj.names": "PER\r\nLOC\r\n",
    "a list in one line": "nc: 2\nnames: ['PER', \"LOC\"]\n",
    "a list over lines": "train: x\nnames: [PER,\n  LOC]\n",
    "a list of items": "names:\n- PER\n- LOC  # places\nnc: 2\n",
    "indented items": "path: ../d\nnames:\n  - 'PER'\n  - LOC\n",
    "numbers": "names:\n  0: PER\n  1: LOC\nnc: 2\n",
    "numbers in one line": "names: {0: PER, 1: 'LOC'}\n",
    "numbers in quotes": "names:\n  '0': PER\n  \"1\": LOC\n",
    "numbers in quotes in one line": "names: {'0': PER, \"1\": 'LOC'}\n",
    "JSON": '["PER", "LOC"]',
}


@pytest.mark.parametrize("what", NAMED)
def test_names_are_read_from_every_file_that_holds_them(what):
    assert parse_names(NAMED[what]) == ("PER", "LOC")


def test_a_number_without_a_name_has_none():
    assert parse_names("names:\n  0: PER\n  2: LOC\n") == ("PER", "", "LOC")


@pytest.mark.parametrize(
    "text",
    [
        "nc: 2\ntrain: images\n",
        "classes = 2\nnames = data/obj.names\n",
        "0 0.5 0.5 0.5 0.25\n",
        "data/obj_train_data/1.jpg\n",
        '{"shapes": []}',
        "<annotation>\n",
        "names:\nnc: 2\n",
        "names: [PER, LOC\n",
        "PER\x00LOC\n",
        "x" * 200,
    ],
)
def test_any_other_file_than_names_is_refused(text, tmp_path):
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(UserError, match=r"names\.txt: (line|has|is)"):
        read_names(tmp_path / "names.txt")
