"""What is read of an answer in the middle of a conversation."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from m3dllm.systems.videollm.reading import complete, read_object

ANSWER = {"relations": [{"head": "c0", "tail": "c1", "type": "a"}, {"head": "c1", "tail": "c0", "type": "“b”"}]}


def codes(text: str) -> list[str]:
    return [issue.code for issue in read_object(text, "turns[0]")[1]]


def test_an_object_is_read_without_issues():
    assert read_object(json.dumps(ANSWER), "turns[0]") == (ANSWER, ())


def test_fences_thoughts_and_prose_around_it_are_passed_over():
    text = f"<think>{{no}}</think>Here it is:\n```json\n{json.dumps(ANSWER)}\n```\nDone."
    assert read_object(text, "turns[0]")[0] == ANSWER


def test_what_is_cut_off_is_kept_up_to_its_last_complete_element():
    text = json.dumps(ANSWER, ensure_ascii=False)
    cut = text[: text.index("“b")]
    assert read_object(cut, "turns[0]")[0] == {"relations": ANSWER["relations"][:1]}
    assert codes(cut) == ["truncated"]


def test_a_list_that_is_cut_off_loses_only_its_last_element():
    assert read_object('{"chains":[["m0","m4"],["m1","m', "")[0] == {"chains": [["m0", "m4"], ["m1"]]}
    assert read_object('{"PER":["Ada","Be', "")[0] == {"PER": ["Ada"]}


def test_malformed_json_is_mended_and_said_to_be():
    value, issues = read_object("{'relations': [{head: 'c0', 'tail': 'c1', 'type': 'a'},]}", "turns[0]")
    assert value == {"relations": [{"head": "c0", "tail": "c1", "type": "a"}]}
    assert [issue.code for issue in issues] == ["repaired"]


def test_a_text_without_an_object_is_empty_and_says_so():
    for text in ("", "I see nothing.", "[1, 2]", "null"):
        value, issues = read_object(text, "turns[0]")
        assert value == {}
        assert [issue.code for issue in issues] == ["not_json"]


@given(st.recursive(st.integers() | st.text(max_size=4), lambda x: st.lists(x, max_size=3), max_leaves=8), st.data())
def test_whatever_is_cut_off_what_is_kept_is_json(value, data):
    text = json.dumps({"a": value, "b": ["“", "\\", '"']}, ensure_ascii=False)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    kept = complete(cut)
    assert not kept or isinstance(json.loads(kept), dict)
