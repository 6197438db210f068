"""CVAT XML: images and videos."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3dllm.corpora.cvat import read_cvat
from m3dllm.corpora.imported import Imported
from m3dllm.errors import UserError
from m3dllm.types import Box
from tests.corpora.tools import changes, counts, reasons
from tests.small import png

BOX = '<box label="PER" xtl="10" ytl="20" xbr="30" ybr="40" {}/>'
VIDEO = (
    "<meta><task><mode>interpolation</mode><start_frame>10</start_frame><stop_frame>19</stop_frame>"
    "<frame_filter>step=3</frame_filter><original_size><width>100</width><height>50</height></original_size></task>"
    "<source>film.mp4</source></meta>"
)


def read(folder: Path, inside: str, **options) -> Imported:
    (folder / "a.xml").write_text(f"<annotations>{inside}</annotations>", encoding="utf-8")
    return read_cvat(folder / "a.xml", **options)


def image(name: str, *shapes: str) -> str:
    return f'<image id="0" name="{name}" width="100" height="50">{"".join(shapes)}</image>'


def test_an_image_is_a_document_and_boxes_are_pixels(tmp_path):
    (tmp_path / "cat.png").write_bytes(png(100, 50))
    imported = read(tmp_path, image("cat.png", BOX.format("")) + image("dog.png"))
    first, second = imported.splits["train"]
    assert [(r.type, r.box) for r in first.gold.regions] == [("PER", Box(0.1, 0.4, 0.3, 0.8))]
    assert (second.document.id, second.gold.regions, second.document.frames[0].annotated) == ("dog", (), True)
    assert imported.images["frames/cat/0.png"] == tmp_path / "cat.png"


def test_the_images_of_a_folder_are_a_clip_on_request(tmp_path):
    found = image("film/000024.png", BOX.format("")) + image("film/000048.png")
    (film,) = read(tmp_path, found, clips=True).splits["train"]
    assert (film.document.id, [f.index for f in film.document.frames]) == ("film", [24, 48])


@pytest.mark.parametrize("outside", ["1", "true", "True"])
def test_a_thing_is_in_no_frame_in_which_it_is_outside(outside, tmp_path):
    places = ((10, "0"), (13, "0"), (16, outside))
    boxes = "".join(BOX.format(f'frame="{n}" outside="{out}" keyframe="1"') for n, out in places)
    imported = read(tmp_path, f'{VIDEO}<track id="0" label="LOC">{boxes}</track>')
    (film,) = imported.splits["train"]
    assert (film.document.id, [f.index for f in film.document.frames]) == ("film", [10, 13, 16, 19])
    assert [(r.frame, r.type) for r in film.gold.regions] == [(10, "LOC"), (13, "LOC")]
    assert all(frame.annotated for frame in film.document.frames)


def track(kind: str, *places: tuple[int, int, str]) -> str:
    """A track of boxes: (frame, left edge, other attributes)."""
    boxes = [f'<box frame="{n}" xtl="{x}" ytl="20" xbr="{x + 20}" ybr="40" {more}/>' for n, x, more in places]
    return f'<track id="0" label="{kind}">{"".join(boxes)}</track>'


def test_a_thing_stands_on_its_way_between_keyframes_where_no_other_frame_is_written(tmp_path):
    imported = read(tmp_path, VIDEO + track("PER", (10, 10, ""), (19, 40, "")))
    (film,) = imported.splits["train"]
    assert [(r.frame, round(r.box.x0, 3)) for r in film.gold.regions] == [(10, 0.1), (19, 0.4), (13, 0.2), (16, 0.3)]
    why = "the file has no box for it in this frame: placed where CVAT shows it"
    assert [one for one in changes(imported) if one[0] == "region"] == [("region", why)] * 2


def test_between_a_frame_in_which_it_is_outside_and_the_next_it_is_nowhere(tmp_path):
    imported = read(tmp_path, VIDEO + track("PER", (10, 10, ""), (13, 10, 'outside="1"'), (19, 40, "")))
    assert [r.frame for r in imported.splits["train"][0].gold.regions] == [10, 19]


def test_a_thing_stays_where_its_last_keyframe_is_up_to_the_end_of_the_task(tmp_path):
    imported = read(tmp_path, VIDEO + track("PER", (10, 10, ""), (13, 40, "")))
    regions = imported.splits["train"][0].gold.regions
    assert [(r.frame, round(r.box.x0, 3)) for r in regions] == [(10, 0.1), (13, 0.4), (16, 0.4), (19, 0.4)]


def test_where_no_task_says_its_frames_a_thing_ends_with_its_last_shape(tmp_path):
    size = "<meta><task><original_size><width>100</width><height>50</height></original_size></task></meta>"
    imported = read(tmp_path, size + track("PER", (10, 10, ""), (13, 40, "")) + track("LOC", (16, 10, "")))
    assert [(r.frame, r.type) for r in imported.splits["train"][0].gold.regions] == [
        (10, "PER"),
        (13, "PER"),
        (16, "LOC"),
    ]


def test_a_frame_between_a_box_and_a_turned_one_is_not_annotated(tmp_path):
    imported = read(tmp_path, VIDEO + track("PER", (10, 10, ""), (16, 40, 'rotation="30"')))
    (film,) = imported.splits["train"]
    assert [(f.index, f.annotated) for f in film.document.frames] == [(10, True), (13, False), (16, False), (19, False)]


def test_the_videos_of_a_project_are_documents_of_their_own(tmp_path):
    tasks = "".join(
        f"<task><id>{n}</id><mode>interpolation</mode><start_frame>0</start_frame><stop_frame>0</stop_frame><subset>{part}"
        f"</subset><original_size><width>100</width><height>50</height></original_size><source>{name}.mp4</source></task>"
        for n, name, part in ((5, "film", "Train"), (6, "clip", "Validation"))
    )
    tracks = "".join(
        track(kind, (0, x, "")).replace("<track", f'<track task_id="{n}"')
        for n, kind, x in ((5, "PER", 10), (6, "LOC", 40))
    )
    imported = read(tmp_path, f"<meta><project><tasks>{tasks}</tasks></project></meta>{tracks}")
    found = {split: [(e.document.id, e.gold.regions) for e in part] for split, part in imported.splits.items()}
    assert {s: [(name, [r.type for r in regions]) for name, regions in part] for s, part in found.items()} == {
        "train": [("film", ["PER"])],
        "dev": [("clip", ["LOC"])],
    }


def test_images_of_one_name_in_several_subsets_are_documents_each(tmp_path):
    for subset in ("Train", "Validation"):
        (tmp_path / "images" / subset).mkdir(parents=True)
        (tmp_path / "images" / subset / "a.png").write_bytes(png(100, 50))
    named = [
        image("a.png", BOX.format("")).replace("<image", f'<image subset="{of}"') for of in ("Train", "Validation")
    ]
    imported = read(tmp_path, "".join(named))
    assert counts(imported) == {"train": (1, 0, 0, 0, 1, 1), "dev": (1, 0, 0, 0, 1, 1)}
    assert {path.parent.name for path in imported.images.values()} == {"Train", "Validation"}


def test_a_task_longer_than_any_video_brings_only_the_frames_in_which_something_is_drawn(tmp_path):
    video = VIDEO.replace("<stop_frame>19</stop_frame>", "<stop_frame>999999999</stop_frame>")
    box = BOX.format('frame="10" outside="0" keyframe="1"')
    imported = read(tmp_path, f'{video}<track id="0" label="LOC">{box}</track>')
    assert counts(imported)["train"] == (1, 0, 0, 0, 1, 1)
    assert [what for what, _ in reasons(imported)] == ["frames"]


def test_frames_of_a_video_are_found_by_their_numbers(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/frame_000013.png").write_bytes(png(100, 50))
    imported = read(tmp_path, VIDEO)
    assert imported.images["frames/film/13.png"] == tmp_path / "images/frame_000013.png"
    assert changes(imported) == [("image", "its file is missing: replaced by a grey image of its size")] * 3


def test_what_is_no_box_is_counted_by_its_shape(tmp_path):
    shapes = [
        '<polygon label="a" points="1,2;3,4"/>',
        "<tag label='b'/>",
        BOX.format('rotation="30"'),
        '<box label="c"/>',
    ]
    assert [reason for reason in reasons(read(tmp_path, image("a.jpg", *shapes))) if reason[0] != "image"] == [
        ("polygon", "it is not a box"),
        ("tag", "it is not a box"),
        ("region", "it is rotated: not an upright box"),
        ("region", "it has no corners of four numbers"),
    ]


@pytest.mark.parametrize("text", ["<annotations>", "<annotation/>", "<annotations/>", "<!DOCTYPE a><annotations/>"])
def test_what_is_no_cvat_is_named(tmp_path, text):
    (tmp_path / "x.xml").write_text(text)
    with pytest.raises(UserError, match=r"x\.xml"):
        read_cvat(tmp_path / "x.xml")


def test_the_sets_of_datumaro(shared_data):
    data = shared_data / "cvat_datumaro_assets/tests/assets/cvat_dataset"
    images = read_cvat(data / "for_images/train.xml")  # one box, a polyline, a polygon, points, two skeletons
    assert counts(images) == {"train": (2, 0, 0, 0, 1, 2)}
    assert sorted(what for what, _ in reasons(images)) == ["points", "polygon", "polyline", "skeleton", "skeleton"]
    video = read_cvat(data / "for_video")  # frames 10, 13, 16, 19; one box that is not outside; images of 10 and 13
    assert counts(video) == {"train": (1, 0, 0, 0, 1, 4)}
    assert [what for what, _ in changes(video)] == [*["image"] * 2, "region", *["frame"] * 4]
    assert [f.annotated for f in video.splits["train"][0].document.frames] == [True, False, False, False]
