"""GMNER: tweets whose boxes are named by the mentions that they show."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from m3dllm.corpora.gmner import read_gmner
from m3dllm.corpora.images import image_size
from m3dllm.errors import UserError
from m3dllm.types import Box
from tests.corpora.tools import changes, counts, reasons, words
from tests.corpora.voc import voc

TWEETS = "IMGID:7\nNick\tB-PER\nJonas\tI-PER\nin\tO\nRome\tB-LOC\n\nIMGID:8\nBo\tB-PER\n"


@pytest.fixture
def release(tmp_path) -> Path:
    """A release with two tweets, one of which has an XML file."""
    (tmp_path / "txt").mkdir()
    (tmp_path / "xml").mkdir()
    (tmp_path / "txt" / "train.txt").write_text(TWEETS, encoding="utf-8")
    (tmp_path / "xml" / "7.xml").write_text(voc("7.jpg", ("NickJonas", 10, 20, 30, 40)), encoding="utf-8")
    return tmp_path


def test_a_region_is_tied_to_the_mention_that_its_name_says(release):
    first, second = read_gmner(release).splits["train"]
    (region,) = first.gold.regions
    assert words(first) == [("PER", ["Nick Jonas"]), ("LOC", ["Rome"])]
    assert (region.type, region.chain, region.box) == ("PER", first.gold.chains[0].id, Box(0.1, 0.2, 0.3, 0.4))
    assert (first.document.frames[0].width_px, second.document.frames) == (100, ())


def test_boxes_may_stand_in_an_archive(release):
    with tarfile.open(release / "xml.tar.gz", "w:gz") as archive:
        archive.add(release / "xml" / "7.xml", "xml/7.xml")
    (release / "xml" / "7.xml").unlink()
    (release / "xml").rmdir()
    assert counts(read_gmner(release))["train"] == (2, 3, 3, 0, 1, 1)


def test_names_that_no_mention_or_several_have_are_counted(release):
    boxes = (("Zoe", 0, 0, 5, 5), ("rome", 0, 0, 5, 5), ("Rome", 90, 90, 100, 100))
    (release / "xml" / "7.xml").write_text(voc("7.jpg", *boxes), encoding="utf-8")
    (release / "xml" / "9.xml").write_text(voc("9.jpg"), encoding="utf-8")
    (release / "txt" / "train.txt").write_text(TWEETS.replace("in\tO", "Rome\tB-LOC\nin\tO"), encoding="utf-8")
    imported = read_gmner(release)
    assert reasons(imported) == [("region", "no mention has its name"), ("box file", "no tweet uses its image")]
    assert [why for what, why in changes(imported) if what == "region"] == [
        "several mentions have its name: assigned to the first"
    ] * 2
    assert len(imported.splits["train"][0].gold.regions) == 2


def test_without_an_image_a_grey_one_carries_the_regions_and_is_counted(release):
    imported = read_gmner(release)
    assert changes(imported) == [("image", "its file is missing: replaced by a grey image of its size")]
    assert image_size(imported.images["frames/7/0.png"]) == (100, 100)


def test_a_release_without_its_boxes_says_so(release):
    (release / "xml").rename(release / "annotations")
    (remark,) = read_gmner(release).remarks
    assert remark.why == "there is none: no mention is grounded; '--boxes PATH' reads one"


def test_what_is_no_archive_is_named(release):
    (release / "bad.tar").write_bytes(b"no")
    with pytest.raises(UserError, match="neither a folder nor a tar archive"):
        read_gmner(release, boxes=release / "bad.tar")


def test_the_released_ten_thousand_tweets(shared_data):
    imported = read_gmner(shared_data / "gmner/Twitter10000_v2.0")
    # IMGID lines, B- tags, <object>s and XML files
    assert counts(imported) == {
        "train": (7000, 11779, 11779, 0, 5652, 3925),
        "dev": (1500, 2450, 2450, 0, 1164, 832),
        "test": (1500, 2543, 2543, 0, 1242, 855),
    }
    assert reasons(imported) == []
