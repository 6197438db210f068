"""Types to JSON and back, and where an error stands."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.corpora.missing import Manifest
from m3dllm.errors import UserError
from m3dllm.types import (
    Annotation,
    Box,
    BoxForm,
    Chain,
    Document,
    Example,
    Failure,
    Frame,
    Issue,
    Mention,
    Prediction,
    RawOutput,
    Region,
    Relation,
    Turn,
)
from m3dllm.wire import (
    WireError,
    decode,
    decode_example,
    decode_labels,
    decode_prediction,
    decode_raw,
    encode,
    encode_annotation,
    encode_example,
    encode_labels,
    encode_prediction,
    encode_raw,
    read_labels,
    read_lines,
)
from tests.small import LABELS, example, examples

LINE = {
    "id": "a", "lang": "en", "text": "Ada met Bo",
    "frames": [{"index": 24, "path": "frames/a.png", "width_px": 8, "height_px": 8}],
    "gold": {
        "chains": [{"id": "c0", "mentions": [{"start": 0, "end": 3, "type": "PER"}]}],
        "relations": [],
        "regions": [{"frame": 24, "box": [0, 0, 1, 1], "type": "PER"}],
    },
}  # fmt: skip


def test_an_example_comes_back_as_it_was():
    for made in examples("x", 10):
        assert decode_example(encode_example(made)) == made


def test_the_keys_of_a_corpus_line_are_those_of_the_format():
    row = json.loads(encode_example(example("a", "[PER0 Ada] ran .", frames=1)))
    assert set(row) == {"id", "lang", "title", "group", "text", "tokens", "segments", "frames", "gold"}
    assert set(row["frames"][0]) == {"index", "path", "width_px", "height_px", "annotated"}
    assert row["gold"]["regions"][0]["box"] == [0.25, 0.25, 0.5, 0.75]


def test_labels_come_back_as_they_were():
    assert decode_labels(encode_labels(LABELS)) == LABELS


@pytest.mark.parametrize(
    "raw",
    [
        RawOutput("a"),
        RawOutput("a", "chains", payload={"chains": [{"mentions": ["苏珊", ["George", 2, 5]]}]}),
        RawOutput(
            "a", payload="text \u2028 🙂", turns=(Turn("joint", "ff", "said", "stop"),), seconds=0.5, tokens_in=3
        ),
        RawOutput("a", boxes=BoxForm("yxyx", {345: (1000.0, 1000.0)}, {345: (0.0, 16.0)})),
        RawOutput("a", error=Failure("dead", retryable=True)),
        RawOutput("a", error="bad"),
    ],
)
def test_a_raw_output_comes_back_as_it_was(raw):
    line = encode_raw(raw)
    assert json.loads(line)["format"] == 1
    assert decode_raw(line) == raw


@pytest.mark.parametrize("payload", ["\ud800", object()])
def test_an_answer_that_json_cannot_hold_is_refused(payload):
    with pytest.raises(WireError, match="cannot be written as JSON"):
        encode_raw(RawOutput("a", payload=payload))


@given(st.floats())
def test_whatever_box_was_predicted_a_prediction_is_written_and_read_again(x):
    annotation = Annotation(regions=(Region(24, Box(x, 0, 1, 1), "PER"),))
    read = decode_prediction(encode(Prediction("a", annotation, issues=(Issue("bad_geometry", "regions[0]", "x"),))))
    found = read.annotation.regions[0].box.x0
    assert found == x if math.isfinite(x) else math.isnan(found)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "null"])
def test_a_prediction_from_elsewhere_may_hold_numbers_that_are_none(number):
    region = f'{{"frame": 1, "box": [{number}, 0, 1, 1], "type": "PER", "chain": null}}'
    line = f'{{"document": "a", "annotation": {{"chains": [], "relations": [], "regions": [{region}]}}}}'
    assert not decode_prediction(line).annotation.regions[0].box.has_area


def edited(*path: str | int, value: object) -> bytes:
    line = json.loads(json.dumps(LINE))
    part = line
    for step in path[:-1]:
        part = part[step]
    if value is ...:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return json.dumps(line).encode()


@pytest.mark.parametrize(
    ("line", "place", "words"),
    [
        (edited("gold", "chains", 0, "mentions", 0, "start", value="0"), "$.gold.chains[0].mentions[0].start", "str"),
        (edited("gold", "chains", 0, "mentions", 0, "start", value=3), "$.gold.chains[0].mentions[0]", "backwards"),
        (edited("gold", "chains", 0, "mentions", 0, "end", value=99), "$", "ends at 99; the text has 10 characters"),
        (
            edited("gold", "relations", value=[{"head": "c0", "tail": "c7", "type": "x"}]),
            "$.gold",
            "relations[0].tail refers to 'c7', which is neither a chain nor a region",
        ),
        (edited("gold", "regions", 0, "box", value=[0.5, 0, 0.5, 1]), "$", "illegal box"),
        (edited("gold", "regions", 0, "frame", value=25), "$", "refers to frame 25"),
        (edited("gold", value=...), "$", "lacks the field 'gold'"),
        (edited("text", value=...), "$", "lacks the field 'text'"),
        (edited("lang", value="fr"), "$.lang", "fr"),
        (edited("given", value={"kind": "chains"}), "$.given", "set by the pipeline"),
        (b'{"id": "a",', "$", "not valid JSON"),
        (b"[]", "$", "object"),
        (b'{"id": "\xff"}', "$", "UTF-8"),
    ],
)
def test_an_error_says_where_and_what(line, place, words):
    with pytest.raises(WireError) as caught:
        decode_example(line)
    assert caught.value.place == place
    assert words in caught.value.message


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_json_does_not_have_is_named(word):
    with pytest.raises(WireError, match=f"{word.removeprefix('-')} is not a JSON number: write a finite one"):
        decode_example(f'{{"id": "a", "frames": [{word}]}}')


def test_an_error_in_a_file_names_its_line(tmp_path):
    good = json.dumps(LINE).encode()
    (tmp_path / "dev.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([good, b"", good, b'{"id": ']))
    with pytest.raises(UserError, match=r"dev\.jsonl:4: not valid JSON"):
        list(read_lines(tmp_path / "dev.jsonl", decode_example))


def test_utf_16_is_named_as_such(tmp_path):
    (tmp_path / "dev.jsonl").write_bytes("{}".encode("utf-16"))
    with pytest.raises(UserError, match="UTF-16"):
        list(read_lines(tmp_path / "dev.jsonl", decode_example))


def test_labels_of_a_later_format_are_refused(tmp_path):
    (tmp_path / "labels.json").write_text('{"format": 2}')
    with pytest.raises(UserError, match=r"labels\.json: \$\.format: is format 2"):
        read_labels(tmp_path / "labels.json")


def test_a_prediction_says_which_frames_were_shown_only_where_not_all_were():
    for frames in (None, (), (24, 48)):
        prediction = Prediction("d", Annotation(), frames=frames)
        assert decode_prediction(encode_prediction(prediction)) == prediction
        assert (b'"frames"' in encode_prediction(prediction)) == (frames is not None)


def test_a_word_that_cannot_stand_there_is_reported_with_those_that_can():
    with pytest.raises(WireError, match=r"^Invalid enum value 'fr'; expected en, zh$"):
        decode_example(b'{"id": "a", "lang": "fr", "text": "", "gold": {}}')


def test_the_words_of_a_table_are_told_too():
    with pytest.raises(WireError, match="'half'; expected full, no_text, no_video"):
        decode(b'{"kind": "thirds", "documents": {"a": "full", "b": "half"}}', Manifest)


SURE = Annotation(
    (Chain("c0", (Mention(0, 3, "PER", 0.9), Mention(8, 13, "PER", 0.8, 0.7))), Chain("c1", (Mention(4, 7, "LOC"),))),
    (Relation("c0", "c1", "PER-LOC_birth", 0.6),),
    (Region(0, Box(0, 0, 1, 1), "PER", "c0", 0.5), Region(0, Box(0, 0, 1, 1), "PER")),
)


def sure_of(annotation):
    """Every confidence of an annotation, which equality passes over."""
    mentions = [(m.confidence, m.link) for m in annotation.mentions]
    return mentions, [part.confidence for part in (*annotation.relations, *annotation.regions)]


def test_confidences_come_back_as_they_were():
    back = decode_prediction(encode_prediction(Prediction("a", SURE)))
    assert back == Prediction("a", SURE)
    assert sure_of(back.annotation) == sure_of(SURE)


def test_a_confidence_that_nobody_says_is_not_written():
    line = encode_prediction(Prediction("a", Annotation((Chain("c0", (Mention(0, 3, "PER"),)),))))
    assert json.loads(line)["annotation"]["chains"][0]["mentions"] == [{"start": 0, "end": 3, "type": "PER"}]


def test_an_annotation_that_came_in_as_a_prediction_keeps_its_confidences():
    document = Document("a", "en", "Ada in Arles.", frames=(Frame(0, "0.png", 1, 1),))
    assert sure_of(decode_example(encode_example(Example(document, SURE))).gold) == sure_of(SURE)


@pytest.mark.parametrize("sure", ["1.5", "-0.1", "NaN"])
def test_a_confidence_that_is_none_is_refused_with_its_place(sure):
    line = encode_prediction(Prediction("a", Annotation((Chain("c", (Mention(0, 3, "PER", 0.9),)),))))
    with pytest.raises(WireError, match="from 0 to 1"):
        decode_prediction(line.replace(b"0.9", sure.encode()))


def test_a_region_has_an_id_in_files_only_where_it_has_one():
    cup = Region(0, Box(0, 0, 1, 1), "cup")
    assert b'"id"' not in encode_annotation(Annotation(regions=(cup,)))
    assert b'"id":"r0"' in encode_annotation(Annotation(regions=(replace(cup, id="r0"),)))


def test_a_relation_with_a_region_is_read_again():
    frame = Frame(0, "0.png", 4, 4, annotated=True)
    cup = Region(0, Box(0, 0, 1, 1), "cup", id="r0")
    gold = Annotation((Chain("c0", (Mention(0, 3, "PER"),)),), (Relation("c0", "r0", "holds"),), (cup,))
    made = Example(Document("d", "en", "Ada", frames=(frame,)), gold)
    assert decode_example(encode_example(made)) == made
    assert decode_prediction(encode_prediction(Prediction("d", gold))) == Prediction("d", gold)
