"""Every problem of a corpus in one pass, each at its place."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from m3dllm.corpora.check import Report, check
from m3dllm.corpora.imported import Counts, Imported
from m3dllm.corpora.m3d import read_m3d
from m3dllm.corpora.native import load_corpus, write_corpus
from m3dllm.errors import UserError
from m3dllm.wire import encode_labels
from tests.corpora.mutations import mutated
from tests.small import LABELS, png, small_corpus

CLEAN = {
    "id": "a",
    "lang": "zh",
    "title": "苏珊",
    "group": "video 1",
    "text": "苏珊在北京见到乔治。",
    "tokens": [[0, 2], [2, 3], [3, 5]],
    "segments": [{"start": 0, "end": 10, "start_s": 0, "end_s": 4.5}],
    "frames": [
        {"index": 24, "path": "frames/a/24.png", "width_px": 64, "height_px": 48, "annotated": True},
        {"index": 48, "path": "frames/a/48.png", "width_px": 64, "height_px": 48, "annotated": False},
    ],
    "gold": {
        "chains": [
            {"id": "c0", "mentions": [{"start": 0, "end": 2, "type": "PER"}]},
            {"id": "c1", "mentions": [{"start": 3, "end": 5, "type": "LOC"}]},
            {"id": "c2", "mentions": [{"start": 7, "end": 9, "type": "PER"}]},
        ],
        "relations": [{"head": "c0", "tail": "c1", "type": "PER-LOC_birth"}],
        "regions": [{"frame": 24, "box": [0.1, 0.2, 0.4, 0.9], "type": "PER", "chain": "c0"}],
    },
}


def corpus_of(folder: Path, **splits: list[object]) -> Path:
    """A corpus with these lines (values, or bytes that stand as they are) and the two frames of CLEAN."""
    (folder / "frames/a").mkdir(parents=True)
    for index in (24, 48):
        (folder / f"frames/a/{index}.png").write_bytes(png())
    (folder / "labels.json").write_text(encode_labels(LABELS), encoding="utf-8")
    for split, lines in splits.items():
        texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        (folder / f"{split}.jsonl").write_bytes(b"\n".join(texts))
    return folder


def changed(**parts: object) -> dict[str, object]:
    """CLEAN with other fields; those of gold are given as gold_chains, gold_relations, gold_regions."""
    gold = {name.removeprefix("gold_"): part for name, part in parts.items() if name.startswith("gold_")}
    return {**CLEAN, **{n: p for n, p in parts.items() if not n.startswith("gold_")}, "gold": {**CLEAN["gold"], **gold}}


def found(report: Report) -> list[str]:
    """Problems and warnings without the folder's name."""
    lines = [*map(str, report.problems), *(f"warning: {warning}" for warning in report.warnings)]
    return [line.replace(f"{report.corpus}/", "") for line in lines]


def check_one(folder: Path, line: object) -> list[str]:
    return found(check(corpus_of(folder / "c", dev=[line])))


def test_a_clean_corpus_has_no_problem_and_is_counted(tmp_path):
    report = check(corpus_of(tmp_path / "c", dev=[CLEAN]))
    assert found(report) == []
    assert report.held[0].counts == Counts(documents=1, mentions=3, chains=3, relations=1, regions=1, frames=2)
    assert list(report.lines()) == [
        "split  lang  documents  mentions  chains  relations  regions  frames",
        "dev    zh            1         3       3          1        1       2",
        "0 problems, 0 warnings",
    ]


