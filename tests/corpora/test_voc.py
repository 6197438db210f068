"""Pascal VOC: an XML file an image."""

from __future__ import annotations

import pytest

from m3dllm.corpora.voc import read_voc
from m3dllm.errors import UserError
from m3dllm.types import Box
from tests.corpora.tools import changes, counts, reasons
from tests.corpora.voc import voc
from tests.small import png


def test_an_image_is_a_document_with_its_boxes(tmp_path):
    (tmp_path / "cat.png").write_bytes(png(100, 100))
    (tmp_path / "cat.xml").write_text(voc("cat.png", ("cat", 10, 20, 30, 40)), encoding="utf-8")
    imported = read_voc(tmp_path / "cat.xml")
    (example,) = imported.splits["train"]
    assert (example.document.id, example.document.text, example.document.frames[0].annotated) == ("cat", "", True)
    assert [(r.type, r.box, r.chain) for r in example.gold.regions] == [("cat", Box(0.1, 0.2, 0.3, 0.4), None)]
    assert example.unannotated == {"entity", "chain", "relation"}
    assert imported.images == {"frames/cat/0.png": tmp_path / "cat.png"}
    assert imported.left_out == []


@pytest.mark.parametrize("named", ["b.png", "b", "b.JPG", ""])
def test_the_image_of_a_file_is_that_of_its_own_name(tmp_path, named):
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(png(100, 100))
    (tmp_path / "a.xml").write_text(voc(named, ("cat", 10, 20, 30, 40)), encoding="utf-8")
    imported = read_voc(tmp_path)
    assert imported.images == {"frames/a/0.png": tmp_path / "a.png"}
    assert [one.what for one in imported.remarks] == ["image"] * bool(named)


