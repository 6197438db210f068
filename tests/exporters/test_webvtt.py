"""Metadata tracks: what is said and seen at a time."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from m3dllm.export import Notes
from m3dllm.types import Annotation, Chain, Document, Example, Mention, Segment
from tests.exporters.sources import ADA, EMPTY, SUSAN, exported, files_of, source


def cues(text: str) -> list[tuple[str, dict]]:
    """(times, payload) of each cue."""
    head, *blocks = text.rstrip("\n").split("\n\n")
    assert head == "WEBVTT"
    return [(times, json.loads(payload)) for times, payload in (block.split("\n") for block in blocks)]


def test_segments_and_frames_are_cues_in_the_order_of_time():
    found = cues(exported("webvtt", ADA)["train/ada.vtt"])
    assert [times for times, _ in found] == [
        "00:00:01.000 --> 00:00:01.042",
        "00:00:01.000 --> 00:00:03.500",
        "00:00:04.000 --> 00:00:05.000",
    ]
    assert found[0][1]["regions"][0] == {"entity": "a", "type": "PER", "xywh": [25, 25, 25, 50]}
    assert [m["text"] for m in found[1][1]["mentions"]] == ["Ada", "Arles"]
    assert found[1][1]["relations"] == [{"head": "a", "type": "PER-LOC_birth", "tail": "b"}]
    assert found[2][1]["mentions"] == [{"entity": "a", "name": "Ada", "type": "PER", "text": "She"}]


def test_what_has_no_time_is_counted():
    notes = Notes()
    assert files_of("webvtt", source(SUSAN, EMPTY), notes) == {}
    assert [(note.what, note.where) for note in notes.left_out if note.why != "the format cannot represent it"] == [
        ("mention", "苏珊: 0"),
        ("mention", "苏珊: 4"),
        ("document", "苏珊"),
        ("document", "empty"),
    ]


def test_a_relation_whose_entities_are_never_mentioned_together_is_counted():
    apart = replace(ADA.document, segments=(Segment(0, 10, 0.0, 1.0), Segment(10, 23, 1.0, 2.0)))
    notes = Notes()
    files_of("webvtt", source(replace(ADA, document=apart)), notes)
    assert ("relation", "ada: PER-LOC_birth") in [(note.what, note.where) for note in notes.left_out]


def test_no_payload_holds_an_arrow_or_a_blank_line():
    text = "a --> b\n\nc"
    document = Document("d", "en", text, segments=(Segment(0, len(text), 3600, 3661.5),))
    track = exported("webvtt", Example(document, Annotation((Chain("c", (Mention(0, 9, "PER"),)),))))["train/d.vtt"]
    assert len(re.findall("-->", track)) == 1
    assert cues(track) == [
        (
            "01:00:00.000 --> 01:01:01.500",
            {
                "text": text,
                "mentions": [{"entity": "c", "name": text[:9], "type": "PER", "text": text[:9]}],
                "relations": [],
            },
        )
    ]
