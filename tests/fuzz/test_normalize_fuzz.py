"""Whatever a system says, and whatever the document: a prediction that keeps every promise, and never a traceback."""

from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from m3dllm.normalize import CODES, normalize
from m3dllm.types import Annotation, BoxForm, Document, Frame, Prediction, RawOutput, Turn
from m3dllm.wire import decode_prediction, decode_raw, encode, encode_raw
from tests.strategies import LABELS, RELATIONS, TYPES, json_values

HARD = (
    "\"'“”`",
    '\\"',
    "\x00\x1f\u2028",
    "🎬👩‍👩‍👧",
    "שלום",
    "ﬁ Ⅷ ㍿",
    "</s><|im_end|>",
    "苏珊",
    "Ada",
    " ",
    "\ud800",
    "e\u0301",
    "```",
    "{[",
)
TEXTS = st.lists(st.sampled_from(HARD) | st.text(max_size=3), max_size=6).map("".join)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    frames = tuple(Frame(i, f"{i}.jpg", 64, 48) for i in draw(st.sampled_from([(), (0,), (24, 345)])))
    return Document("d", draw(st.sampled_from(("en", "zh"))), draw(TEXTS), frames=frames)


def deep(levels: int) -> object:
    value: object = []
    for _ in range(levels):
        value = [value]
    return value


ODD = st.sampled_from(
    [math.nan, math.inf, 10**400, -(10**400), "\ud800", "x" * 100_000, deep(50_000), {3: 4}, (), b"x"]
)
ANYTHING = json_values() | ODD
IDS = st.sampled_from(["c0", "c1", "", 0, 1.0, True, None, "\ud800"]) | ANYTHING
COUNTS = st.integers(-1, 4) | st.sampled_from(["2", 1.0, None, 10**400])
NUMBERS = st.sampled_from([0, 0.25, 1, -1, 1000, "0.5", None, math.nan, 10**400, True])


@st.composite
def answers(draw: st.DrawFn, document: Document) -> dict[str, object]:
    """An answer about the document: mostly of the right shape, and mostly wrong."""
    length = len(document.text)
    places = st.tuples(st.integers(-1, length + 1), st.integers(-1, length + 1))
    texts = places.map(lambda place: document.text[max(0, place[0]) : max(0, place[1])]) | TEXTS
    types = st.sampled_from(TYPES) | ANYTHING
    mentions = st.one_of(
        texts,
        texts.map(str.upper),
        st.tuples(texts, st.lists(COUNTS, max_size=3)).map(lambda pair: [pair[0], *pair[1]]),
        st.builds(lambda p, t: {"start": p[0], "end": p[1], "type": t}, places, types),
        st.builds(lambda t, n: {"text": t, "occurrence": n, "start": n}, texts, COUNTS),
        ANYTHING,
    )
    chains = st.builds(lambda i, t, m: {"id": i, "type": t, "mentions": m}, IDS, types, st.lists(mentions, max_size=4))
    relations = st.builds(
        lambda h, t, r: {"head": h, "tail": t, "type": r}, IDS, IDS, st.sampled_from(RELATIONS) | ANYTHING
    )
    regions = st.builds(
        lambda f, b, t, c: {"frame": f, "box": b, "type": t, "chain": c},
        st.sampled_from([0, 24, "345", 1]) | ANYTHING,
        st.lists(NUMBERS, min_size=3, max_size=5) | ANYTHING,
        types,
        IDS,
    )
    answer: dict[str, object] = {}
    for key, parts in (("chains", chains), ("relations", relations), ("regions", regions)):
        answer[key] = draw(st.lists(parts | ANYTHING, max_size=3) | ANYTHING)
    return answer | draw(st.sampled_from([{}, {"more": 1}, {3: 4}]))


FORMS = st.sampled_from(
    [None, BoxForm(), BoxForm("cxcywh", {0: (1000, 1000), 24: (1e-300, 3)}, {24: (math.inf, math.nan)})]
)


def keeps_every_promise(document: Document, prediction: Prediction, labels=None) -> bool:
    """Types, spans, frames and references fit; emptiness is explained; the prediction can be written and read."""
    annotation = prediction.annotation
    assert annotation != Annotation() or prediction.issues
    assert {issue.code for issue in prediction.issues} <= set(CODES)
    assert all(0 <= m.start < m.end <= len(document.text) for m in annotation.mentions)
    spans = [m.span for m in annotation.mentions]
    assert len(spans) == len(set(spans))
    assert {region.frame for region in annotation.regions} <= {frame.index for frame in document.frames}
    assert labels is None or not list(labels.unknown(annotation))
    line = encode(prediction)
    assert encode(decode_prediction(line)) == line
    return True


@settings(max_examples=300)
@given(st.data(), documents(), FORMS, st.sampled_from([None, LABELS]))
def test_any_object_is_normalized(data, document, form, labels):
    raw = RawOutput("d", payload=data.draw(answers(document)), boxes=form)
    assert keeps_every_promise(document, normalize(document, raw, labels), labels)


