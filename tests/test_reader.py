"""One reader of answers: what models write around, instead of, and in the place of the answer form."""

from __future__ import annotations

import json

import pytest

from m3dllm.normalize.salvage import is_whole, read_object
from m3dllm.systems.videollm.reading import has_shape, rows, strings
from m3dllm.systems.videollm.reading import read_object as read_stage
from m3dllm.systems.videollm.strategies.choices import read_letter
from m3dllm.types import BoxForm, Issue
from tests.said import codes, one_chain, read, spans

WHOLE = '{"chains": [{"id": "c0", "type": "PER", "mentions": ["Susan"]}]}'
OTHER = WHOLE.replace("Susan", "Bush")
SUSAN = [(0, 5), (49, 54)]
TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<THINK>", "</THINK>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<seed:think>", "</seed:think>"),
    ("<analysis>", "</analysis>"),
    ("<scratchpad>", "</scratchpad>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
)


@pytest.mark.parametrize(("begin", "end"), TAGS)
def test_drafts_in_any_think_tag_are_passed_over(begin, end):
    assert spans(read(f"{begin}First {OTHER}, or {OTHER[:40]}?{end}\n{WHOLE}")) == SUSAN


@pytest.mark.parametrize(("begin", "end"), TAGS)
def test_an_answer_that_stands_only_among_thoughts_is_its_last_one_and_says_so(begin, end):
    prediction = read(f"{begin}First {OTHER}. No: {WHOLE}{end} Done.")
    assert spans(prediction) == SUSAN
    assert codes(prediction) == ["repaired"]


@pytest.mark.parametrize(("begin", "_end"), TAGS)
def test_thoughts_that_never_end_are_no_answer(begin, _end):
    assert codes(read(f"{begin}Maybe {WHOLE}? Or")) == ["not_json"]


@pytest.mark.parametrize(
    "text",
    [
        f'{{"answer": {WHOLE}}}',
        f'{{"result": {{"data": {WHOLE}}}}}',
        f"[{WHOLE}]",
        json.dumps({"output": WHOLE}),
        json.dumps({"answer": "below", "json": [json.loads(WHOLE)]}),
    ],
)
def test_what_is_wrapped_is_read(text):
    assert spans(read(text)) == SUSAN


@pytest.mark.parametrize(
    "text",
    [
        WHOLE.replace("chains", "Chains"),
        WHOLE.upper().replace("SUSAN", "Susan"),
        WHOLE.replace('"id"', '"ID"').replace('"type"', '"Type"').replace('"mentions"', '"Mentions"'),
    ],
)
def test_keys_in_another_case_are_read(text):
    assert spans(read(text)) == SUSAN


@pytest.mark.parametrize(
    "text",
    [
        '[{"id": "c0", "type": "PER", "mentions": ["Susan"]}]',
        "Here:\n```json\n[{'id': 'c0', 'type': 'PER', 'mentions': ['Susan']}]\n```",
        '[{"id": "c0", "type": "PER", "mentions": ["Susan"',
    ],
)
def test_a_list_alone_is_the_list_that_its_rows_fit(text):
    assert spans(read(text)) == SUSAN


def test_a_list_of_regions_alone_is_read():
    assert len(read('[{"bbox_2d": [0, 0, 1, 1], "label": "PER", "frame": 24}]').annotation.regions) == 1


SCHEMA = json.dumps({"type": "object", "properties": {"chains": {"type": "array"}}, "required": ["chains"]})


def test_an_echoed_schema_is_no_answer_and_not_an_empty_one():
    assert codes(read(SCHEMA)) == ["not_json"]
    assert "schema" in read(SCHEMA).issues[0].detail


def test_an_answer_after_an_echoed_schema_is_read():
    assert spans(read(f"The schema is {SCHEMA}. So:\n{WHOLE}")) == SUSAN


def test_an_answer_written_into_the_schema_is_read():
    filled = json.dumps({"type": "object", "properties": json.loads(WHOLE)})
    assert spans(read(filled)) == SUSAN


def test_a_cut_off_schema_is_not_an_empty_answer():
    assert "empty_answer" not in codes(read(SCHEMA[:-30]))


@pytest.mark.parametrize(
    "region",
    [
        {"frame": 24, "type": "PER", "bbox_2d": [0.1, 0.2, 0.4, 0.9]},
        {"frame": 24, "label": "PER", "box_2d": [0.1, 0.2, 0.4, 0.9]},
        {"frame": 24, "label": "PER", "bbox": [0.1, 0.2, 0.4, 0.9]},
        {"frame": 24, "type": "PER", "box": [[0.1, 0.2], [0.4, 0.9]]},
        {"frame": 24, "type": "PER", "box": [[0.1, 0.2, 0.4, 0.9]]},
        {"frame": 24, "type": "PER", "box": {"x0": 0.1, "y0": 0.2, "x1": 0.4, "y1": 0.9}},
        {"frame": 24, "type": "PER", "box": {"xmin": 0.1, "ymin": 0.2, "xmax": 0.4, "ymax": 0.9}},
        {"frame": 24, "type": "PER", "box": {"x1": 0.1, "y1": 0.2, "x2": 0.4, "y2": 0.9}},
        {"Frame": 24, "Label": "PER", "BBox": [0.1, 0.2, 0.4, 0.9]},
    ],
)
def test_a_box_is_read_as_models_write_it(region):
    prediction = read({"regions": [region]})
    (found,) = prediction.annotation.regions
    assert (tuple(found.box), found.type, prediction.issues) == ((0.1, 0.2, 0.4, 0.9), "PER", ())


