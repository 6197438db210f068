"""Answers from a file: what is said again is what was said."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from m3dllm import pipeline
from m3dllm.corpora.missing import show
from m3dllm.corpora.native import load_corpus
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment
from m3dllm.labels import LabelSet
from m3dllm.normalize import normalize
from m3dllm.systems.replay import Config, Replay
from m3dllm.types import (
    Annotation,
    Box,
    Chain,
    Document,
    Failure,
    Frame,
    Given,
    Issue,
    Mention,
    Prediction,
    RawOutput,
    Region,
)
from m3dllm.wire import encode, encode_example, encode_raw, lines
from tests.small import LABELS, example, small_corpus
from tests.test_answers import facts

ADA = example("ada", "[PER0 Ada] was born in [LOC1 Arles] .", relations=[("c0", "c1", "PER-LOC_birth")], frames=2)
SUSAN = example("susan", "[PER0 苏珊]出生在[LOC1 北京]。", lang="zh")
MUTE = example("mute", "", frames=1)
EMPTY = example("empty", "")
EVERY = (ADA, SUSAN, MUTE, EMPTY)


def replay(path: Path) -> Replay:
    return Replay(Config(answers=str(path)), labels=LABELS)


def written(path: Path, rows: list[bytes]) -> Path:
    path.write_bytes(lines(rows))
    return path


def answer(system: Replay, document: Document) -> RawOutput:
    (raw,) = system.predict([document])
    return raw


def given(document: Document, kind: str) -> Document:
    return replace(document, given=Given(kind=kind))


# --- the gold of a corpus ---------------------------------------------------------------------------------------------


@pytest.fixture
def gold(tmp_path) -> Replay:
    return replay(written(tmp_path / "test.jsonl", list(map(encode_example, EVERY))))


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.document.id)
@pytest.mark.parametrize("kind", [None, "mentions", "chains"])
def test_gold_is_the_answer_in_every_pass(gold, one, kind):
    document = given(one.document, kind) if kind else one.document
    raw = answer(gold, document)
    assert raw.given == kind
    assert facts(normalize(document, raw, LABELS).annotation) == facts(one.gold)


def test_gold_of_hidden_text_and_frames_is_not_said(gold):
    mute, blind = show(ADA.document, "no_text"), show(ADA.document, "no_video")
    assert normalize(mute, answer(gold, mute), LABELS) == Prediction("ada", Annotation(regions=ADA.gold.regions))
    assert normalize(blind, answer(gold, blind), LABELS).annotation.regions == ()
    assert normalize(blind, answer(gold, blind), LABELS).issues == ()


def test_gold_of_hidden_text_keeps_regions_that_named_a_chain(tmp_path):
    region = Region(0, Box(0, 0, 1, 1), "PER", "c0")
    one = replace(ADA, gold=replace(ADA.gold, regions=(region,)))
    system = replay(written(tmp_path / "test.jsonl", [encode_example(one)]))
    mute = show(one.document, "no_text")
    assert normalize(mute, answer(system, mute), LABELS).annotation.regions == (replace(region, chain=None),)


def test_documents_are_answered_in_the_order_they_come(gold):
    documents = [one.document for one in reversed(EVERY)]
    assert [raw.document for raw in gold.predict(iter(documents))] == ["empty", "mute", "susan", "ada"]


def test_a_document_that_is_not_in_the_file_is_an_error_of_that_document(gold):
    raw = answer(gold, Document("else", "en", "Else ."))
    assert raw.payload is None
    assert raw.failure
    assert not raw.failure.retryable
    assert "has no answer for document 'else'" in raw.failure.message


def test_a_split_of_a_corpus_on_disk_is_read(tmp_path):
    corpus = small_corpus(tmp_path / "corpus")
    system = replay(corpus / "test.jsonl")
    assert answer(system, Document("test0", "en", "Ada")).failure is None


# --- a run ------------------------------------------------------------------------------------------------------------

SAID = RawOutput("ada", payload='{"chains": [{"id": "c0", "type": "PER", "mentions": ["Ada", "Nap', seconds=0.5)
PAIRS = RawOutput("ada", "mentions", {"chains": [{"id": "c0", "type": "PER", "mentions": ["Ada"]}]})
DOWN = RawOutput("susan", error=Failure("server gone", retryable=True))


def test_a_run_says_the_same_with_the_same_issues(tmp_path):
    written(tmp_path / "raw.jsonl", [encode_raw(SAID), encode_raw(PAIRS)])
    system = replay(tmp_path)
    assert answer(system, ADA.document) == SAID
    assert answer(system, given(ADA.document, "mentions")) == PAIRS
    assert normalize(ADA.document, answer(system, ADA.document), LABELS) == normalize(ADA.document, SAID, LABELS)


def test_a_pass_that_the_run_did_not_make_is_an_error(tmp_path):
    system = replay(written(tmp_path / "raw.jsonl", [encode_raw(SAID)]))
    raw = answer(system, given(ADA.document, "chains"))
    assert raw.given == "chains"
    assert raw.failure
    assert "'ada' with chains given" in raw.failure.message


def test_the_last_answer_to_a_document_counts(tmp_path):
    again = replace(SAID, payload={})
    system = replay(written(tmp_path / "raw.jsonl", [encode_raw(SAID), encode_raw(again)]))
    assert answer(system, ADA.document) == again


def test_a_failure_is_replayed_as_a_final_one(tmp_path):
    system = replay(written(tmp_path / "raw.jsonl", [encode_raw(DOWN)]))
    assert answer(system, SUSAN.document).failure == Failure("server gone", retryable=False)


def test_half_a_line_at_the_end_of_a_killed_run_is_passed_over(tmp_path):
    file = tmp_path / "raw.jsonl"
    file.write_bytes(encode_raw(SAID) + b"\n" + encode_raw(PAIRS)[:40])
    assert answer(replay(file), ADA.document) == SAID


def test_raw_answers_come_before_predictions(tmp_path):
    written(tmp_path / "raw.jsonl", [encode_raw(SAID)])
    written(tmp_path / "predictions.jsonl", [encode(Prediction("ada", Annotation()))])
    assert answer(replay(tmp_path), ADA.document) == SAID


# --- predictions ------------------------------------------------------------------------------------------------------


def test_predictions_come_back_as_they_are(tmp_path):
    nested = Annotation(
        (Chain("a", (Mention(0, 3, "PER"), Mention(1, 2, "LOC"))), Chain("b", (Mention(0, 2, "PER"),))),
        regions=(Region(0, Box(-1, 0, 2, 1), "PER", "b"), Region(0, Box(0.5, 0, 0.5, 1), "PER")),
    )
    system = replay(written(tmp_path / "predictions.jsonl", [encode(Prediction("ada", nested))]))
    assert facts(normalize(ADA.document, answer(system, ADA.document), None).annotation) == facts(nested)


def test_predictions_say_again_which_frames_were_shown(tmp_path):
    file = tmp_path / "predictions.jsonl"
    file.write_bytes(lines([encode(Prediction("a", Annotation(), frames=(0, 24)))]))
    (raw,) = Replay(Config(answers=str(file)), labels=LABELS).predict([Document("a", "en", "")])
    assert raw.frames == (0, 24)


def test_a_box_that_is_not_finite_comes_back_as_one(tmp_path):
    said = Prediction("ada", Annotation(regions=(Region(0, Box(0.0, 0.0, float("nan"), 1.0), "PER"),)))
    system = replay(written(tmp_path / "predictions.jsonl", [encode(said)]))
    assert encode(normalize(ADA.document, answer(system, ADA.document), None).annotation) == encode(said.annotation)


@pytest.mark.parametrize(
    ("code", "message"), [("error", "gone"), ("no_answer", "no_answer: gone"), ("not_json", "not_json: gone")]
)
def test_a_prediction_that_could_not_be_read_is_no_empty_answer(tmp_path, code, message):
    said = Prediction("ada", Annotation(), issues=(Issue(code, "answer", "gone"),))
    system = replay(written(tmp_path / "predictions.jsonl", [encode(said)]))
    assert answer(system, ADA.document).failure == Failure(message)


def test_an_empty_prediction_is_an_empty_answer(tmp_path):
    system = replay(written(tmp_path / "predictions.jsonl", [encode(Prediction("ada", Annotation()))]))
    assert [i.code for i in normalize(ADA.document, answer(system, ADA.document), None).issues] == ["empty_answer"]


# --- files that cannot be read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "answers.jsonl: is empty"),
        (b"\n \n", "answers.jsonl: is empty"),
        (b"not json\n", "answers.jsonl:1: not valid JSON"),
        (b"[1]\n", "answers.jsonl: is a JSON list; expected JSON Lines"),
        (b'{"id": "a"}\n', "answers.jsonl:1: holds 'id'; expected a line of raw.jsonl"),
        (b'{"document": "a", "payload": {}}\n{"document": 3, "payload": {}}\n', "answers.jsonl:2: $.document: "),
        (b'{"document": "a", "payload": {}}\n{"document": "b", "pay', None),
        (
            encode(Prediction("a", Annotation())) + b"\n" + encode(Prediction("a", Annotation())),
            "2: document 'a' appears twice",
        ),
        (encode(Prediction("a", Annotation())) + b'\n{"document": "b", "annot', "answers.jsonl:2: not valid JSON"),
    ],
)
def test_a_file_without_answers_is_refused_with_its_place(tmp_path, content, message):
    (tmp_path / "answers.jsonl").write_bytes(content)
    if message is None:
        replay(tmp_path / "answers.jsonl")
        return
    with pytest.raises(UserError) as caught:
        replay(tmp_path / "answers.jsonl")
    assert message in str(caught.value)


def test_a_misspelt_key_of_a_prediction_is_named(tmp_path, caplog):
    (tmp_path / "pred.jsonl").write_text('{"document": "ada", "annotation": {"relation": []}}\n', encoding="utf-8")
    replay(tmp_path / "pred.jsonl")
    assert "pred.jsonl:1: $.annotation.relation: is not a known field" in caplog.text


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        replay(tmp_path / "nowhere")


def test_a_folder_without_answers_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"expected a run with raw.jsonl or predictions.jsonl$"):
        replay(tmp_path)


def test_a_corpus_folder_is_refused_with_a_hint(tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(UserError, match=r"give one of its splits, such as test\.jsonl"):
        replay(tmp_path)


def test_nothing_is_needed_but_the_file(tmp_path):
    file = written(tmp_path / "raw.jsonl", [encode_raw(SAID)])
    system = Replay(Config(answers=str(file)), labels=LabelSet())
    assert answer(system, Document("ada", "en", "Ada", frames=(Frame(0, "f", 1, 1),))) == SAID


# --- answers that nobody can use --------------------------------------------------------------------------------------


def complained(folder: Path, payload: object) -> str:
    """What is said of a run in which every document has this answer."""
    corpus = small_corpus(folder / "corpus")
    ids = [example.document.id for example in load_corpus(corpus)["test"]]
    file = written(folder / "answers.jsonl", [encode({"document": i, "payload": payload, "format": 1}) for i in ids])
    options = {"answers": str(file)}
    done = pipeline.run(Experiment(system="replay", corpus=corpus, options=options, out=folder / "run"))
    return pipeline.complaint(done)


def test_of_answers_in_another_shape_the_first_place_is_named_and_the_form(tmp_path):
    said = complained(tmp_path, {"chains": "none"})
    assert "8 of 8 answers cannot be read, first 'test0': chains: bad_shape" in said
    assert '; expected {"chains": [' in said


def test_a_system_that_found_nothing_is_no_fault(tmp_path):
    assert complained(tmp_path, {"chains": [], "relations": [], "regions": []}) == ""


def test_a_run_with_a_complaint_ends_with_it(tmp_path):
    complained(tmp_path, {"chains": "none"})
    shutil.rmtree(tmp_path / "run")
    words = ["--system", "replay", "--answers", "answers.jsonl", "--corpus", "corpus", "--out", "run"]
    command = [sys.executable, "-m", "m3dllm", "run", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "cannot be read" in done.stderr.splitlines()[-1]