MENTION = {"start": 0, "end": 2, "type": "PER"}
FRAME = CLEAN["frames"][0]
REGION = CLEAN["gold"]["regions"][0]
ONE_PROBLEM = {
    "broken JSON": (b'{"id": "a",', ": not valid JSON"),
    "another kind of value": (b"17", ": Expected 'object', got 'int': found 17"),
    "wrong bytes": (b'{"id": "\xff"}', ": contains bytes that are not UTF-8"),
    "deep nesting": (b'{"a":' * 100_000, ": is nested too deeply"),
    "missing field": ({k: v for k, v in CLEAN.items() if k != "text"}, ": lacks the field 'text'"),
    "video out of the corpus": (
        changed(video={"path": "../a.mp4"}),
        ": $.video.path: path '../a.mp4' leads out of the folder",
    ),
    "type of a field": (changed(title=7), ": $.title: Expected 'str', got 'int': found 7"),
    "language": (changed(lang="fr"), ": $.lang: Invalid enum value 'fr'; expected en, zh: found 'fr'"),
    "id of two lines": (changed(id="a\nb"), ": $.id: the id 'a\\nb' has spaces at its ends or control characters"),
    "empty id": (changed(id=""), ": $.id: an id cannot be empty"),
    "id that is a path": (changed(id="../../x"), ": $.id: the id '../../x' reads as a path out of a folder"),
    "given": (changed(given={"kind": "chains"}), ": $.given: is set by the pipeline"),
    "token": (changed(tokens=[[0, 2], [9, 11]]), ": $.tokens[1]: is 9 to 11; the text has 10 characters"),
    "token of three": (changed(tokens=[[0, 2, 3]]), ": $.tokens[0]: Expected 'array' of length 2, got 3"),
    "segment": (
        changed(segments=[{"start": 0, "end": 11, "start_s": 0, "end_s": 1}]),
        ": $.segments[0].end: is 11; the text has 10 characters",
    ),
    "segment back in time": (
        changed(segments=[{"start": 0, "end": 10, "start_s": 2, "end_s": 1}]),
        ": $.segments[0]: segment runs backwards in time",
    ),
    "mention outside the text": (
        changed(
            gold_chains=[*CLEAN["gold"]["chains"], {"id": "c3", "mentions": [{"start": 9, "end": 11, "type": "PER"}]}]
        ),
        ": $.gold.chains[3].mentions[0].end: is 11; the text has 10 characters",
    ),
    "mention that is empty": (
        changed(
            gold_chains=[*CLEAN["gold"]["chains"], {"id": "c3", "mentions": [{"start": 9, "end": 9, "type": "PER"}]}]
        ),
        ": $.gold.chains[3].mentions[0]: mention runs backwards or is empty: 9 to 9",
    ),
    "mention with a word for a number": (
        changed(gold_chains=[*CLEAN["gold"]["chains"], {"id": "c3", "mentions": [{**MENTION, "start": "nine"}]}]),
        ": $.gold.chains[3].mentions[0].start: Expected 'int', got 'str': found 'nine'",
    ),
    "mention of an unknown type": (
        changed(
            gold_chains=[*CLEAN["gold"]["chains"], {"id": "c3", "mentions": [{"start": 9, "end": 10, "type": "X"}]}]
        ),
        ": $.gold.chains[3].mentions[0].type: unknown type 'X'; labels.json has LOC, PER",
    ),
    "empty chain": (
        changed(gold_chains=[*CLEAN["gold"]["chains"], {"id": "c3", "mentions": []}]),
        ": $.gold.chains[3].mentions: is empty: a chain has at least one mention",
    ),
    "chain id twice": (
        changed(
            gold_chains=[*CLEAN["gold"]["chains"], {"id": "c0", "mentions": [{"start": 9, "end": 10, "type": "PER"}]}]
        ),
        ": $.gold.chains[3].id: 'c0' is already in $.gold.chains[0]",
    ),
    "dangling relation": (
        changed(gold_relations=[{"head": "c0", "tail": "c9", "type": "PER-LOC_birth"}]),
        ": $.gold.relations[0].tail: refers to 'c9', which is neither a chain nor a region",
    ),
    "region with the id of a chain": (
        changed(gold_regions=[{**REGION, "id": "c0"}]),
        ": $.gold.regions[0].id: 'c0' is already in $.gold.chains[0]: chains and regions share their ids",
    ),
    "region id twice": (
        changed(gold_regions=[{**REGION, "id": "r0"}, {**REGION, "id": "r0", "box": [0.5, 0.2, 0.6, 0.9]}]),
        ": $.gold.regions[1].id: 'r0' is already in $.gold.regions[0]: chains and regions share their ids",
    ),
    "relation to itself": (
        changed(gold_relations=[{"head": "c0", "tail": "c0", "type": "PER-PER_couple"}]),
        ": $.gold.relations[0]: relation 'PER-PER_couple' joins 'c0' to itself",
    ),
    "relation of an unknown type": (
        changed(gold_relations=[{"head": "c0", "tail": "c1", "type": "X"}]),
        ": $.gold.relations[0].type: unknown type 'X'; labels.json has PER-LOC_birth, PER-PER_couple",
    ),
    "box": (
        changed(gold_regions=[{**REGION, "box": [0.1, 0.2, 1.5, 0.9]}]),
        ": $.gold.regions[0].box: is [0.1, 0.2, 1.5, 0.9]; expected 0 <= x0 < x1 <= 1",
    ),
    "box of three": (changed(gold_regions=[{**REGION, "box": [0.1, 0.2, 1.5]}]), ": $.gold.regions[0].box: Expected"),
    "region on no frame": (
        changed(gold_regions=[{**REGION, "frame": 7}]),
        ": $.gold.regions[0].frame: refers to frame 7, which the document does not have",
    ),
    "region of an unknown type": (
        changed(gold_regions=[{**REGION, "type": "LOC"}]),
        ": $.gold.regions[0].type: unknown type 'LOC'; labels.json has PER",
    ),
    "region of no chain": (
        changed(gold_regions=[{**REGION, "chain": "c9"}]),
        ": $.gold.regions[0].chain: refers to chain 'c9', which the document does not have",
    ),
    "frame twice": (
        changed(frames=[*CLEAN["frames"], CLEAN["frames"][1]]),
        ": $.frames[2].index: frame 48 is already in $.frames[1]",
    ),
    "negative frame": (
        changed(frames=[*CLEAN["frames"], {**FRAME, "index": -1}]),
        ": $.frames[2]: frame index -1 is negative",
    ),
    "frame that is not there": (
        changed(frames=[FRAME, {**FRAME, "index": 5, "path": "frames/a/5.png"}]),
        ": $.frames[1].path: 'frames/a/5.png': the file does not exist",
    ),
    "frame out of the corpus": (
        changed(frames=[FRAME, {**FRAME, "index": 5, "path": "../x.png"}]),
        ": $.frames[1].path: '../x.png': path '../x.png' leads out of the folder",
    ),
    "frame of another size": (
        changed(frames=[FRAME, {**FRAME, "index": 5, "width_px": 640}]),
        ": $.frames[1].path: 'frames/a/24.png': the image has 64 x 48 pixels; expected 640 x 48",
    ),
}


