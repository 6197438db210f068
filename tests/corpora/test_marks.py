"""Spans and links of tools become chains, relations and regions, and images become frames."""

from __future__ import annotations

import pytest

from m3dllm.corpora.frames import PARTLY, UNUSABLE
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.marks import Marks, language_of
from m3dllm.corpora.stills import find_image, still
from m3dllm.labels import LabelSet
from m3dllm.types import Box, Chain, Frame, Mention, Region, Relation
from tests.corpora.tools import changes, reasons
from tests.small import png


@pytest.fixture
def marks() -> Marks:
    return Marks("Ada met Bo and Cy", Imported(LabelSet()), "here")


def test_chains_stand_in_the_order_of_their_first_mentions(marks):
    for name, start, end in (("b", 8, 10), ("a", 0, 3), ("c", 15, 17)):
        marks.mention(name, start, end, "PER")
    marks.join(["c", "a"])
    marks.relate("c", "b", "met")
    gold = marks.gold()
    assert gold.chains == (
        Chain("c0", (Mention(0, 3, "PER"), Mention(15, 17, "PER"))),
        Chain("c1", (Mention(8, 10, "PER"),)),
    )
    assert gold.relations == (Relation("c0", "c1", "met"),)


def test_a_second_mention_of_a_span_stands_for_the_first_in_links(marks):
    marks.mention("a", 0, 3, "PER")
    marks.mention("again", 0, 3, "ORG")
    marks.mention("b", 8, 10, "PER")
    marks.relate("again", "b", "met")
    assert marks.gold().relations == (Relation("c0", "c1", "met"),)
    assert reasons(marks.notes) == [("mention", "its span is already a mention")]


def test_relations_that_cannot_stand_are_counted(marks):
    marks.mention("a", 0, 3, "PER")
    marks.mention("b", 8, 10, "PER")
    marks.join(["a", "b"])
    for head, tail, kind in (("a", "b", "met"), ("a", "nobody", "met"), ("a", "b", "")):
        marks.relate(head, tail, kind)
    assert marks.gold().relations == ()
    assert sorted(why for _, why in reasons(marks.notes)) == [
        "both of its ends are in the same chain",
        "it has no type",
        "one of its ends is not a mention",
    ]


def test_white_space_at_the_ends_of_spans_is_cut_off(marks):
    marks.mention("a", 3, 8, "PER")
    marks.mention("b", 3, 4, "PER")
    assert [chain.mentions for chain in marks.gold().chains] == [(Mention(4, 7, "PER"),)]
    assert changes(marks.notes) == [("mention", "leading or trailing white space was removed")]
    assert reasons(marks.notes) == [("mention", "it is only white space")]


def test_regions_are_cut_to_the_frame_and_tied_to_their_chains(marks):
    marks.mention("a", 0, 3, "PER")
    for n in range(2):
        marks.shows(Region(0, Box(-0.01, 0, 0.5, 0.5), "PER"), f"r{n}", "a")
    assert marks.gold().regions == (Region(0, Box(0, 0, 0.5, 0.5), "PER", "c0"),)
    assert reasons(marks.notes) == [("region", "it is a duplicate")]


def test_mentions_are_found_by_their_words(marks):
    marks.mention("a", 0, 7, "PER")
    assert (marks.named("Adamet"), marks.named("ada met"), marks.named("Bo")) == (["a"], ["a"], [])


def test_letters_tell_the_language_where_nobody_says_it():
    assert [language_of("苏珊", None), language_of("", None), language_of("苏珊", "en")] == ["zh", "en", "en"]


@pytest.mark.parametrize(
    "name",
    ["a b.png", "clips/a b.png", r"C:\data\clips\a b.png", "https://example.com/x/clips/a%20b.png?v=1",
     "/data/local-files/?d=clips/a%20b.png", "/data/upload/3/a b.png", "../../clips/a b.png"],
)  # fmt: skip
def test_an_image_is_found_by_the_end_of_its_name(tmp_path, name):
    (tmp_path / "clips").mkdir()
    for folder in (tmp_path, tmp_path / "clips"):
        (folder / "a b.png").write_bytes(png())
    assert find_image(name, [tmp_path]) in (tmp_path / "a b.png", tmp_path / "clips/a b.png")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../secret.png", "x" * 5000 + ".png", "a\0.png", "no.png"])
def test_what_is_no_image_in_the_folder_is_none(tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.png").write_bytes(png())
    assert find_image(name, [tmp_path / "in"]) is None


def test_a_broken_image_is_counted_and_its_size_stands(tmp_path):
    (tmp_path / "a.png").write_bytes(png()[:40])
    notes = Imported(LabelSet())
    frame = still("d", 3, tmp_path / "a.png", (10, 20), notes, where="a.png")
    assert (frame.path, frame.width_px, list(notes.images)) == ("frames/d/3.png", 10, ["frames/d/3.png"])
    assert reasons(notes) == [("image", "it is broken")]


@pytest.mark.parametrize("size", [None, (0, 5), (-3, -3), (10**6, 10**6)])
def test_an_image_without_a_file_or_a_size_is_none(size):
    assert still("d", 3, None, size, Imported(LabelSet()), where="a") is None


def test_a_frame_of_which_nothing_that_was_drawn_can_be_used_is_not_annotated(marks):
    frames = [Frame(n, f"{n}.jpg", 9, 9, annotated=True) for n in range(3)]
    marks.shows(Region(0, Box(0, 0, 5, 5), "PER"), "r0")
    marks.spoil(1)
    marks.shows(Region(1, Box(0, 0, 1, 1), "PER"), "r1")
    assert [frame.annotated for frame in marks.annotated_frames(frames)] == [False, True, True]
    assert changes(marks.notes) == [("frame", UNUSABLE), ("frame", PARTLY)]


@pytest.mark.parametrize("time_s", [-1.0, float("inf"), float("nan")])
def test_a_time_that_is_none_is_counted(time_s):
    notes = Imported(LabelSet())
    frame = still("d", 3, None, (9, 9), notes, where="a", time_s=time_s)
    assert frame is not None
    assert frame.time_s is None
    assert reasons(notes) == [("time of a frame", "it is not a valid time")]
