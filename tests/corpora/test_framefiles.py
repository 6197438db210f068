"""Which boxes belong to which image, what numbers a frame, and on which picture boxes were drawn."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from m3dllm.corpora.frames import PARTLY, frame_number
from m3dllm.corpora.importers import find_importer
from m3dllm.corpora.m3d import read_m3d
from m3dllm.corpora.turned import reading
from m3dllm.pictures import turn_box
from m3dllm.types import Box
from tests.corpora.m3d_release import EN, release
from tests.corpora.m3d_release import clip as m3d_clip
from tests.corpora.test_frames import PERSON, archive, clip, folder, labelme, whys
from tests.small import png
from tests.test_pictures import dark, turned

BOX = b"PER 0.5 0.5 0.5 0.5"
OTHER = b"LOC 0.5 0.5 0.5 0.5"


def regions(found) -> list[tuple[str, str]]:
    """(file of the image, type) of each region."""
    paths = {frame.index: found.images[frame.path].name for frame in found.frames}
    return [(paths[region.frame], region.type) for region in found.regions]


def changes(notes) -> list[tuple[str, str]]:
    return [(change.what, change.why) for change in notes.changed]


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("clip-0001_jpg.rf.3c2f0a1e9b7d4f6a.jpg", 1),
        ("clip-0002_png.rf.aa12bb34cc56dd61.jpg", 2),
        ("clip-0003_jpeg.rf.1234567.jpg", 3),
        ("0001_720p.jpg", 1),
        ("0002_1920x1080.png", 2),
        ("12_4k_30fps.jpg", 12),
        ("7_w640_h480.jpg", 7),
        ("5@2x.png", 5),
        ("frame_3_550e8400-e29b-41d4-a716-446655440000.jpg", 3),
        ("9_d41d8cd98f00b204e9800998ecf8427e.jpg", 9),
        ("d41d8cd98f00b204e9800998ecf8427e.jpg", None),
        ("第12帧.jpg", 12),
        ("video_57_17_00345.jpg", 345),
    ],
)
def test_digits_of_hashes_and_resolutions_number_no_frame(name, number):
    assert frame_number(name) == number


def test_frames_whose_numbers_stand_twice_are_all_kept_in_the_order_of_their_names_by_name(tmp_path):
    found, notes = clip(folder(tmp_path / "v", {"9005/a_10.png": png(), "9005/b_10.png": png(32, 32)}))
    assert [(frame.index, frame.width_px) for frame in found.frames] == [(0, 64), (1, 32)]
    assert notes.left_out == []
    assert [change.where for change in notes.changed] == ["v/9005/a_10.png is 0", "v/9005/b_10.png is 1"]


# --- pairs ------------------------------------------------------------------------------------------------------------


def test_boxes_belong_to_the_image_of_their_name_not_of_their_number(tmp_path):
    found, _ = clip(folder(tmp_path / "v", {"9005/a_10.png": png(), "9005/b_10.png": png(), "9005/b_10.txt": BOX}))
    assert regions(found) == [("b_10.png", "PER")]


def test_boxes_belong_to_the_image_of_their_folder(tmp_path):
    files = {"9005/x/1.png": png(), "9005/x/1.txt": BOX, "9005/y/2.png": png(), "9005/y/2.txt": OTHER}
    found, notes = clip(folder(tmp_path / "v", files))
    assert regions(found) == [("1.png", "PER"), ("2.png", "LOC")]
    assert notes.changed == []


def test_boxes_in_a_folder_of_labels_belong_to_the_only_image_of_their_name(tmp_path):
    files = {"9005/images/1.png": png(), "9005/images/2.png": png(), "9005/labels/2.txt": BOX}
    found, notes = clip(folder(tmp_path / "v", files))
    assert regions(found) == [("2.png", "PER")]
    assert notes.changed == []


def test_boxes_of_another_name_belong_to_the_only_image_of_their_number_by_name(tmp_path):
    found, notes = clip(folder(tmp_path / "v", {"9005/img_3.png": png(), "9005/label_3.txt": BOX}))
    assert regions(found) == [("img_3.png", "PER")]
    assert changes(notes) == [("box file", "no image has its name: matched by its number")]


def test_boxes_whose_number_several_images_have_are_left_out_by_name(tmp_path):
    files = {"9005/a_3.png": png(), "9005/b_3.png": png(), "9005/label_3.txt": BOX}
    found, notes = clip(folder(tmp_path / "v", files))
    assert found.regions == []
    assert whys(notes) == [("box file", "no image has its name, and several files have its number")]


def test_the_boxes_of_an_image_that_is_left_out_go_to_no_other(tmp_path):
    files = {"9005/x/1.png": png(), "9005/y/1.png": png(), "9005/y/1.txt": BOX}
    found, notes = clip(folder(tmp_path / "v", files))
    assert found.regions == []
    assert whys(notes) == [("frame", "another file has the same number"), ("box file", "its image was skipped")]


# --- one picture a text -----------------------------------------------------------------------------------------------


def test_an_image_named_as_its_document_is_its_only_frame(tmp_path):
    root = folder(tmp_path / "v", {"9005.png": png(), "9009.png": png()})
    for document in ("9005", "9009"):
        found, notes = clip(root, document)
        assert [frame.index for frame in found.frames] == [0]
        assert notes.left_out == []


def test_images_in_one_flat_folder_begin_with_their_documents_name(tmp_path):
    found, notes = clip(folder(tmp_path / "v", {"9005_0001.png": png(), "9005-24.png": png(), "9009_2.png": png()}))
    assert [frame.index for frame in found.frames] == [1, 24]
    assert notes.left_out == []


def test_boxes_beside_them_are_theirs(tmp_path):
    found, _ = clip(folder(tmp_path / "v", {"9005_1.png": png(), "9005_1.txt": BOX, "9009_1.txt": OTHER}))
    assert regions(found) == [("9005_1.png", "PER")]


def test_an_image_beside_each_of_two_documents_of_one_name_is_that_folders(tmp_path):
    root = folder(tmp_path / "v", {"a/x.png": png(64, 48), "b/x.png": png(32, 32)})
    for document, width in (("a/x", 64), ("b/x", 32)):
        found, _ = clip(root, document, documents=("a/x", "b/x"))
        assert [frame.width_px for frame in found.frames] == [width]


# --- what was drawn and could not be used -----------------------------------------------------------------------------

POLYGON = {"label": "P", "points": [[1, 1], [9, 1], [5, 9]], "shape_type": "polygon"}


@pytest.mark.parametrize(
    "files",
    [
        {"1.json": labelme(POLYGON)},
        {"1.json": labelme({"label": "P", "points": [[1, 1]]})},
        {"1.json": labelme({"label": "", "points": [[1, 1], [2, 2]]})},
        {"1.txt": b"7 0.5 0.5 0.5 0.5"},
        {"1.txt": b"PER 0.5 0.5 0 0.5"},
        {"1.txt": b"PER 320 240 64 48"},
        {"1.txt": b"some words"},
        {"1.txt": b"PER 0.1 0.1 0.9 0.1 0.5 0.9"},
    ],
    ids=str,
)
def test_a_frame_of_which_nothing_that_was_drawn_can_be_used_is_not_annotated_by_name(files, tmp_path):
    found, notes = clip(folder(tmp_path / "v", {"9005/1.png": png()} | {f"9005/{n}": d for n, d in files.items()}))
    assert [frame.annotated for frame in found.frames] == [False]
    assert ("frame", "none of its boxes could be used: it is treated as not annotated") in changes(notes)


def test_a_frame_of_which_no_type_is_chosen_is_annotated_and_empty(tmp_path):
    found, _ = clip(folder(tmp_path / "v", {"9005/1.png": png(), "9005/1.txt": BOX}), region_types={"LOC": ""})
    assert (found.frames[0].annotated, found.regions) == (True, [])


def test_a_frame_of_m3d_of_which_nothing_can_be_used_is_not_annotated(tmp_path):
    root = m3d_clip(release(tmp_path, en=[EN]), f24_png=png(), f24_txt=b"PER 3 3 1 1\n")
    (example,) = read_m3d(root).splits["dev"]
    assert [frame.annotated for frame in example.document.frames] == [False]


# --- the picture on which boxes were drawn ----------------------------------------------------------------------------

SEEN = Box(0, 0, 0.5, 0.5)
"""Where the black quarter of `turned` is seen."""


def yolo(box) -> bytes:
    x0, y0, x1, y1 = box
    return f"PER {(x0 + x1) / 2} {(y0 + y1) / 2} {x1 - x0} {y1 - y0}".encode()


def stored(turn: int) -> tuple[float, float, float, float]:
    """Where it stands among the stored pixels."""
    return dark(Image.open(io.BytesIO(turned(turn, "PNG"))))


@pytest.mark.parametrize("turn", range(2, 9))
def test_boxes_are_read_on_the_upright_image_and_the_count_says_so(turn, tmp_path):
    found, notes = clip(folder(tmp_path / "v", {"9005/1.jpg": turned(turn), "9005/1.txt": yolo(SEEN)}))
    assert ((found.frames[0].width_px, found.frames[0].height_px), found.regions[0].box) == ((32, 64), SEEN)
    assert "read on the upright image; '--box-orientation stored' reads them the other way" in notes.changed[0].why


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(2, 9))
def test_boxes_on_the_stored_pixels_are_read_so_where_the_option_says_it(turn, kind, tmp_path):
    suffix = {"JPEG": "jpg"}.get(kind, kind.lower())
    files = {f"9005/1.{suffix}": turned(turn, kind), "9005/1.txt": yolo(stored(turn))}
    found, _ = clip(folder(tmp_path / "v", files), orientation="stored")
    assert found.regions[0].box == pytest.approx(SEEN)


def test_an_image_that_stands_upright_needs_no_word(tmp_path):
    _, notes = clip(folder(tmp_path / "v", {"9005/1.jpg": turned(1), "9005/1.txt": yolo(SEEN)}))
    assert notes.changed == []


def drawn(box, size) -> bytes:
    """A LabelMe file with the box, in pixels of an image of this size."""
    (width, height), (x0, y0, x1, y1) = size, box
    shape = PERSON | {"points": [[x0 * width, y0 * height], [x1 * width, y1 * height]]}
    return labelme(shape, size=size)


@pytest.mark.parametrize("turn", range(5, 9))
def test_the_size_in_a_labelme_file_tells_on_which_it_was_drawn(turn, tmp_path):
    for box, size, said in ((SEEN, (32, 64), 0), (stored(turn), (64, 32), 1)):
        root = tmp_path / str(size[0])
        found, notes = clip(folder(root, {"9005/1.jpg": turned(turn), "9005/1.json": drawn(box, size)}))
        assert found.regions[0].box == pytest.approx(SEEN)
        assert len(notes.changed) == said


@pytest.mark.parametrize("turn", range(2, 5))
def test_a_mirrored_image_has_one_size_both_ways_and_is_read_upright_by_name(turn, tmp_path):
    files = {"9005/1.jpg": turned(turn), "9005/1.json": drawn(SEEN, (32, 64))}
    found, notes = clip(folder(tmp_path / "v", files))
    assert found.regions[0].box == SEEN
    assert "read on the upright image" in notes.changed[0].why


def test_a_zip_holds_turned_images_too(tmp_path):
    found, _ = clip(archive(tmp_path / "9005.zip", {"1.jpg": turned(6), "1.txt": yolo(SEEN)}))
    assert (found.frames[0].width_px, found.frames[0].height_px) == (32, 64)


@pytest.mark.parametrize(("option", "box"), [("upright", SEEN), ("stored", stored(6))])
def test_m3d_reads_boxes_of_turned_images_by_its_option(option, box, tmp_path):
    root = m3d_clip(release(tmp_path, en=[EN]), f24_jpg=turned(6), f24_txt=yolo(box))
    imported = read_m3d(root, box_orientation=option)
    (example,) = imported.splits["dev"]
    assert example.gold.regions[0].box == pytest.approx(SEEN)
    assert (example.document.frames[0].width_px, example.document.frames[0].height_px) == (32, 64)


def test_tiff_comes_in_as_png_by_name(tmp_path):
    found, notes = clip(folder(tmp_path / "v", {"9005/1.tif": turned(1, "TIFF"), "9005/1.txt": BOX}))
    assert Image.open(io.BytesIO(found.images["frames/9005/1.png"])).format == "PNG"
    assert changes(notes) == [("frame", "it is a TIFF, which browsers do not show: converted to PNG")]


@pytest.mark.parametrize("suffix", ["heic", "HEIF", "avif", "jp2", "svg"])
def test_an_image_of_a_kind_that_is_not_read_is_one_line_with_its_boxes(suffix, tmp_path):
    _, notes = clip(folder(tmp_path / "v", {f"9005/1.{suffix}": b"x", "9005/1.txt": BOX, "9005/2.png": png()}))
    assert [(left.why, left.where) for left in notes.left_out] == [
        (
            f"{suffix.upper()} images are not supported: save it as JPEG or PNG",
            f"v/9005/1.{suffix}, with v/9005/1.txt",
        )
    ]


# --- archives and links -----------------------------------------------------------------------------------------------


def test_names_with_back_slashes_are_paths(tmp_path):
    found, notes = clip(archive(tmp_path / "all.zip", {"9005\\1.png": png(), "9009\\2.png": png()}))
    assert ([frame.index for frame in found.frames], notes.left_out) == ([1], [])


def test_names_in_gbk_are_read(tmp_path):
    path = archive(tmp_path / "all.zip", {"XXXX/1.png": png(), "b/1.png": png()})
    path.write_bytes(path.read_bytes().replace(b"XXXX", "北京".encode("gbk")))
    found, notes = clip(path, "北京", documents=("北京", "b"))
    assert ([frame.index for frame in found.frames], notes.left_out) == ([1], [])


def test_linked_folders_and_files_are_followed(tmp_path):
    folder(tmp_path / "real", {"1.png": png(), "2.png": png()})
    (tmp_path / "v/9009").mkdir(parents=True)
    (tmp_path / "v/9005").symlink_to(tmp_path / "real")
    (tmp_path / "v/9009/7.png").symlink_to(tmp_path / "real/1.png")
    assert len(clip(tmp_path / "v")[0].frames) == 2
    assert len(clip(tmp_path / "v", "9009")[0].frames) == 1


def test_links_that_lead_nowhere_or_in_a_circle_are_left_out_by_name(tmp_path):
    folder(tmp_path / "v", {"9005/1.png": png()})
    (tmp_path / "v/9005/again").symlink_to(tmp_path / "v")
    (tmp_path / "v/9005/2.png").symlink_to(tmp_path / "gone.png")
    _, notes = clip(tmp_path / "v")
    assert whys(notes) == [
        ("file", "it is a link that leads nowhere"),
        ("folder", "it is a link to a folder around it"),
    ]


# --- what LabelMe says beyond boxes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ({"group_id": 3}, "key 'group_id'"),
        ({"description": "Ada"}, "key 'description'"),
        ({"flags": {"occluded": True}}, "key 'occluded'"),
        ({"attributes": {"a": 1}}, "key 'attributes'"),
        ({"difficult": True}, "key 'difficult'"),
    ],
)
def test_what_a_shape_says_beyond_its_box_is_counted(extra, what, tmp_path):
    _, notes = clip(folder(tmp_path / "v", {"9005/1.png": png(), "9005/1.json": labelme(PERSON | extra)}))
    assert [(one.what, one.why) for one in notes.details] == [(what, "a corpus cannot represent it")]


@pytest.mark.parametrize("extra", [{"group_id": None}, {"description": ""}, {"flags": {"x": False}}, {"mask": None}])
def test_what_a_shape_does_not_say_is_not_counted(extra, tmp_path):
    _, notes = clip(folder(tmp_path / "v", {"9005/1.png": png(), "9005/1.json": labelme(PERSON | extra)}))
    assert notes.left_out == []


def test_the_name_of_another_frame_is_counted(tmp_path):
    value = json.loads(labelme(PERSON)) | {"imagePath": "..\\frames\\0077.png"}
    _, notes = clip(folder(tmp_path / "v", {"9005/1.png": png(), "9005/1.json": json.dumps(value).encode()}))
    assert "names the image of another frame" in notes.changed[0].why


# --- the importers that read boxes in pixels --------------------------------------------------------------------------


def voc(folder_: Path, turn: int, box, size) -> Path:
    (width, height), (x0, y0, x1, y1) = size, box
    edges = dict(zip(("xmin", "ymin", "xmax", "ymax"), (x0 * width, y0 * height, x1 * width, y1 * height), strict=True))
    box_xml = "".join(f"<{name}>{value}</{name}>" for name, value in edges.items())
    sizes = f"<size><width>{width}</width><height>{height}</height></size>"
    xml = f"<annotation><filename>1.jpg</filename>{sizes}<object><name>P</name><bndbox>{box_xml}</bndbox></object>"
    return folder(folder_, {"1.jpg": turned(turn), "1.xml": f"{xml}</annotation>".encode()})


@pytest.mark.parametrize("turn", range(5, 9))
def test_the_size_that_a_tool_says_tells_on_which_picture_its_boxes_lie(turn, tmp_path):
    for box, size in ((SEEN, (32, 64)), (stored(turn), (64, 32))):
        imported = find_importer("voc").read(voc(tmp_path / f"{size[0]}", turn, box, size))
        (example,) = imported.splits["train"]
        assert example.gold.regions[0].box == pytest.approx(SEEN)
        assert (example.document.frames[0].width_px, example.document.frames[0].height_px) == (32, 64)


@pytest.mark.parametrize("turn", range(2, 9))
@pytest.mark.parametrize("option", ["upright", "stored"])
def test_an_option_of_every_importer_of_images_sets_the_reading(turn, option, tmp_path):
    size = (32, 64) if option == "upright" or turn < 5 else (64, 32)
    root = voc(tmp_path / "v", turn, SEEN if option == "upright" else stored(turn), size)
    (example,) = find_importer("voc").by_options()(root, box_orientation=option).splits["train"]
    assert example.gold.regions[0].box == pytest.approx(SEEN)


def test_a_reading_that_may_be_wrong_is_said(tmp_path):
    imported = find_importer("voc").read(voc(tmp_path, 2, SEEN, (32, 64)))
    assert [change.why for change in imported.changed] == [reading(False)]
    imported = find_importer("voc").by_options()(tmp_path, box_orientation="stored")
    assert [change.why for change in imported.changed] == [reading(True)]


def sizeless(kind: str, folder_: Path, turn: int, box, size: tuple[int, int]) -> Path:
    """An annotation of one box of an image of that size, which it does not say, in pixels."""
    x0, y0, x1, y1 = (edge * size[i % 2] for i, edge in enumerate(box))
    if kind == "voc":
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (x0, y0, x1, y1), strict=True)
        text = "".join(f"<{name}>{value}</{name}>" for name, value in corners)
        text = f"<annotation><object><name>P</name><bndbox>{text}</bndbox></object></annotation>"
    elif kind == "coco":
        one = {"image_id": 1, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        images, types = [{"id": 1, "file_name": "1.jpg"}], [{"id": 1, "name": "P"}]
        text = json.dumps({"images": images, "categories": types, "annotations": [one]})
    else:
        span = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "label": "P", "type": "rect"}
        text = json.dumps({"image": "1.jpg", "spans": [span]})
    name = {"voc": "1.xml", "coco": "a.json", "prodigy": "a.jsonl"}[kind]
    return folder(folder_, {"1.jpg": turned(turn), name: text.encode()})


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("option", ["upright", "stored"])
@pytest.mark.parametrize("kind", ["voc", "coco", "prodigy"])
def test_boxes_in_pixels_of_an_image_without_a_size_are_read_as_the_option_says(kind, option, turn, tmp_path):
    box, size = (SEEN, (32, 64)) if option == "upright" or turn < 5 else (stored(turn), (64, 32))
    root = sizeless(kind, tmp_path / "v", turn, stored(turn) if option == "stored" else box, size)
    (example,) = find_importer(kind).by_options()(root, box_orientation=option).splits["train"]
    assert example.gold.regions[0].box == pytest.approx(SEEN)


@pytest.mark.parametrize("kind", ["voc", "coco", "prodigy"])
def test_a_box_that_only_the_stored_pixels_hold_was_drawn_on_them(kind, tmp_path):
    wide = Box(0.1, 0.1, 0.9, 0.4)
    imported = find_importer(kind).read(sizeless(kind, tmp_path / "v", 6, wide, (64, 32)))
    assert [change.why for change in imported.changed] == [reading(True)]
    assert imported.splits["train"][0].gold.regions[0].box == pytest.approx(turn_box(wide, 6))


def test_a_labelme_file_without_a_size_is_read_on_the_image_that_holds_its_boxes(tmp_path):
    value = json.loads(labelme(PERSON | {"points": [[50, 4], [60, 9]]}))
    del value["imageWidth"], value["imageHeight"]
    found, _ = clip(folder(tmp_path / "v", {"9005/1.jpg": turned(6), "9005/1.json": json.dumps(value).encode()}))
    assert found.regions[0].box == pytest.approx(turn_box(Box(50 / 64, 4 / 32, 60 / 64, 9 / 32), 6))


def test_a_frame_of_which_a_part_can_be_used_stays_annotated_and_is_counted(tmp_path):
    files = {"9005/1.png": png(), "9005/1.json": labelme(PERSON, PERSON | {"shape_type": "line"})}
    found, notes = clip(folder(tmp_path / "v", files))
    assert [frame.annotated for frame in found.frames] == [True]
    assert [change.why for change in notes.changed] == [PARTLY]


def test_an_image_of_pascal_voc_of_which_nothing_can_be_used_is_not_annotated(tmp_path):
    (example,) = find_importer("voc").read(voc(tmp_path, 1, (0.5, 0.5, 0.5, 0.5), (32, 64))).splits["train"]
    assert [frame.annotated for frame in example.document.frames] == [False]


def test_a_key_that_stands_twice_in_a_labelme_file_is_counted(tmp_path):
    data = labelme(PERSON).replace(b'"imageWidth": 64', b'"imageWidth": 9, "imageWidth": 64')
    _, notes = clip(folder(tmp_path / "v", {"9005/1.png": png(), "9005/1.json": data}))
    assert [(left.what, left.where) for left in notes.left_out] == [("key", "v/9005/1.json: $.imageWidth")]


@pytest.mark.parametrize("odd", [{"bbox": []}, {"bbox": [1, 1, 0, 0]}, {"category_id": 9}, {"iscrowd": 1}])
def test_an_image_of_coco_of_which_nothing_can_be_used_is_not_annotated(odd, tmp_path):
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]} | odd
    image = {"id": 1, "file_name": "1.png", "width": 64, "height": 48}
    value = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "P"}]}
    root = folder(tmp_path / "v", {"1.png": png(), "train.json": json.dumps(value).encode()})
    (example,) = find_importer("coco").read(root).splits["train"]
    assert [frame.annotated for frame in example.document.frames] == [False]


def test_every_importer_follows_linked_folders(tmp_path):
    voc(tmp_path / "real", 1, SEEN, (32, 64))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/sub").symlink_to(tmp_path / "real")
    assert len(find_importer("voc").read(tmp_path / "in").splits["train"]) == 1