@pytest.mark.parametrize("what", ONE_PROBLEM)
def test_one_wrong_thing_is_one_problem_at_its_place(what, tmp_path):
    line, message = ONE_PROBLEM[what]
    findings = check_one(tmp_path, line)
    assert len(findings) == 1
    assert findings[0].startswith(f"dev.jsonl:1{message}")


@pytest.mark.parametrize("what", ONE_PROBLEM)
def test_what_check_calls_a_problem_load_refuses_except_for_the_files_of_frames(what, tmp_path):
    folder = corpus_of(tmp_path / "c", dev=[ONE_PROBLEM[what][0]])
    if what in ("frame that is not there", "frame of another size"):
        load_corpus(folder)
    else:
        with pytest.raises(UserError, match=r"dev\.jsonl:1"):
            load_corpus(folder)


SEGMENT = {"start": 0, "end": 5, "start_s": 0, "end_s": 4.5}
SPACED = {"id": "c0", "mentions": [{"start": 0, "end": 3, "type": "PER"}]}
ONE_WARNING = {
    "unknown field": (changed(note="x"), ": $.note: is not a known field and is ignored; expected id, lang, text"),
    "unknown field deep inside": (
        changed(gold_relations=[{**CLEAN["gold"]["relations"][0], "evidence": [1]}]),
        ": $.gold.relations[0].evidence: is not a known field and is ignored; expected head, tail, type",
    ),
    "span in two chains": (
        changed(gold_chains=[*CLEAN["gold"]["chains"], {"id": "c3", "mentions": [MENTION]}]),
        ": $.gold.chains[3].mentions[0]: its span is $.gold.chains[0].mentions[0] already: no answer can say both",
    ),
    "relation between other types": (
        changed(gold_relations=[{"head": "c1", "tail": "c0", "type": "PER-LOC_birth"}]),
        ": $.gold.relations[0]: joins LOC to PER; PER-LOC_birth joins PER to LOC",
    ),
    "region on a frame that nobody annotated": (
        changed(gold_regions=[REGION, {**REGION, "frame": 48}]),
        ": $.gold.regions[1].frame: frame 48 is not annotated: the region is not scored",
    ),
    "video that is not there": (
        changed(video={"path": "videos/a.mp4"}),
        ": $.video.path: 'videos/a.mp4' does not exist: pages only show the frames",
    ),
    "overlapping tokens": (
        changed(tokens=[[0, 3], [2, 4], [3, 5]]),
        ": $.tokens[1]: begins at 2, before the previous token ends at 3",
    ),
    "overlapping segments": (
        changed(segments=[SEGMENT, {**SEGMENT, "start": 3}]),
        ": $.segments[1]: begins at 3, before the previous segment ends at 5",
    ),
    "segments not in the order of time": (
        changed(segments=[{**SEGMENT, "start_s": 3}, {**SEGMENT, "start": 5, "end": 9, "start_s": 1}]),
        ": $.segments[1].start_s: is 1, before the 3 of the previous segment",
    ),
    "frames not in the order of time": (
        changed(frames=[{**frame, "time_s": time_s} for frame, time_s in zip(CLEAN["frames"], (9, 2), strict=True)]),
        ": $.frames[1].time_s: is 2, before the 9 of the previous frame",
    ),
    "frame with another hash": (
        changed(frames=[{**CLEAN["frames"][0], "sha256": "0" * 64}]),
        ": $.frames[0].sha256: 'frames/a/24.png' has another hash: it may not be the image that was annotated",
    ),
    "mention with a space": (
        changed(text="苏珊 北京", tokens=[], segments=[], gold_chains=[SPACED], gold_relations=[], gold_regions=[]),
        ": $.gold.chains[0].mentions[0]: '苏珊 ' begins or ends with white space: no answer does",
    ),
    "confidence in gold": (
        changed(gold_chains=[{"id": "c0", "mentions": [{**MENTION, "confidence": 0.5}]}, *CLEAN["gold"]["chains"][1:]]),
        ": $.gold.chains[0].mentions[0]: has a confidence: gold has none",
    ),
    "relation twice": (
        changed(gold_relations=[*CLEAN["gold"]["relations"]] * 2),
        ": $.gold.relations[1]: is $.gold.relations[0] again: no answer can match both",
    ),
    "region twice": (
        changed(gold_regions=[REGION, REGION]),
        ": $.gold.regions[1]: is $.gold.regions[0] again: no answer can match both",
    ),
}