@given(documents(), ANYTHING, st.sampled_from(["stop", "length"]))
def test_any_value_is_normalized(document, payload, finish):
    prediction = normalize(document, RawOutput("d", payload=payload, turns=(Turn("joint", finish=finish),)), None)
    assert keeps_every_promise(document, prediction)


@settings(max_examples=200)
@given(st.data(), documents())
def test_any_text_is_normalized(data, document):
    marks = st.sampled_from(
        ['{"chains": [', '"mentions": [', '"Ada"', "'", '"', "{", "}", "[", "]", ",", ":", "```", "//"]
    )
    text = "".join(data.draw(st.lists(marks | st.sampled_from(HARD), max_size=20)))
    assert keeps_every_promise(document, normalize(document, RawOutput("d", payload=text), None))


SOUND = {
    "chains": [
        {"id": "c0", "type": "PER", "mentions": ["Ada", ["she", 2], {"start": 4, "end": 8}]},
        {"id": "c1", "type": "LOC", "mentions": ["Rome", 'the "Eternal" city']},
    ],
    "relations": [{"head": "c0", "tail": "c1", "type": "PER-LOC_birth"}],
    "regions": [{"frame": 0, "type": "PER", "box": [0, 0.5, 1, 1], "chain": "c0"}],
}
ROME = Document(
    "d", "en", 'Ada said she was from Rome , the "Eternal" city she left .', frames=(Frame(0, "0.jpg", 64, 48),)
)


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_answer_is_normalized_and_says_so(data):
    text = whole = json.dumps(SOUND)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        text = (
            text[:at]
            + data.draw(st.sampled_from(["", '"', "]", "{", ",", "\n"]))
            + text[at + data.draw(st.integers(0, 3)) :]
        )
    prediction = normalize(ROME, RawOutput("d", payload=text), None)
    assert keeps_every_promise(ROME, prediction)
    sound = normalize(ROME, RawOutput("d", payload=whole), None)
    assert sound.issues == ()
    assert prediction.issues or prediction.annotation == sound.annotation or _reads_as_json(text)


def _reads_as_json(text: str) -> bool:
    """Whether the damage left a whole answer, perhaps beside another sign: it may say something else, and nobody can
    know."""

    def answer(at: int) -> bool:
        try:
            found, _ = json.JSONDecoder(strict=False).raw_decode(text, at)
        except ValueError:
            return False
        return isinstance(found, dict) and "chains" in found

    return any(answer(at) for at, sign in enumerate(text) if sign == "{")


@given(st.integers(0, len(json.dumps(SOUND))))
def test_a_cut_off_answer_says_nothing_that_the_whole_does_not(at):
    text = json.dumps(SOUND)
    whole = normalize(ROME, RawOutput("d", payload=text), None).annotation
    part = normalize(ROME, RawOutput("d", payload=text[:at]), None)
    assert keeps_every_promise(ROME, part)
    assert set(part.annotation.mentions) <= set(whole.mentions)
    assert set(part.annotation.relations) <= set(whole.relations)
    assert {r.box for r in part.annotation.regions} <= {r.box for r in whole.regions}
    assert part.issues or at == len(text)


@given(st.data(), documents())
def test_an_answer_written_to_a_file_means_the_same(data, document):
    raw = RawOutput("d", payload=data.draw(answers(document)))
    try:
        json.dumps(raw.payload)  # bytes are no JSON
        line = encode_raw(raw)
    except (TypeError, ValueError, RecursionError):
        return  # no file can hold it
    written = normalize(document, decode_raw(line), None)
    assert encode(written.annotation) == encode(normalize(document, raw, None).annotation)


@example("{“]")
@example('a"b"')
@example("{]a")
@example('"a, ')
@example('{"chains":[1 ')
@example("```{")
@settings(max_examples=25)
@given(st.lists(st.sampled_from(list("\"'{}[]:,a1 \n\\“/#*")), min_size=1, max_size=6).map("".join))
def test_a_looping_answer_takes_no_longer_than_its_length(pattern):
    started = time.process_time()
    normalize(ROME, RawOutput("d", payload='{"chains": [{"id": "' + pattern * (20_000 // len(pattern))), None)
    assert time.process_time() - started < 15


def test_three_hundred_mentions_in_four_thousand_words_take_no_time():
    words = [f"w{i * i % 997}" for i in range(4000)]
    document = Document("d", "en", " ".join(words))
    texts = [" ".join(words[i : i + 1 + i % 3]) for i in range(0, 3900, 13)]
    chains = [{"id": f"c{i}", "type": "PER", "mentions": [text, text.upper()]} for i, text in enumerate(texts)]
    started = time.process_time()
    prediction = normalize(document, RawOutput("d", payload={"chains": chains}), None)
    assert time.process_time() - started < 10
    assert len(list(prediction.annotation.mentions)) > 1000


@pytest.mark.parametrize("said", ["啊", "啊啊", "x" * 100_000, '"' * 100_000])
def test_a_document_of_one_character_takes_no_time(said):
    document = Document("d", "zh", "啊" * 20_000)
    started = time.process_time()
    assert keeps_every_promise(
        document, normalize(document, RawOutput("d", payload={"chains": [{"type": "PER", "mentions": [said]}]}), None)
    )
    assert time.process_time() - started < 10