@pytest.mark.parametrize("image", ["a.png", "a.JPG", "images/a.jpeg", "JPEGImages/a.PNG"])
def test_an_image_is_found_whatever_its_suffix(tmp_path, image):
    for folder in ("images", "JPEGImages", "Annotations"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    place = tmp_path / "set" / (image if "/" in image else f"Annotations/{image}")
    place.write_bytes(png(100, 100))
    (tmp_path / "set/Annotations/a.xml").write_text(voc("a", ("cat", 10, 20, 30, 40)), encoding="utf-8")
    assert list(read_voc(tmp_path).images.values()) == [place]


def test_boxes_are_scaled_to_the_image_that_is_there(tmp_path):
    (tmp_path / "cat.png").write_bytes(png(50, 50))
    (tmp_path / "cat.xml").write_text(voc("cat.png", ("cat", 10, 20, 30, 40)), encoding="utf-8")
    imported = read_voc(tmp_path)
    assert imported.splits["train"][0].gold.regions[0].box == Box(0.1, 0.2, 0.3, 0.4)
    assert changes(imported) == [("image", "its size differs from that of its boxes: they were scaled")]


def test_corners_may_stand_in_any_order_and_what_is_no_box_is_counted(tmp_path):
    boxes = (("cat", 30, 40, 10, 20), ("dog", 5, 5, 5, 9), ("far", 90, 90, 150, 100), ("", 1, 1, 2, 2))
    (tmp_path / "a.xml").write_text(voc("a.jpg", *boxes), encoding="utf-8")
    imported = read_voc(tmp_path)
    assert [r.type for r in imported.splits["train"][0].gold.regions] == ["cat"]
    assert sorted(why for what, why in reasons(imported) if what == "region") == [
        "it has no type",
        "its box extends beyond the frame",
        "its box has no area",
    ]


def test_images_on_which_nothing_that_is_drawn_can_be_used_are_no_import(tmp_path):
    (tmp_path / "a.xml").write_text(voc("a.jpg", ("cat", -50, -50, 200, 200)))
    with pytest.raises(UserError, match="no mention or region is left"):
        read_voc(tmp_path).require_gold(tmp_path)


def test_an_image_without_a_size_is_left_out(tmp_path):
    (tmp_path / "a.xml").write_text(voc("a.jpg", ("cat", 1, 1, 2, 2)), encoding="utf-8")
    (tmp_path / "b.xml").write_text(voc("b.jpg", ("cat", 1, 1, 2, 2), size=None), encoding="utf-8")
    assert ("document", "its image has no size") in reasons(read_voc(tmp_path))


@pytest.mark.parametrize(
    ("declared", "written"),
    [("GBK", "gbk"), ("gb2312", "gbk"), ("big5", "big5"), ("Shift_JIS", "shift_jis"), ("GB18030", "gb18030")],
)
def test_a_file_is_read_in_the_encoding_that_it_declares(tmp_path, declared, written):
    text = f'<?xml version="1.0" encoding="{declared}"?>\n' + voc("a.jpg", ("演員", 10, 20, 30, 40))
    (tmp_path / "a.xml").write_bytes(text.encode(written))
    assert [r.type for r in read_voc(tmp_path).splits["train"][0].gold.regions] == ["演員"]


@pytest.mark.parametrize(
    ("declared", "written", "said"),
    [
        ("big5", "utf-8", "declares encoding='big5'"),
        ("gbk", "utf-8", "declares encoding='gbk' and is in UTF-8"),
        ("iso-8859-1", "utf-8", "declares encoding='iso-8859-1' and is in UTF-8"),
        ("hex", "utf-8", "declares encoding='hex': the encoding is unknown"),
        ("utf-7", "utf-8", "declares encoding='utf-7': the encoding is unknown"),
    ],
)
def test_a_file_in_another_encoding_than_it_declares_is_one_line(tmp_path, declared, written, said):
    text = f'<?xml version="1.0" encoding="{declared}"?>\n' + voc("a.jpg", ("演员", 10, 20, 30, 40))
    (tmp_path / "a.xml").write_bytes(text.encode(written))
    with pytest.raises(UserError, match=f"a.xml: {said}"):
        read_voc(tmp_path)


def test_a_document_type_is_refused_in_every_encoding(tmp_path):
    text = '<?xml version="1.0" encoding="gbk"?><!DOCTYPE a [<!ENTITY b "c">]>' + voc("a.jpg", ("演员", 1, 1, 2, 2))
    (tmp_path / "a.xml").write_bytes(text.encode("gbk"))
    with pytest.raises(UserError, match="declares a document type"):
        read_voc(tmp_path)


def test_boxes_in_fractions_and_second_boxes_are_counted(tmp_path):
    text = voc("a.jpg", ("cat", 0.1, 0.1, 0.3, 0.4), ("dog", 1, 1, 5, 5))
    second = "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    (tmp_path / "a.xml").write_text(text.replace("</object></annotation>", second))
    assert sorted(reasons(read_voc(tmp_path))) == [
        ("box of a region", "it has another one"),
        ("region", "its numbers are fractions of the image, not pixels"),
    ]


def test_lists_of_images_tell_their_split(tmp_path):
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/val.txt").write_text("a\n")
    (tmp_path / "Annotations").mkdir()
    for name in ("a", "b"):
        (tmp_path / "Annotations" / f"{name}.xml").write_text(voc(f"{name}.jpg", ("cat", 1, 1, 9, 9)))
    assert counts(read_voc(tmp_path)) == {"dev": (1, 0, 0, 0, 1, 1), "train": (1, 0, 0, 0, 1, 1)}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"<annotation>", "is not valid XML"),
        (b"<other/>", "begins with <other>; expected <annotation>"),
        (b"<!DOCTYPE x [<!ENTITY e 'a'>]><annotation>&e;</annotation>", "declares a document type"),
        (b"\xff\xfe\x00", "is not valid XML"),
        (
            f"<annotation>\n{'第二张图片里的人物'}".encode("gbk"),
            r":2: byte .* is not UTF-8: save .* \(it looks like GBK\)",
        ),
    ],
)
def test_what_is_no_voc_is_named(tmp_path, data, why):
    (tmp_path / "a.xml").write_bytes(data)
    with pytest.raises(UserError, match=why):
        read_voc(tmp_path / "a.xml")


def test_the_sets_of_datumaro(shared_data):
    data = shared_data / "cvat_datumaro_assets/tests/assets/voc_dataset"
    first = read_voc(data / "voc_dataset1")  # two objects, one with a part
    assert counts(first) == {"train": (1, 0, 0, 0, 2, 1)}
    assert reasons(first) == [("part of a region", "a corpus cannot represent parts")]
    with pytest.raises(UserError, match="neither its file nor its size"):
        read_voc(data / "voc_dataset2")