@pytest.mark.parametrize("what", ONE_WARNING)
def test_what_is_legal_and_rarely_meant_is_one_warning(what, tmp_path):
    line, message = ONE_WARNING[what]
    findings = check_one(tmp_path, line)
    assert len(findings) == 1
    assert findings[0].startswith(f"warning: dev.jsonl:1{message}")
    load_corpus(tmp_path / "c")


def test_what_lies_outside_the_stretch_of_the_video_is_a_warning(tmp_path):
    video = {"path": "videos/a.mp4", "start_s": 5, "end_s": 9}
    assert [found.partition(": $.")[2] for found in check_one(tmp_path, changed(video=video))] == [
        "segments[0].start_s: is 0; the document covers 5 s to 9 s of its video",
        "video.path: 'videos/a.mp4' does not exist: pages only show the frames",
    ]


def test_guidelines_that_cannot_be_shown_are_problems_and_others_are_not_read(tmp_path):
    folder = corpus_of(tmp_path / "c", dev=[CLEAN])
    for name, text in (("en.md", ""), ("zh.md", "人"), ("md", "people")):
        (folder / f"guidelines.{name}").write_text(text, encoding="utf-8")
    assert found(check(folder)) == [
        "guidelines.en.md: is empty; expected what is annotated and what is not, in words",
        "warning: guidelines.md: is not read: guidelines are guidelines.en.md or guidelines.zh.md",
    ]


def test_every_problem_of_a_line_is_found(tmp_path):
    line = changed(
        id=" a",
        tokens=[[0, 99]],
        frames=[{**FRAME, "index": "x", "annotated": 1, "path": "a.png"}],
        gold_chains=[
            {"id": "c0", "mentions": [{"start": 0, "end": "x", "type": 5}, {"start": 9, "end": 99, "type": "X"}]}
        ],
        gold_relations=[{"head": "c0", "tail": "c9", "type": "X"}, {"head": "c0"}],
        gold_regions=[{"frame": 24, "box": [1, 1, 0, 0], "type": "PER"}, 5],
    )
    places = [finding.partition(": ")[2].partition(": ")[0] for finding in check_one(tmp_path, line)]
    assert sorted(places) == [
        "$.frames[0].annotated",
        "$.frames[0].index",
        "$.gold.chains[0].mentions[0].end",
        "$.gold.chains[0].mentions[0].type",
        "$.gold.chains[0].mentions[1].end",
        "$.gold.chains[0].mentions[1].type",
        "$.gold.regions[0].box",
        "$.gold.regions[1]",  # so that nobody knows whether it is what relations[0].tail refers to
        "$.gold.relations[0].type",
        "$.gold.relations[1]",
        "$.gold.relations[1]",
        "$.id",
        "$.tokens[0]",
    ]


