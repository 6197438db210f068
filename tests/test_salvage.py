"""The JSON object in what a model wrote."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.normalize.malformed import mend
from m3dllm.normalize.salvage import read_object
from m3dllm.types import Turn
from tests.said import codes, issues, one_chain, read, spans

# --- the JSON in a text -----------------------------------------------------------------------------------------------

WHOLE = '{"chains": [{"id": "c0", "type": "PER", "mentions": ["Susan"]}]}'


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        f"```json\n{WHOLE}\n```",
        f"Here is {{the}} answer:\n\n{WHOLE}\n\nI hope {{this}} helps.",
        f"<think>Maybe {WHOLE.replace('Susan', 'Bush')}? No.</think>{WHOLE}",
        f'{{"answer": {WHOLE}}}',
        WHOLE.replace(", ", ",\t\n"),
    ],
)
def test_an_answer_is_found_in_fences_and_among_prose(text):
    prediction = read(text)
    assert spans(prediction) == [(0, 5), (49, 54)]
    assert prediction.issues == ()


def test_thinking_that_never_ends_is_no_answer():
    assert codes(read(f"<think>Maybe {WHOLE}? Or")) == ["not_json"]


def test_of_two_answers_the_first_is_read():
    prediction = read(f"{WHOLE}\n{WHOLE.replace('Susan', 'Bush')}")
    assert spans(prediction) == [(0, 5), (49, 54)]
    assert codes(prediction) == ["extra_answer"]


def test_of_a_key_that_stands_twice_the_first_is_read():
    prediction = read('{"relations": [], "chains": [], "chains": [{"id": "c0"}]}')
    assert codes(prediction) == ["bad_shape", "empty_answer"]


@pytest.mark.parametrize(
    "text",
    [
        "{'chains': [{'id': 'c0', 'type': 'PER', 'mentions': ['Susan']}]}",
        '{"chains": [{"id": "c0", "type": "PER", "mentions": ["Susan",]},]}',
        "{chains: [{id: c0, type: PER, mentions: [Susan]}]}",
        "{“chains”: [{“id”: “c0”, “type”: “PER”, “mentions”: [“Susan”]}]}",
        '{"chains": [{"id": "c0" "type": "PER" "mentions": ["Susan"]}]}',
        '{"chains": [{"id": "c0", "type": "PER", "mentions": ["Susan"}]}',
        '{"chains": [{"id": "c0", "type": "PER", "mentions": ["Susan"]}}]}',
        '{"chains": [{{"id": "c0", "type": "PER", "mentions": ["Susan"]}]}',
        '{"chains": [{"id": "c0, "type": "PER", "mentions: ["Susan"]}]}',
        '"chains": [{"id": "c0", "type": "PER", "mentions": ["Susan"]}]}',
        '{"chains": [ // people\n {"id": "c0", "type": "PER", /* her */ "mentions": ["Susan"]}]}',
        '{"chains": [{"id": "c0", "type": "PER", "mentions": ["Susan"], "x": None}], "relations": [],}',
    ],
)
def test_malformed_json_is_repaired_and_says_so(text):
    prediction = read(text)
    assert spans(prediction) == [(0, 5), (49, 54)]
    assert codes(prediction)[0] == "repaired"


def test_an_object_that_is_closed_too_early_goes_on():
    text = WHOLE + ', "relations": [{"head": "c0", "tail": "c0", "type": "r"}]}'
    assert mend(text, 0).value["relations"] == [{"head": "c0", "tail": "c0", "type": "r"}]


def test_of_a_key_that_stands_twice_in_malformed_json_the_first_is_read():
    assert mend("{'chains': [1], 'chains': []}", 0).value == {"chains": [1]}


def test_a_quote_inside_a_text_need_not_be_escaped():
    prediction = read('{"chains": [{"type": "PER", "mentions": ["the "New York" man"]}]}', 'He is the "New York" man .')
    assert spans(prediction) == [(6, 24)]


def test_a_number_of_five_thousand_digits_is_read():
    assert codes(read('{"chains": [], "regions": [' + "9" * 5000 + "]}")) == ["bad_shape"]


def test_an_answer_deeper_than_any_stack_is_read():
    deep = "[" * 100_000 + "]" * 100_000
    prediction = read(f'{{"chains": [{{"type": "PER", "mentions": ["Susan"], "deep": {deep}}}]}}')
    assert spans(prediction) == [(0, 5), (49, 54)]


KEYS = st.text(max_size=4)
LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.5, -1e-3]) | st.text(max_size=6)
OBJECTS = st.dictionaries(
    KEYS,
    st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)),
    max_size=4,
)


@given(OBJECTS, st.booleans(), st.sampled_from([None, 1]))
def test_the_tolerant_reader_reads_json_as_json_does(value, ascii_only, indent):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert mend(text, 0).value == value
    assert mend(text, 0).end == len(text)


# --- cut off ----------------------------------------------------------------------------------------------------------


def test_a_cut_off_chain_keeps_its_complete_mentions():
    prediction = read('{"chains": [{"id": "c0", "type": "PER", "mentions": ["Susan", ["George", 2], "Bu')
    assert spans(prediction) == [(0, 5), (49, 54), (36, 42)]
    assert issues(prediction) == [("truncated", "chains[0].mentions[2]")]
    assert "Bu" in prediction.issues[0].detail


@pytest.mark.parametrize("half", ['["George", 2', '{"start": 0, "end": 5', '"Susa', "nul", '["George"', ""])
def test_half_of_a_mention_is_nothing(half):
    prediction = read(f'{{"chains": [{{"id": "c0", "type": "PER", "mentions": ["Bush", {half}')
    assert spans(prediction) == [(17, 21)]
    assert codes(prediction) == ["truncated"]


def test_half_of_a_relation_or_region_is_nothing():
    whole = json.dumps(
        {
            "chains": [{"id": "a", "type": "P", "mentions": ["Susan"]}, {"id": "b", "type": "P", "mentions": ["Bush"]}],
            "relations": [{"head": "a", "tail": "b", "type": "r"}, {"head": "b", "tail": "a", "type": "r"}],
            "regions": [
                {"frame": 24, "type": "P", "box": [0, 0, 1, 1]},
                {"frame": 24, "type": "P", "box": [0, 0, 1, 1]},
            ],
        }
    )
    in_relation = read(whole[: whole.rindex('"type": "r"')])
    assert len(in_relation.annotation.relations) == 1
    assert issues(in_relation) == [("truncated", "relations[1]")]
    in_region = read(whole[:-5])
    assert len(in_region.annotation.regions) == 1
    assert issues(in_region) == [("truncated", "regions[1].box[3]")]


def test_a_cut_off_answer_in_a_fence_is_a_cut_off_answer():
    prediction = read('```json\n{"chains": [{"id": "c0", "type": "PER", "mentions": ["Susan", ["Geo\n```')
    assert spans(prediction) == [(0, 5), (49, 54)]
    assert codes(prediction) == ["truncated"]


def test_an_answer_that_is_cut_off_before_anything_is_complete_is_not_an_empty_one():
    assert codes(read('{"chains": [{"id": "c')) == ["truncated"]


def test_a_malformed_answer_may_be_cut_off_too():
    prediction = read("{'chains': [{'id': 'c0', 'type': 'PER', 'mentions': ['Susan', 'Bush'], }, {'id': 'c1', 'men")
    assert spans(prediction) == [(0, 5), (49, 54), (17, 21)]
    assert {"truncated", "repaired"} <= set(codes(prediction))


def test_a_turn_that_reached_its_longest_answer_is_truncated():
    turns = (Turn("chains", finish="length"), Turn("relations", finish="stop"))
    assert issues(read(one_chain("Susan"), turns=turns)) == [("truncated", "turns[0]")]


def test_a_cut_is_counted_once():
    text = '{"chains": [{"id": "c0", "type": "PER", "mentions": ["Susan", "Bu'
    assert codes(read(text, turns=(Turn("joint", text=text, finish="length"),))) == ["truncated"]


@given(st.data())
def test_every_element_that_is_complete_at_the_cut_is_kept(data):
    names = data.draw(st.lists(st.integers(0, 99).map(lambda n: f"n{n}"), min_size=1, max_size=5, unique=True))
    text, ends = '{"chains": [{"id": "a", "type": "P", "mentions": [', []
    for i, name in enumerate(names):
        text += (", " if i else "") + json.dumps(name)
        ends.append(len(text))
    complete = len(text) + len("]}]}")
    text += "]}]}"
    at = data.draw(st.integers(1, len(text)))
    value, problems = read_object(text[:at])
    kept = [mention for chain in value.get("chains", []) for mention in chain.get("mentions", [])]
    assert kept == [name for name, end in zip(names, ends, strict=True) if end <= at]
    assert [issue.code for issue in problems] == ([] if at == complete else ["truncated"])
