"""The frames and boxes of M3D clips come in, or say why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3dllm.corpora.check import check
from m3dllm.corpora.m3d import read_m3d
from m3dllm.corpora.native import load_corpus, to_imported, write_corpus
from m3dllm.errors import UserError
from m3dllm.types import Box, Region
from tests.corpora.m3d_release import EN, ZH, changed, clip, left_out, one, release
from tests.small import png


def test_frames_have_the_numbers_and_sizes_of_their_files(tmp_path):
    root = clip(release(tmp_path, en=[EN]), f48_png=png(32, 16), f24_png=png(), f24_txt="", f345_jpg=png())
    imported = read_m3d(root)
    frames = one(imported).document.frames
    assert [(f.index, f.width_px, f.height_px, f.annotated) for f in frames] == [
        (24, 64, 48, True),
        (48, 32, 16, False),
        (345, 64, 48, False),
    ]
    assert imported.images["frames/video_1_2/48.png"] == root / "img/video_1_2/48.png"


def test_a_frame_is_annotated_where_it_is_listed_or_has_a_box_file(tmp_path):
    root = clip(release(tmp_path, en=[EN]), f24_png=png(), f48_png=png(), f48_txt="", f72_png=png())
    assert [(f.index, f.annotated) for f in one(read_m3d(root)).document.frames] == [
        (24, True),
        (48, True),
        (72, False),
    ]


def test_boxes_are_centres_and_sizes(tmp_path):
    root = clip(release(tmp_path, en=[EN]), f24_png=png(), f24_txt="PER 0.5 0.5 0.5 0.25\nLOC 0.25 0.5 0.5 1\n")
    assert one(read_m3d(root)).gold.regions == (
        Region(24, Box(0.25, 0.375, 0.75, 0.625), "PER"),
        Region(24, Box(0, 0, 0.5, 1), "LOC"),
    )


def test_an_edge_that_misses_the_frame_by_rounding_is_put_on_it(tmp_path):
    root = clip(release(tmp_path, en=[EN]), f24_png=png(), f24_txt="PER 0.333333 0.5 0.666667 1.000001")
    assert one(read_m3d(root)).gold.regions[0].box == (0.0, 0.0, 0.333333 + 0.666667 / 2, 1.0)


BAD_BOXES = {
    "PER 0.5 0.5 1.1 0.5": "its box is not inside the frame, as fractions",
    "PER 0.5 0.5 0 0.5": "its box is not inside the frame, as fractions",
    "PER nan 0.5 0.5 0.5": "its box is not inside the frame, as fractions",
    "PER 320 180 100 100": "its box is not inside the frame, as fractions",
    "PER 0.5 0.5 0.5": "it is not 'TYPE cx cy w h'",
    "PER 0.5 0.5 0.5 x": "it is not 'TYPE cx cy w h'",
    "PER": "it is not 'TYPE cx cy w h'",
}


@pytest.mark.parametrize("line", BAD_BOXES)
def test_a_box_that_is_none_is_left_out_by_name(line, tmp_path):
    root = clip(release(tmp_path, en=[EN]), f24_png=png(), f24_txt=f"PER 0.5 0.5 0.5 0.5\n{line}\n")
    imported = read_m3d(root)
    assert len(one(imported).gold.regions) == 1
    assert left_out(imported) == [("region", BAD_BOXES[line], f"{root}/img/video_1_2/24.txt:2: {line!r}")]


def test_a_box_that_stands_twice_is_left_out_by_name(tmp_path):
    root = clip(release(tmp_path, en=[EN]), f24_png=png(), f24_txt="PER 0.5 0.5 0.5 0.5\nPER 0.5 0.5 0.5 0.5")
    imported = read_m3d(root)
    assert len(one(imported).gold.regions) == 1
    assert [why for _, why, _ in left_out(imported)] == ["it is a duplicate"]


def test_files_that_are_no_frames_are_left_out_by_name(tmp_path):
    root = clip(
        release(tmp_path, en=[EN]),
        f24_png=png(),
        f24_jpg=png(),
        f48_png=b"no image",
        f48_txt="PER 0.5 0.5 0.5 0.5",
        f72_txt="PER 0.5 0.5 0.5 0.5",
        cover_png=png(),
        notes_doc=b"",
    )
    imported = read_m3d(root)
    assert [f.index for f in one(imported).document.frames] == [24]
    shown = sorted((what, why.split(":")[0], Path(where).name) for what, why, where in left_out(imported))
    assert shown == [
        ("box file", "its frame was skipped", "48.txt"),
        ("box file", "there is no image with its name", "72.txt"),
        ("file", "it is neither an image nor a .txt file of boxes", "notes.doc"),
        ("frame", "another image has the same number", "24.png"),
        ("frame", "is not in a supported image format", "48.png"),
        ("frame", "its name has no frame number", "cover.png"),
    ]


def test_a_listed_frame_without_an_image_is_left_out_by_name(tmp_path):
    root = clip(release(tmp_path, en=[changed(EN, image=[24, 48, "x", -1])]), f24_png=png())
    assert [(out.what, out.why) for out in read_m3d(root).left_out] == [
        ("annotated frame", "it is not a frame number"),
        ("annotated frame", "it is not a frame number"),
        ("annotated frame", "there is no image for it"),
    ]


def test_a_clip_without_a_folder_is_named_where_there_are_frames_of_others(tmp_path):
    root = clip(release(tmp_path, en=[EN, changed(EN, video_id="video_9_9")]), f24_png=png())
    assert [(what, why) for what, why, _ in left_out(read_m3d(root))] == [("clip", "it has no folder of frames")]


def test_without_an_img_folder_the_listed_frames_are_named(tmp_path):
    imported = read_m3d(release(tmp_path, en=[EN]))
    assert [out.why for out in imported.left_out] == ["there is no img folder: the frames are a separate download"]


def test_a_box_file_in_another_encoding_is_an_error_with_its_name(tmp_path):
    root = clip(release(tmp_path, en=[EN]), f24_png=png(), f24_txt="PER 0.5 0.5 0.5 0.5".encode("utf-16"))
    with pytest.raises(UserError, match=r"24\.txt: is UTF-16; expected UTF-8"):
        read_m3d(root)


def test_an_import_with_frames_is_a_corpus_without_a_problem(tmp_path):
    root = clip(
        release(tmp_path / "m3d", en=[EN], zh=[ZH]), f24_png=png(), f24_txt="PER 0.5 0.5 0.5 0.5", f48_png=png()
    )
    imported = read_m3d(root)
    write_corpus(tmp_path / "corpus", imported)
    assert list(check(tmp_path / "corpus").lines())[-1] == "0 problems, 0 warnings"
    assert to_imported(load_corpus(tmp_path / "corpus")).splits == imported.splits