def test_a_broken_chain_or_frame_does_not_make_references_to_it_problems(tmp_path):
    findings = check_one(tmp_path, changed(gold_chains=[{"mentions": []}, *CLEAN["gold"]["chains"][1:]]))
    assert [finding.partition(": ")[2] for finding in findings] == [
        "$.gold.chains[0]: lacks the field 'id'",
        "$.gold.chains[0].mentions: is empty: a chain has at least one mention",
    ]
    findings = check_one(tmp_path / "2", changed(frames=[{**FRAME, "width_px": 0}]))
    assert [finding.partition(": ")[2] for finding in findings] == ["$.frames[0]: frame of 0 x 48 pixels"]


def test_all_lines_and_splits_are_looked_at(tmp_path):
    lines = [changed(id=f"d{i}") for i in range(20)]
    lines[16] = b'{"id": "d16", "text"'
    report = check(corpus_of(tmp_path / "c", train=lines, dev=[changed(id="d3"), changed(id="e")], test=[b" "]))
    problems = [line.partition("; ")[0] for line in found(report) if not line.startswith("warning")]
    assert problems == [
        "train.jsonl:17: not valid JSON: Input data was truncated",
        "dev.jsonl:1: $.id: the id 'd3' is already in train.jsonl:4: ids must be unique",
        "test.jsonl: has no documents: expected one per line",
    ]
    assert [(held.split, held.counts.documents) for held in report.held] == [("train", 19), ("dev", 1)]
    assert list(report.lines())[-2:] == ["not counted: 2 documents with problems", "3 problems, 1 warning"]


def test_a_group_in_two_splits_is_a_warning(tmp_path):
    lines = {"train": [changed(id="a"), changed(id="b")], "test": [changed(id="c", group=""), changed(id="d")]}
    findings = found(check(corpus_of(tmp_path / "c", **lines)))
    assert len(findings) == 1
    assert findings[0].startswith(
        "warning: test.jsonl:2: $.group: group 'video 1' is in test and in train (train.jsonl:1)"
    )


@pytest.mark.parametrize(
    "text", ["Nobody had counted on the rain , and it rained for 12 hours .", "没有人料到会下雨，" * 6]
)
def test_a_text_in_two_splits_is_a_warning(text, tmp_path):
    plain = changed(text=text, tokens=[], segments=[], group="", gold_chains=[], gold_relations=[], gold_regions=[])
    lines = {"train": [plain | {"id": "a"}, plain | {"id": "b"}], "test": [plain | {"id": "c"}]}
    assert [line.partition(": what is")[0] for line in found(check(corpus_of(tmp_path / "c", **lines)))] == [
        "warning: test.jsonl:1: $.text: the same text is in train (train.jsonl:1)"
    ]


def test_a_folder_with_the_name_of_a_split_is_a_warning(tmp_path):
    root = corpus_of(tmp_path / "c", train=[CLEAN])
    (root / "test.jsonl").mkdir()
    assert found(check(root)) == [
        "warning: test.jsonl: is not read: it is a folder; a split is a file such as train.jsonl"
    ]


def test_documents_without_a_group_share_none(tmp_path):
    lines = {"train": [changed(id="a", group="")], "test": [changed(id="b", group="")]}
    assert found(check(corpus_of(tmp_path / "c", **lines))) == []


