"""Log-probabilities of tokens as confidences of what they say."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.normalize import normalize
from m3dllm.systems.videollm.engines.base import Reply
from m3dllm.systems.videollm.likelihood import REGION, RELATION, Likelihood, joint_answer, place_of, with_confidences
from m3dllm.types import Document, Frame, RawOutput

ANSWER = (
    '{"chains":[{"id":"c0","type":"PER","mentions":["Ada",["She",1]]},{"id":"c1","type":"LOC","mentions":["Arles"]}],'
    '"relations":[{"head":"c0","tail":"c1","type":"born"}],"regions":[{"frame":24,"type":"PER","box":[0.1,0.2,0.3,0.4]}]}'
)
DOCUMENT = Document("d", "en", "Ada saw Arles . She left .", frames=(Frame(24, "24.png", 64, 48),))


def reply(text: str, sure: dict[str, float], *, size: int = 1) -> Reply:
    """A reply whose tokens have `size` characters; those that touch a text of `sure` share its probability."""
    logprobs = []
    for start in range(0, len(text), size):
        end = min(start + size, len(text))
        logprob = 0.0
        for words, probability in sure.items():
            at = text.index(words)
            touching = math.ceil((at + len(words)) / size) - at // size
            if start < at + len(words) and at < end:
                logprob += math.log(probability) / touching
        logprobs.append((end, logprob))
    return Reply(text=text, logprobs=tuple(logprobs))


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
).map(lambda value: {"value": value}))  # fmt: skip
def test_every_value_of_an_object_has_its_place(value):
    text = json.dumps(value, ensure_ascii=False)

    def agree(place, value):
        if isinstance(value, str):
            assert json.loads('"' + text[place.start : place.end]) == value
        else:
            assert json.loads(text[place.start : place.end]) == value
        for key, inner in value.items() if isinstance(value, dict) else ():
            agree(place.named[key], inner)
        for at, inner in zip(place.listed, value, strict=True) if isinstance(value, list) else ():
            agree(at, inner)

    agree(place_of(text), value)


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1} and more', '{"a": ', "Ada"])
def test_what_is_not_one_object_has_no_places(text):
    assert place_of(text) is None
    assert Likelihood.of(Reply(text=text, logprobs=((len(text), -1.0),))) is None


@pytest.mark.parametrize("size", [1, 3])
def test_the_parts_of_an_answer_have_the_probability_of_their_words(size):
    said = joint_answer(reply(ANSWER, {'Ada"': 0.5, '"PER","men': 0.8, 'born"': 0.25}, size=size))
    found = normalize(DOCUMENT, RawOutput("d", payload=said)).annotation
    if size == 1:  # longer tokens reach into their neighbours
        assert found.chains[0].mentions[0].confidence == pytest.approx(0.5 * 0.8**0.4, abs=0.001)
        assert found.relations[0].confidence == 0.25
        assert found.regions[0].confidence == 1
    assert all(0 <= m.confidence <= 1 for m in found.mentions)


def test_confidences_change_nothing_else_of_an_answer():
    plain = normalize(DOCUMENT, RawOutput("d", payload=ANSWER))
    sure = normalize(DOCUMENT, RawOutput("d", payload=joint_answer(reply(ANSWER, {}))))
    assert (sure.annotation, sure.issues) == (plain.annotation, plain.issues)
    assert [(m.confidence, m.link) for m in sure.annotation.mentions] == [(1, None), (1, 1), (1, None)]


def test_an_answer_without_log_probabilities_stays_as_it_is():
    assert joint_answer(Reply(text=ANSWER)) == ANSWER
    assert joint_answer(Reply(text=ANSWER[:-5], logprobs=((5, -1.0),))) == ANSWER[:-5]
    rows = [{"head": "c0", "tail": "c1", "type": "born"}]
    assert with_confidences(rows, Reply(text=ANSWER), "relations", RELATION) == rows


@pytest.mark.parametrize(
    "text",
    [
        '{"chains":[{"id":"c0","type":"PER","mentions":["Ada"]}],"chains":[]}',
        '{"chains":[{"id":"c0","type":"PER","mentions":["Ada"],"mentions":["She","Ada"]}]}',
    ],
)
def test_an_answer_that_has_a_key_twice_has_no_confidences(text):
    assert joint_answer(reply(text, {})) == text


def test_rows_that_are_not_those_of_the_text_have_no_confidence():
    assert with_confidences([{}, {}], reply(ANSWER, {}), "regions", REGION) == [{}, {}]
