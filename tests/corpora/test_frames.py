"""Finding a clip's files in folders and archives, and making frames and regions of them."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3dllm.corpora.frames import Clip, ClipFiles, cut_to_frame, frame_number, read_clip
from m3dllm.corpora.imported import Imported
from m3dllm.errors import UserError
from m3dllm.files import file_name
from m3dllm.labels import LabelSet
from m3dllm.types import Box
from tests.small import png

PERSON = {"label": "Person", "points": [[16, 12], [32, 36]], "shape_type": "rectangle"}


def labelme(*shapes, image: bytes | None = None, size=(64, 48)) -> bytes:
    data = base64.b64encode(image).decode() if image else None
    sizes = {"imageWidth": size[0], "imageHeight": size[1]}
    return json.dumps({"shapes": shapes, "imageData": data, "imagePath": "x.png", **sizes}).encode()


def folder(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    root.mkdir(exist_ok=True)
    return root


def archive(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return path


def clip(root: Path, document: str = "9005", *, documents=("9005", "9009"), **options) -> tuple[Clip, Imported]:
    notes = Imported(LabelSet())
    with ClipFiles(root, documents, notes) as files:
        options.setdefault("class_names", files.class_names)
        found = read_clip(document, files.of(document), notes=notes, **options)
        files.leave_out_others()
    return found, notes


def whys(notes: Imported) -> list[tuple[str, str]]:
    return [(left.what, left.why) for left in notes.left_out]


# --- where files are --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("00000400.jpg", 400),
        ("9005_00000400.jpg", 400),
        ("frame12.json", 12),
        ("cover.jpg", None),
        ("1234567890.jpg", None),
        ("a1.2.png", 2),
    ],
)
def test_the_number_of_a_frame_is_the_last_number_in_its_name(name, number):
    assert frame_number(name) == number


@pytest.mark.parametrize("place", ["9005", "clips/9005", "9005/images", "9005.en/9005"])
def test_a_folder_that_bears_the_name_is_the_documents(tmp_path, place):
    found, notes = clip(folder(tmp_path / "v", {f"{place}/24.png": png(), "9009/48.png": png()}))
    assert [frame.index for frame in found.frames] == [24]
    assert notes.left_out == []


def test_a_zip_that_bears_the_name_is_the_documents(tmp_path):
    archive(tmp_path / "v" / "9005.zip", {"24.png": png(), "9005/48.png": png()})
    found, notes = clip(tmp_path / "v")
    assert [frame.index for frame in found.frames] == [24, 48]
    assert notes.left_out == []


def test_one_zip_may_hold_the_folders_of_all_documents(tmp_path):
    found, _ = clip(archive(tmp_path / "all.zip", {"x/9005/24.png": png(), "x/9009/48.png": png()}))
    assert [frame.index for frame in found.frames] == [24]


def test_a_document_in_a_folder_finds_its_folder_by_its_whole_name_first(tmp_path):
    root = folder(tmp_path / "v", {"a/x/1.png": png(), "b/x/2.png": png()})
    for document, number in (("a/x", 1), ("b/x", 2)):
        found, _ = clip(root, document, documents=("a/x", "b/x"))
        assert [frame.index for frame in found.frames] == [number]


def test_the_innermost_name_decides(tmp_path):
    found, _ = clip(folder(tmp_path / "9009", {"9005/24.png": png()}))
    assert len(found.frames) == 1


def test_one_document_has_the_files_right_in_the_folder(tmp_path):
    found, notes = clip(folder(tmp_path / "v", {"24.png": png(), "other/48.png": png()}), documents=("9005",))
    assert [frame.index for frame in found.frames] == [24]
    assert whys(notes) == [("folder", "no document has its name")]


def test_one_document_has_what_is_in_a_zip_whatever_its_name(tmp_path):
    found, _ = clip(archive(tmp_path / "clip.zip", {"images/24.png": png()}), documents=("9005",))
    assert [frame.index for frame in found.frames] == [24]


def test_one_document_with_a_folder_of_its_name_has_that_only(tmp_path):
    root = folder(tmp_path / "v", {"24.png": png(), "9005/48.png": png()})
    found, notes = clip(root, documents=("9005",))
    assert [frame.index for frame in found.frames] == [48]
    assert whys(notes) == [("file", "none of its parent folders has a document's name")]


def test_files_of_no_document_are_named_by_folder(tmp_path):
    root = folder(tmp_path / "v", {"9006/1.png": png(), "9006/2.png": png(), "readme.txt": b""})
    _, notes = clip(root)
    assert [(left.what, left.where) for left in notes.left_out] == [
        ("folder", "v/9006/: 2 files"),
        ("file", "v/readme.txt"),
    ]


def test_hidden_files_and_those_of_macos_are_passed_over(tmp_path):
    names = ("9005/.DS_Store", "__MACOSX/9005/._24.png", ".git/9005/1.png")
    found, notes = clip(archive(tmp_path / "all.zip", {"9005/48.png": png()} | dict.fromkeys(names, b"x")))
    assert [frame.index for frame in found.frames] == [48]
    assert notes.left_out == []


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist; expected a folder or a zip archive"):
        clip(tmp_path / "nothing")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 cut off", b"not a zip"])
def test_what_is_no_archive_is_refused_by_name(tmp_path, data):
    folder(tmp_path / "v", {"9005.zip": data})
    with pytest.raises(UserError, match=r"9005\.zip: is not a readable zip archive"):
        clip(tmp_path / "v")


OUTSIDE = ("../../9005/1.png", "/9005/1.png", "9005/../../1.png", "9005\\..\\..\\1.png", "\\9005\\1.png", "C:\\1.png")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_of_its_archive_is_left_out_by_name(tmp_path, name):
    found, notes = clip(archive(tmp_path / "9005.zip", {name: png()}))
    assert found.frames == []
    assert whys(notes) == [("file", "its path leads out of the archive")]


def test_a_file_that_is_too_large_is_left_out_unread(tmp_path, monkeypatch):
    monkeypatch.setattr("m3dllm.corpora.frames.LARGEST_FILE", 10)
    found, notes = clip(archive(tmp_path / "9005.zip", {"1.png": bytes(11)}))
    assert found.frames == []
    assert notes.left_out[0].where == "9005.zip/1.png: 11 bytes"


def test_an_archive_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("m3dllm.corpora.frames.LARGEST_ARCHIVE", 15)
    with pytest.raises(UserError, match="unpack it and give the folder"):
        clip(archive(tmp_path / "9005.zip", {"1.png": bytes(10), "2.png": bytes(10)}))


def test_an_archive_without_files_is_named(tmp_path):
    _, notes = clip(archive(tmp_path / "9005.zip", {"9005/": b"", "__MACOSX/x.png": png()}))
    assert whys(notes) == [("archive", "it has no files")]


def test_a_damaged_file_in_an_archive_is_left_out_by_name(tmp_path):
    path = archive(tmp_path / "9005.zip", {"1.png": png(), "2.png": png()})
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF  # in the first file's packed bytes
    path.write_bytes(bytes(data))
    found, notes = clip(path)
    assert [frame.index for frame in found.frames] == [2]
    assert whys(notes) == [("frame", "its image is broken")]
    assert "9005.zip/1.png" in notes.left_out[0].where


# --- one clip ---------------------------------------------------------------------------------------------------------


def test_a_frame_has_number_size_and_a_path_of_its_own(tmp_path):
    found, _ = clip(folder(tmp_path / "v", {"9005/00000345.PNG": png(40, 30)}))
    (frame,) = found.frames
    assert (frame.index, frame.path, frame.width_px, frame.height_px) == (345, "frames/9005/345.png", 40, 30)
    assert found.images == {"frames/9005/345.png": tmp_path / "v/9005/00000345.PNG"}


def test_an_image_in_an_archive_comes_as_bytes(tmp_path):
    found, _ = clip(archive(tmp_path / "9005.zip", {"7.png": png()}))
    assert found.images == {"frames/9005/7.png": png()}


def test_a_documents_name_never_becomes_a_path(tmp_path):
    name = "../../x"
    found, _ = clip(archive(tmp_path / "c.zip", {"7.png": png()}), name, documents=(name,))
    assert found.frames[0].path == f"frames/{file_name(name)}/7.png"
    assert ".." not in Path(found.frames[0].path).parts


def test_frames_come_in_the_order_of_their_numbers(tmp_path):
    found, _ = clip(folder(tmp_path / "v", {f"9005/{n}.png": png() for n in (100, 24, 9)}))
    assert [frame.index for frame in found.frames] == [9, 24, 100]


def test_a_frame_with_a_box_file_is_annotated_even_if_the_file_is_empty(tmp_path):
    files = {"9005/1.png": png(), "9005/2.png": png(), "9005/2.txt": b"", "9005/3.png": png(), "9005/3.json": labelme()}
    found, _ = clip(folder(tmp_path / "v", files))
    assert [frame.annotated for frame in found.frames] == [False, True, True]
    assert found.regions == []


def test_labelme_and_yolo_boxes_become_regions(tmp_path):
    files = {"9005/1.png": png(), "9005/1.txt": b"PER 0.5 0.5 0.5 0.5", "9005/2.json": labelme(PERSON, image=png())}
    found, notes = clip(folder(tmp_path / "v", files))
    assert [(region.frame, region.type, region.box) for region in found.regions] == [
        (1, "PER", Box(0.25, 0.25, 0.75, 0.75)),
        (2, "Person", Box(0.25, 0.25, 0.5, 0.75)),
    ]
    assert notes.left_out == []


def test_the_image_inside_a_labelme_file_is_used_where_there_is_no_other(tmp_path):
    found, _ = clip(folder(tmp_path / "v", {"9005/5.json": labelme(PERSON, image=png())}))
    assert found.images == {"frames/9005/5.png": png()}


def test_the_image_inside_a_labelme_file_stands_in_for_a_broken_one(tmp_path):
    files = {"9005/5.png": png()[:-20], "9005/5.json": labelme(PERSON, image=png())}
    found, notes = clip(folder(tmp_path / "v", files))
    assert found.images == {"frames/9005/5.png": png()}
    assert whys(notes) == [("frame", "its image is broken")]


def test_boxes_drawn_in_an_image_of_another_size_are_scaled_by_name(tmp_path):
    files = {"9005/5.png": png(128, 96), "9005/5.json": labelme(PERSON)}
    found, notes = clip(folder(tmp_path / "v", files))
    assert found.regions[0].box == Box(0.25, 0.25, 0.5, 0.75)
    assert [(left.what, left.why) for left in notes.changed] == [
        ("box file", "its image has a different size: the boxes were scaled")
    ]


def test_a_labelme_file_without_a_size_takes_the_images(tmp_path):
    files = {"9005/5.png": png(), "9005/5.json": json.dumps({"shapes": [PERSON]}).encode()}
    found, notes = clip(folder(tmp_path / "v", files))
    assert found.regions[0].box == Box(0.25, 0.25, 0.5, 0.75)
    assert notes.changed == []


@pytest.mark.parametrize("name", ["classes.txt", "9005/classes.txt"])
def test_classes_are_named_by_the_file_beside(tmp_path, name):
    files = {name: b"PER\nLOC\n", "9005/1.png": png(), "9005/1.txt": b"1 0.5 0.5 0.5 0.5"}
    found, notes = clip(folder(tmp_path / "v", files))
    assert [region.type for region in found.regions] == ["LOC"]
    assert notes.left_out == []


def test_types_are_chosen_and_renamed(tmp_path):
    files = {"9005/1.png": png(), "9005/1.txt": b"Person 0.5 0.5 0.5 0.5\nObject 0.5 0.5 0.5 0.5"}
    found, notes = clip(folder(tmp_path / "v", files), region_types={"Person": "PER"})
    assert [region.type for region in found.regions] == ["PER"]
    assert whys(notes) == [("region", "its type 'Object' is not selected")]


@pytest.mark.parametrize(
    ("files", "what", "why"),
    [
        ({"1.png": b"junk"}, "frame", "its image is broken"),
        ({"1.png": b""}, "frame", "its image is broken"),
        ({"1.png": png()[:-20]}, "frame", "its image is broken"),
        ({"cover.png": png()}, "frame", "its name has no frame number"),
        ({"notes.txt": b""}, "box file", "its name has no frame number"),
        ({"1.png": png(), "01.png": png()}, "frame", "another file has the same number"),
        ({"1.mp4": b""}, "file", "it is neither an image nor a box file"),
        ({"1.txt": b"PER 0.5 0.5 1 1"}, "box file", "the image of its frame is missing"),
        ({"1.json": labelme(PERSON)}, "box file", "the image of its frame is missing"),
        ({"1.png": png(), "1.json": b"{"}, "box file", "it cannot be parsed"),
        ({"1.png": png(), "1.json": b"{}"}, "box file", "it is not a LabelMe file: it has no list of shapes"),
        ({"1.png": png(), "1.txt": b"\xff"}, "box file", "it cannot be read"),
        ({"1.png": png(), "classes.txt": b"\xff"}, "file", "the names of the classes cannot be read"),
    ],
)
def test_what_is_of_no_use_is_left_out_by_name(tmp_path, files, what, why):
    _, notes = clip(folder(tmp_path / "v", {f"9005/{name}": data for name, data in files.items()}))
    assert whys(notes) == [(what, why)]
    assert "9005/" in notes.left_out[0].where


def test_a_broken_image_takes_its_boxes_with_it_by_name(tmp_path):
    files = {"9005/1.png": b"junk", "9005/1.txt": b"PER 0.5 0.5 1 1", "9005/1.json": labelme(PERSON)}
    _, notes = clip(folder(tmp_path / "v", files))
    assert whys(notes)[1:] == [("box file", "the image of its frame cannot be used")] * 2


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("PER 0.5 0.5 0 0.5", "its box has no area"),
        ("PER 0.5 0.5 -0.2 0.5", "its box has no area"),
        ("PER nan 0.5 0.2 0.5", "its box has no area"),
        ("PER inf 0.5 0.2 0.5", "its box has no area"),
        ("PER 0.5 0.5 1.1 0.5", "its box extends beyond the frame"),
        ("PER 320 240 64 48", "its box extends beyond the frame"),
        ("PER 1.01 0.5 0.01 0.5", "its box extends beyond the frame"),
    ],
)
def test_an_illegal_box_is_left_out_by_name(tmp_path, line, why):
    found, notes = clip(folder(tmp_path / "v", {"9005/1.png": png(), "9005/1.txt": line.encode()}))
    assert found.regions == []
    assert whys(notes) == [("region", why)]
    assert notes.left_out[0].where.startswith("v/9005/1.txt:1: ")


def test_a_box_that_sticks_out_a_little_is_cut_to_the_frame_by_name(tmp_path):
    files = {"9005/1.png": png(), "9005/1.txt": b"PER 0.5 0.5 1.02 0.5"}
    found, notes = clip(folder(tmp_path / "v", files))
    assert found.regions[0].box == Box(0, 0.25, 1, 0.75)
    assert [left.why for left in notes.changed] == ["its box extended beyond the frame: clipped"]


def test_a_box_that_misses_the_edge_by_rounding_is_no_change(tmp_path):
    files = {"9005/1.png": png(), "9005/1.txt": b"PER 0.5 0.5 1.000001 0.5"}
    found, notes = clip(folder(tmp_path / "v", files))
    assert found.regions[0].box == Box(0, 0.25, 1, 0.75)
    assert notes.changed == []


def test_a_region_that_stands_twice_comes_once_by_name(tmp_path):
    files = {"9005/1.png": png(), "9005/1.txt": b"PER 0.5 0.5 1 1\nPER 0.5 0.5 1 1\nLOC 0.5 0.5 1 1"}
    found, notes = clip(folder(tmp_path / "v", files))
    assert len(found.regions) == 2
    assert whys(notes) == [("region", "it is a duplicate")]


@given(st.lists(st.floats(), min_size=4, max_size=4))
def test_a_box_cut_to_the_frame_is_legal_and_inside_the_box(numbers):
    box = Box(*numbers)
    cut = cut_to_frame(box)
    assert cut_to_frame(box) == (box if box.is_legal else cut)
    if cut:
        assert cut.is_legal
        assert box.x0 <= cut.x0 < cut.x1 <= box.x1
        assert box.y0 <= cut.y0 < cut.y1 <= box.y1


def zipped(names: list[str]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as packed:
        for i, name in enumerate(names):
            packed.writestr(f"{i}/{name}", (png(), b"PER 0.5 0.5 1 1", labelme(PERSON, image=png()))[i % 3])
    return data.getvalue()


WHOLE = zipped(["9005/1.png", "9005/1.txt", "9005/2.json"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=6), st.integers(0, 40))
def test_a_damaged_archive_is_read_or_refused_in_one_line(tmp_path, changes, cut):
    data = bytearray(WHOLE)
    for at, byte in changes:
        data[at] = byte
    path = tmp_path / "9005.zip"
    path.write_bytes(bytes(data[: len(data) - cut] if cut < 20 else data))
    try:
        found, notes = clip(path)
    except UserError as refused:
        problem = str(refused)
    else:
        problem = ""
        assert found.frames or notes.left_out
        assert all(region.box.is_legal for region in found.regions)
    assert "\n" not in problem


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(png()) - 1), st.binary(max_size=8), st.booleans())
def test_a_damaged_image_is_a_frame_or_left_out(tmp_path, at, data, cut):
    whole = png()
    damaged = whole[:at] + data + (b"" if cut else whole[at + len(data) :])
    found, notes = clip(folder(tmp_path / "v", {"9005/1.png": damaged}))
    assert len(found.frames) + len(notes.left_out) == 1