BROKEN_LABELS = {
    "UTF-16": ("{}".encode("utf-16"), ["labels.json: is UTF-16; expected UTF-8: save it as UTF-8"]),
    "no JSON": (b"{", ["labels.json: not valid JSON: Input data was truncated"]),
    "another version": (b'{"format": 2}', ["labels.json: $.format: is 2; this version reads format 1: update m3dllm"]),
    "many": (
        b"""{"mentions": [{"name": "PER"}, {"name": "LOC"}, {"name": "PER"}, {"name": ""}],
        "regions": [{"name": "PER ", "colour": "red"}],
        "relations": [{"name": "PER-LOC_birth", "head": ["X"]}, {"name": 5}, {"head": []}]}""",
        [
            "labels.json: $.relations[1].name: Expected 'str', got 'int': found 5",
            "labels.json: $.relations[2]: lacks the field 'name'",
            "labels.json: $.mentions[2].name: 'PER' is already in $.mentions[0]",
            "labels.json: $.mentions[3].name: is empty: a type needs a name",
            "labels.json: $.relations[0].head[0]: unknown type 'X'; labels.json has , LOC, PER, PER ",
            "dev.jsonl:1: $.gold.regions[0].type: unknown type 'PER'; labels.json has PER ",
            "warning: labels.json: $.regions[0].colour: is not a known field and is ignored; expected name, en, zh",
            "warning: labels.json: $.regions[0].name: 'PER ' has spaces at its ends or control characters",
            "warning: dev.jsonl:1: $.gold.relations[0]: joins PER to LOC; PER-LOC_birth joins X to any",
        ],
    ),
}


@pytest.mark.parametrize("what", BROKEN_LABELS)
def test_every_problem_of_the_labels_is_found(what, tmp_path):
    data, findings = BROKEN_LABELS[what]
    folder = corpus_of(tmp_path / "c", dev=[CLEAN])
    (folder / "labels.json").write_bytes(data)
    if what == "another version":
        (folder / "dev.jsonl").write_text(
            json.dumps(changed(frames=[], gold_chains=[], gold_relations=[], gold_regions=[]))
        )
    assert found(check(folder)) == findings


def test_a_missing_label_file_or_split_is_a_problem_and_the_rest_is_looked_at(tmp_path):
    folder = corpus_of(tmp_path / "c", dev=[changed(id="")])
    (folder / "labels.json").unlink()
    assert [finding.split(";")[0] for finding in found(check(folder))] == [
        "labels.json: does not exist",
        "dev.jsonl:1: $.id: an id cannot be empty",
    ]
    (folder / "dev.jsonl").unlink()
    assert "has no <split>.jsonl file" in found(check(folder))[1]
    with pytest.raises(UserError, match="absent: does not exist"):
        check(tmp_path / "absent")


def test_a_mark_at_the_beginning_is_a_warning_and_another_encoding_a_problem(tmp_path):
    folder = corpus_of(tmp_path / "c", dev=[b"\xef\xbb\xbf" + json.dumps(CLEAN).encode()])
    assert found(check(folder)) == [
        "warning: dev.jsonl: begins with a byte-order mark, which is ignored: save it as UTF-8 without one"
    ]
    (folder / "dev.jsonl").write_text(json.dumps(CLEAN), encoding="utf-16")
    assert found(check(folder)) == ["dev.jsonl: is UTF-16; expected UTF-8: save it as UTF-8"]


def jpeg() -> bytes:
    data = io.BytesIO()
    Image.effect_noise((64, 48), 90).save(data, "JPEG")
    return data.getvalue()


def webp() -> bytes:
    data = io.BytesIO()
    Image.effect_noise((64, 48), 90).save(data, "WEBP")
    return data.getvalue()


IMAGES = {
    "whole PNG": (png(), None),
    "whole JPEG": (jpeg(), None),
    "JPEG with bytes behind its end": (jpeg() + b"\0\0", None),
    "whole WebP": (webp(), None),
    "PNG cut off": (png()[:-20], "the image is damaged or truncated"),
    "PNG with a wrong checksum": (png()[:45] + b"\0" + png()[46:], "the image is damaged or truncated"),
    "JPEG cut off": (jpeg()[:-200], "the image is damaged or truncated"),
    "WebP cut off": (webp()[:-200], "the image "),
    "text": (b"no image at all", "is not in a supported image format"),
    "nothing": (b"", "is not in a supported image format"),
}


@pytest.mark.parametrize("what", IMAGES)
def test_a_frame_is_a_whole_image(what, tmp_path):
    data, problem = IMAGES[what]
    folder = corpus_of(tmp_path / "c", dev=[CLEAN])
    (folder / "frames/a/48.png").write_bytes(data)
    findings = found(check(folder))
    if problem is None:
        assert findings == []
    else:
        assert len(findings) == 1
        assert findings[0].startswith(f"dev.jsonl:1: $.frames[1].path: 'frames/a/48.png': {problem}")


