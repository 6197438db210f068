"""Scoring two files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3dllm.errors import UserError
from m3dllm.score import Settings, score, score_files, variants
from m3dllm.types import PRF, Annotation, Document, Example, Frame, Prediction
from m3dllm.wire import encode, encode_example, encode_labels, lines
from tests.score.letters import region, said
from tests.strategies import LABELS, annotations, json_values, scored

GOLD = said("ab c", [("ab", "c", "PER-PER_couple")], [region(0, 0, 0, 1, 1)])
FRAMES = (Frame(0, "0.jpg", 64, 48, annotated=True),)
EXAMPLE = Example(Document("d", "zh", "字" * 200, frames=FRAMES), GOLD)


@pytest.fixture
def write(tmp_path):
    """A file of these lines: examples, predictions, JSON values, or text as it stands."""

    def of(name: str, *rows: object) -> Path:
        path = tmp_path / name
        path.write_bytes(lines(map(as_line, rows)))
        return path

    return of


def as_line(row: object) -> bytes:
    if isinstance(row, Example):
        return encode_example(row)
    return row if isinstance(row, bytes) else encode(row)


def test_corpus_lines_give_the_scores_of_their_examples(write):
    predictions = [Prediction("d", said("ab")), Prediction("d", said("ac b"), "mentions")]
    found = score_files(write("gold.jsonl", EXAMPLE), write("pred.jsonl", *predictions))
    assert found.to_wire() == score([EXAMPLE], predictions).to_wire()


def test_gold_may_be_prediction_lines(write):
    found = score_files(write("gold.jsonl", Prediction("d", GOLD)), write("pred.jsonl", Prediction("d", GOLD)))
    assert list(found.languages) == ["und"]
    assert found.languages["und"].end_to_end.average_of == ("entity", "chain", "relation", "grounding")
    assert found.languages["und"].end_to_end.average_f1 == 1


def test_gold_in_prediction_lines_may_hold_boxes_that_match_nothing(write):
    gold = Prediction("d", said(regions=[region(0, 0.5, 0, 0.5, 1), region(7, 0, 0, 1, 1)]))
    pred = Prediction("d", said(regions=[region(0, 0.5, 0, 0.5, 1), region(7, 0, 0, 1, 1)]))
    found = score_files(write("gold.jsonl", gold), write("pred.jsonl", pred))
    assert found.languages["und"].end_to_end.tasks["grounding"] == PRF(1, 2, 1, 2)


def test_gold_in_prediction_lines_is_the_line_with_nothing_given(write):
    gold = write("gold.jsonl", Prediction("d", said("a"), "mentions"), Prediction("d", GOLD))
    found = score_files(gold, write("pred.jsonl", Prediction("d", GOLD)))
    assert found.languages["und"].end_to_end.average_f1 == 1


def test_gold_with_something_given_only_is_refused(write):
    gold = write("gold.jsonl", Prediction("d", GOLD, "mentions"))
    with pytest.raises(UserError, match=r"gold\.jsonl: has only lines with something given"):
        score_files(gold, write("pred.jsonl", Prediction("d", GOLD)))


@settings(max_examples=25)
@given(st.lists(st.tuples(annotations(disjoint=True), annotations(disjoint=True)), min_size=1, max_size=3))
def test_exchanging_two_files_exchanges_precision_and_recall(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("files")
    for name, side in (("a", 0), ("b", 1)):
        rows = [Prediction(f"d{i}", pair[side]) for i, pair in enumerate(pairs)]
        (folder / name).write_bytes(lines(map(encode, rows)))
    one, other = (score_files(folder / a, folder / b).languages["und"].end_to_end for a, b in (("a", "b"), ("b", "a")))
    for name, found in one.tasks.items():
        turned = other.tasks[name]
        assert (found.precision, found.recall, found.f1) == (turned.recall, turned.precision, turned.f1), name
    assert one.average_f1 == other.average_f1


@settings(max_examples=25)
@given(scored())
def test_files_give_the_scores_of_what_they_hold(tmp_path_factory, case):
    examples, predictions = case
    folder = tmp_path_factory.mktemp("files")
    (folder / "gold").write_bytes(lines(map(encode_example, examples)))
    (folder / "pred").write_bytes(lines(map(encode, predictions)))
    (folder / "labels").write_text(encode_labels(LABELS))
    every = Settings(variants=variants())
    found = score_files(folder / "gold", folder / "pred", labels=folder / "labels", settings=every)
    wanted = score(examples, predictions, labels=LABELS, settings=every)
    assert (found.to_wire(), found.rows()) == (wanted.to_wire(), wanted.rows())


def test_labels_say_which_relations_are_symmetric(write, tmp_path):
    (tmp_path / "labels.json").write_text(encode_labels(LABELS))
    gold = write("gold.jsonl", EXAMPLE)
    pred = write("pred.jsonl", Prediction("d", said("ab c", [("c", "ab", "PER-PER_couple")])))
    with_labels = score_files(gold, pred, labels=tmp_path / "labels.json")
    assert with_labels.languages["zh"].end_to_end.tasks["relation"].f1 == 1
    assert score_files(gold, pred).languages["zh"].end_to_end.tasks["relation"].f1 == 0


def test_without_labels_every_type_is_allowed(write):
    gold = Prediction("d", said("a b", [("a", "b", "wrote")], kind="AUTHOR"))
    found = score_files(write("gold.jsonl", gold), write("pred.jsonl", gold))
    assert found.languages["und"].end_to_end.average_f1 == pytest.approx((1 + 2 / 3 + 1) / 3)


def test_boxes_may_hold_null_nan_and_infinity(write):
    line = '{"document": "d", "annotation": {"chains": [], "relations": [], "regions": [%s]}}'
    box = '{"frame": 0, "type": "PER", "box": [%s, 0, 1, 1]}'
    pred = write("pred.jsonl", (line % ", ".join(box % x for x in ("NaN", "-Infinity", "null", "0"))).encode())
    found = score_files(write("gold.jsonl", EXAMPLE), pred)
    assert found.languages["zh"].end_to_end.tasks["grounding"] == PRF(1, 4, 1, 1)


def test_byte_order_marks_blank_lines_and_carriage_returns_are_passed_over(write):
    gold = write("gold.jsonl", b"\xef\xbb\xbf" + encode_example(EXAMPLE) + b"\r", b"", b"  \r")
    pred = write("pred.jsonl", b"\xef\xbb\xbf" + encode(Prediction("d", GOLD)) + b"\r")
    assert score_files(gold, pred).languages["zh"].end_to_end.average_f1 == 1


def test_a_file_of_predictions_may_be_empty(write):
    found = score_files(write("gold.jsonl", EXAMPLE), write("pred.jsonl"))
    assert found.unanswered == ("d",)
    assert found.languages["zh"].end_to_end.average_f1 == 0


# --- what the user can mend -------------------------------------------------------------------------------------------

LINE = {"document": "d", "annotation": {"chains": [], "relations": [], "regions": []}}
CHAIN = {"id": "c", "mentions": [{"start": 0, "end": 1, "type": "FOOD"}]}


@pytest.mark.parametrize(
    ("gold", "pred", "message"),
    [
        ([], [LINE], r"gold\.jsonl: is empty; expected gold"),
        ([EXAMPLE, EXAMPLE], [LINE], r"gold\.jsonl:2: \$\.id: 'd' is already in line 1"),
        ([LINE, LINE], [LINE], r"gold\.jsonl:2: \$\.document: 'd' is already in line 1"),
        ([EXAMPLE], [LINE, LINE], r"pred\.jsonl:2: \$\.document: 'd' is already in line 1 with nothing given"),
        ([EXAMPLE], [LINE | {"document": "x"}], r"pred\.jsonl:1: \$\.document: 'x' is not a document of .*gold\.jsonl"),
        ([EXAMPLE], [LINE, b'{"document": '], r"pred\.jsonl:2: not valid JSON"),
        ([b'{"id": '], [LINE], r"gold\.jsonl:1: not valid JSON"),
        ([b"\xff\xfe{"], [LINE], r"gold\.jsonl: is UTF-16; expected UTF-8"),
        ([b"[1, 2]"], [LINE], r"gold\.jsonl: is a JSON list; expected JSON Lines"),
        ([b"17"], [LINE], r"gold\.jsonl:1: is neither a corpus line .* nor a prediction line"),
        ([{"text": "x"}], [LINE], r"gold\.jsonl:1: is neither a corpus line .* nor a prediction line"),
        ([EXAMPLE], [EXAMPLE], r"pred\.jsonl: holds corpus lines; expected prediction lines"),
        ([EXAMPLE], [{"document": "d"}], r"pred\.jsonl:1: .*lacks the field 'annotation'"),
        (
            [EXAMPLE],
            [b'{"document": "d", "annotation": {}, "annotation": {}}'],
            r"pred\.jsonl:1: \$\.annotation: appears",
        ),
        ([EXAMPLE], [LINE | {"given": "text"}], r"pred\.jsonl:1: \$\.given: "),
    ],
)
def test_what_is_wrong_is_named_with_its_place(write, gold, pred, message):
    with pytest.raises(UserError, match=message):
        score_files(write("gold.jsonl", *gold), write("pred.jsonl", *pred))


@pytest.mark.parametrize(
    ("gold", "pred", "where"),
    [
        (EXAMPLE, LINE | {"annotation": {"relation": []}}, "pred.jsonl:1: $.annotation.relation: "),
        (json.loads(encode_example(EXAMPLE)) | {"langauge": "zh"}, LINE, "gold.jsonl:1: $.langauge: "),
    ],
)
def test_a_misspelt_key_is_named(write, gold, pred, where, caplog):
    score_files(write("gold.jsonl", gold), write("pred.jsonl", pred))
    assert [where in message for message in caplog.messages] == [True]


def test_a_mention_outside_of_the_text_is_named_with_its_document(write, caplog):
    mentions = [{"start": 190, "end": 201, "type": "PER"}]
    row = LINE | {"annotation": LINE["annotation"] | {"chains": [{"id": "c", "mentions": mentions}]}}
    score_files(write("gold.jsonl", EXAMPLE), write("pred.jsonl", row))
    problem = "prediction of 'd': chains[0].mentions[0] ends at 201; the text has 200 characters: it counts as wrong"
    assert caplog.messages == [problem]


def test_a_predicted_box_in_pixels_is_named_with_its_document(write, caplog):
    row = LINE | {"annotation": LINE["annotation"] | {"regions": [{"frame": 0, "box": [3, 4, 50, 40], "type": "PER"}]}}
    score_files(write("gold.jsonl", EXAMPLE), write("pred.jsonl", row))
    (message, *_) = caplog.messages
    assert message.startswith("prediction of 'd': regions[0] has the box [3.0, 4.0, 50.0, 40.0], which matches nothing")


@pytest.mark.parametrize("box", [[0.5, 0, 0.5, 1], [0, 0, 1.5, 1], [1, 0, 0, 1]])
def test_an_illegal_box_in_a_corpus_is_refused(write, box):
    row = json.loads(encode_example(EXAMPLE))
    row["gold"]["regions"][0]["box"] = box
    with pytest.raises(UserError, match=r"gold\.jsonl:1: gold\.regions\[0\] has an illegal box"):
        score_files(write("gold.jsonl", row), write("pred.jsonl", LINE))


def test_an_unknown_type_is_refused_on_both_sides_where_there_are_labels(write, tmp_path):
    (tmp_path / "labels.json").write_text(encode_labels(LABELS))
    labels = tmp_path / "labels.json"
    odd = {"document": "d", "annotation": {"chains": [CHAIN], "relations": [], "regions": []}}
    place = (
        r"jsonl:1: \$\.annotation\.chains\[0\]\.mentions\[0\]\.type: unknown type 'FOOD'; the label set has LOC, PER"
    )
    with pytest.raises(UserError, match=rf"pred\.{place}"):
        score_files(write("gold.jsonl", EXAMPLE), write("pred.jsonl", odd), labels=labels)
    with pytest.raises(UserError, match=rf"gold\.{place}"):
        score_files(write("gold.jsonl", odd), write("pred.jsonl", LINE), labels=labels)


def test_a_file_that_is_not_there_is_named(write, tmp_path):
    with pytest.raises(UserError, match=r"none\.jsonl: cannot be read"):
        score_files(tmp_path / "none.jsonl", write("pred.jsonl", LINE))


@settings(max_examples=60)
@given(json_values(), json_values(), st.binary(max_size=40))
def test_anything_else_is_a_message_and_no_traceback(tmp_path_factory, value, inner, data):
    folder = tmp_path_factory.mktemp("files")
    good = encode_example(EXAMPLE)
    gold, pred = folder / "gold", folder / "pred"
    for row in (encode(value), data, encode(LINE | {"annotation": inner}), encode({"id": "d", "gold": inner})):
        gold.write_bytes(good)
        pred.write_bytes(row)
        check(gold, pred)
        gold.write_bytes(row)
        pred.write_bytes(encode(LINE))
        check(gold, pred)


def check(gold: Path, pred: Path) -> None:
    try:
        found = score_files(gold, pred)
    except UserError:
        return
    assert found.languages


def test_json_that_is_nested_too_deeply_is_a_message(write):
    deep = b'{"document": "d", "annotation": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    with pytest.raises(UserError, match=r"pred\.jsonl:1: "):
        score_files(write("gold.jsonl", EXAMPLE), write("pred.jsonl", deep))


def test_the_cases_of_the_reference_scorer_come_out_through_files(shared_data, write):
    from tests.score.test_conll import read_conll

    folder = shared_data / "scorers/conll/test"
    for case in json.loads((folder / "expected.json").read_text()):
        sides = []
        for name in ("key_file", "response_file"):
            rows = []
            for document, chains in read_conll(folder / case[name]).items():
                spans = [
                    {"id": str(i), "mentions": [{"start": s, "end": e, "type": "X"} for s, e in sorted(chain)]}
                    for i, chain in enumerate(chains)
                ]
                rows.append(LINE | {"document": document, "annotation": LINE["annotation"] | {"chains": spans}})
            sides.append(write(name, *rows))
        found = score_files(*sides).languages["und"].end_to_end.tasks
        for theirs, ours in (("muc", "muc"), ("bcub", "b3"), ("ceafe", "ceaf_e"), ("ceafm", "ceaf_m")):
            if expected := case["expected_metrics"].get(theirs):
                prf = found[f"chain.{ours}"]
                got = (prf.recall or 0, prf.precision or 0, prf.f1 or 0)
                assert got == pytest.approx(expected, abs=1e-5), (case["id"], ours)


def test_an_empty_annotation_scores_nothing(write):
    gold = Example(Document("d", "en", ""), Annotation())
    found = score_files(write("gold.jsonl", gold), write("pred.jsonl", Prediction("d", Annotation())))
    assert found.languages["en"].end_to_end.average_f1 is None