@pytest.mark.parametrize(
    ("numbers", "size", "code"),
    [
        ([0.1, 0.2, 0.4, 0.9], (1000, 1000), "box_convention"),
        ([0.1, 0.2, 0.4, 0.9], (640, 360), "box_convention"),
        ([100, 200, 1400, 900], (1000, 1000), "box_outside"),
        ([100, 200, 400, 300], None, "box_outside"),
    ],
)
def test_numbers_outside_the_declared_convention_are_flagged(numbers, size, code):
    form = None if size is None else BoxForm(sizes={24: size})
    assert code in codes(read({"regions": [{"frame": 24, "type": "PER", "box": numbers}]}, boxes=form))


def test_whole_numbers_that_could_be_of_either_unit_are_not():
    form = BoxForm(sizes={24: (1000.0, 1000.0)})
    assert "box_convention" not in codes(
        read({"regions": [{"frame": 24, "type": "P", "box": [0, 0, 1, 1]}]}, boxes=form)
    )


@pytest.mark.parametrize("code", ["not_json", "truncated", "error"])
def test_a_payload_left_empty_by_answers_that_could_not_be_read_is_no_empty_answer(code):
    issues = (Issue(code, "turns[0]", "x"),)
    assert "empty_answer" not in codes(read({"chains": [], "relations": [], "regions": []}, issues=issues))


@pytest.mark.parametrize("text", ["[" * 100_000, "{" * 100_000, '{"chains": ' + "[" * 100_000, '{"a":' * 100_000])
def test_nesting_of_any_depth_raises_nothing(text):
    assert codes(read(text))
    assert read_stage(text, "here", ("chains",))[1]
    assert not is_whole(text)
    assert not has_shape(text, {"properties": {}})


# --- stages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"PER": ["Susan"], "LOC": []}',
        '```json\n{"PER": ["Susan"], "LOC": [],}\n```',
        '{"per": ["Susan"], "Loc": []}',
        '{"answer": {"PER": ["Susan"], "LOC": []}}',
        "<thinking>{\"PER\": [\"Bush\"]}</thinking> {'PER': ['Susan'], 'LOC': []}",
        '{"PER": ["Susan"], "LOC": ["New',
    ],
)
def test_a_stage_is_read_as_a_whole_answer_is(text):
    assert read_stage(text, "turns[0]", ("PER", "LOC"))[0] == {"PER": ["Susan"], "LOC": []}


@pytest.mark.parametrize("text", ['[["m0", "m1"]]', '{"chains": [["m0", "m1"]]}', '{"Chains": [["m0", "m1"]]}'])
def test_a_list_of_chains_alone_is_read(text):
    assert read_stage(text, "chains", ("chains",))[0] == {"chains": [["m0", "m1"]]}


def test_of_a_key_that_stands_twice_in_a_stage_an_issue_says_so():
    value, issues = read_stage('{"PER": ["Susan"], "PER": ["Bush"]}', "turns[0]", ("PER",))
    assert value == {"PER": ["Susan"]}
    assert [(issue.code, issue.where) for issue in issues] == [("bad_shape", "turns[0]")]


def test_rows_of_a_list_reach_normalize_whatever_they_are():
    assert rows([1, {"head": "c0"}]) == [1, {"head": "c0"}]
    assert rows(None) == []


def test_texts_stand_alone_or_in_a_list_or_an_object():
    assert strings(["a", ["b", 1], {"text": "c"}, 3, None]) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "text",
    ["B", "(B)", '{"choice": "B"}', '{"Choice": "B"}', '```json\n{"choice": "B"}\n```', "<thinking>A? {</thinking>B"],
)
def test_a_choice_is_read_by_the_same_reader(text):
    assert read_letter(text, "ABC") == "B"


@pytest.mark.parametrize(
    ("text", "expected"),
    [('{"a": []}', True), ('{"a": {}}', False), ("{}", False), ("[1]", False), ("Sure", False), ('{"a": []} x', False)],
)
def test_whether_an_answer_has_the_shape_to_which_it_was_held(text, expected):
    assert has_shape(text, {"properties": {"a": {"type": "array"}}}) is expected


@pytest.mark.parametrize(
    ("text", "expected"), [(WHOLE, True), (f"```json\n{WHOLE}\n```", True), (WHOLE[:-1], False), ("no", False)]
)
def test_whether_an_answer_is_whole(text, expected):
    assert is_whole(text) is expected


def test_a_mention_in_an_object_by_label_is_read():
    assert spans(read(one_chain({"text": "Susan", "label": "PER"}))) == SUSAN


def test_an_object_of_something_else_is_read_as_it_is():
    assert read_object('{"people": []}', ())[0] == {"people": []}