def test_a_folder_in_the_place_of_a_frame_is_a_problem(tmp_path):
    folder = corpus_of(tmp_path / "c", dev=[CLEAN])
    (folder / "frames/a/48.png").unlink()
    (folder / "frames/a/48.png").mkdir()
    assert "the image cannot be read" in found(check(folder))[0]


def test_the_report_is_the_same_each_time_and_writes_as_json(tmp_path):
    folder = small_corpus(tmp_path / "c")
    (folder / "dev.jsonl").write_text('{"z": 1, "y": 2, "x": 3, "lang": "fr"}')
    first = check(folder)
    written = "\n".join(first.json())
    assert written == "\n".join(check(folder).json())
    assert json.loads(written)["problems"] == [asdict(problem) for problem in first.problems]
    assert list(json.loads(written)) == ["corpus", "problems", "warnings", "held", "uncounted"]


def test_of_very_many_problems_the_first_of_each_kind_are_shown(tmp_path):
    chains = [{"id": f"c{i}", "mentions": [{"start": 0, "end": 99, "type": "PER"}]} for i in range(300)]
    folder = corpus_of(tmp_path / "c", dev=[changed(gold_chains=chains), b'{"id": 3}'])
    report = check(folder)
    lines = [line.replace(f"{folder}/", "") for line in report.lines()]
    ends = [f"dev.jsonl:1: $.gold.chains[{i}].mentions[0].end: is 99; the text has 10 characters" for i in range(3)]
    assert lines[:3] == ends
    assert "dev.jsonl: $.gold.chains[…].mentions[…].end: 297 more problems; --report FILE has them all" in lines
    assert len(lines) < 20
    assert len(json.loads("".join(report.json()))["problems"]) == len(report.problems) > 300


@settings(suppress_health_check=list(HealthCheck), max_examples=120, deadline=None)
@given(line=mutated(CLEAN))
def test_check_finds_a_problem_just_where_load_stops(line, tmp_path_factory):
    """But for the files of the frames, which only check looks at."""
    folder = corpus_of(tmp_path_factory.mktemp("c") / "c", dev=[line])
    assert all(finding.isprintable() for finding in check(folder).lines())
    of_files = ("the image", "the file", "is not in a supported image format")
    problems = [p for p in check(folder).problems if not p.message.partition(": ")[2].startswith(of_files)]
    try:
        load_corpus(folder)
    except UserError:
        assert problems
    else:
        assert problems == []


@settings(suppress_health_check=list(HealthCheck), max_examples=60, deadline=None)
@given(labels=mutated(json.loads(encode_labels(LABELS))))
def test_check_finds_a_problem_in_labels_just_where_load_stops(labels, tmp_path_factory):
    folder = corpus_of(tmp_path_factory.mktemp("c") / "c", dev=[changed(frames=[], gold_regions=[])])
    (folder / "labels.json").write_text(json.dumps(labels))
    report = check(folder)
    try:
        load_corpus(folder)
    except UserError:
        assert report.problems
    else:
        assert report.problems == []


@settings(suppress_health_check=list(HealthCheck), max_examples=40, deadline=None)
@given(split=st.binary(max_size=60), labels=st.binary(max_size=30), image=st.binary(max_size=60))
def test_any_bytes_give_a_report(split, labels, image, tmp_path_factory):
    folder = corpus_of(tmp_path_factory.mktemp("c") / "c", dev=[split, CLEAN])
    (folder / "labels.json").write_bytes(labels)
    (folder / "frames/a/48.png").write_bytes(image)
    assert list(check(folder).lines())[-1] != "0 problems, 0 warnings"


def test_the_m3d_development_sets_have_their_published_counts(shared_data, tmp_path):
    write_corpus(tmp_path / "m3d", read_m3d(shared_data / "m3d"))
    assert list(check(tmp_path / "m3d").lines()) == [
        "split  lang  documents  mentions  chains  relations  regions  frames",
        "dev    en          205     3,457   1,885      1,388        0       0",
        "dev    zh          203     2,685   1,397        985        0       0",
        "0 problems, 0 warnings",
    ]


def test_an_empty_import_makes_a_corpus_without_documents_a_problem(tmp_path):
    write_corpus(tmp_path / "c", Imported(LABELS, {"dev": []}))
    assert found(check(tmp_path / "c")) == ["dev.jsonl: has no documents: expected one per line"]
