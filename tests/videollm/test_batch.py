"""Requests as a file for a batch interface, and its answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m3dllm import pipeline
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment
from tests.small import small_corpus

pytest.importorskip("openai", reason="needs the extra 'server'")

JOINT = '{"chains":[],"relations":[],"regions":[]}'


@pytest.fixture
def corpus(tmp_path) -> Path:
    return small_corpus(tmp_path / "small")


def ask(corpus: Path, folder: Path, *answers: Path, **options):
    own = {"engine": "openai", "model": "gpt-5-mini", "family": "generic", "frames": 0}
    own |= {"batch_file": str(folder / "requests.jsonl"), "batch_answers": tuple(map(str, answers)), **options}
    return pipeline.run(Experiment(system="video-llm", corpus=corpus, out=folder / "run", options=own))


def rows(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def failures(run) -> list:
    return [raw.failure for raw in run.raws().values() if raw.failure]


def answered(folder: Path, name: str, text: str = JOINT, *, status: int = 200) -> Path:
    """The file that a batch of the requests gives back, in another order."""
    message = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "model": "gpt-5-mini-1"}
    body = message if status == 200 else {"error": {"message": "flagged by moderation"}}
    lines = [
        {"id": "x", "custom_id": row["custom_id"], "response": {"status_code": status, "body": body}, "error": None}
        for row in reversed(rows(folder / "requests.jsonl"))
    ]
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / name


def test_each_document_is_a_request_and_waits(corpus, tmp_path):
    run = ask(corpus, tmp_path)
    written = rows(tmp_path / "requests.jsonl")
    assert len(written) == sum(bool(example.document.text) for example in run.examples())
    assert {(row["method"], row["url"], row["body"]["model"]) for row in written} == {
        ("POST", "/v1/chat/completions", "gpt-5-mini")
    }
    assert run.record().status == "incomplete"
    assert "pass the answers by --batch-answers" in failures(run)[0].message


def test_the_same_command_with_the_answers_goes_on(corpus, tmp_path):
    ask(corpus, tmp_path)
    run = ask(corpus, tmp_path, answered(tmp_path, "answers.jsonl"))
    assert run.record().status == "done"
    assert rows(tmp_path / "requests.jsonl") == []
    assert run.record().provenance["response_models"] == ["gpt-5-mini-1"]


def test_a_strategy_of_several_stages_takes_a_batch_a_stage(corpus, tmp_path):
    staged = {"strategy": "staged"}
    ask(corpus, tmp_path, **staged)
    first = answered(tmp_path, "first.jsonl", '{"PER":["Ada"],"LOC":[],"ORG":[],"TIME":[]}')
    ask(corpus, tmp_path, first, **staged)
    later = {row["custom_id"] for row in rows(tmp_path / "requests.jsonl")}
    assert later.isdisjoint(row["custom_id"] for row in rows(first))


def test_a_request_that_was_refused_fails_its_document(corpus, tmp_path):
    ask(corpus, tmp_path)
    run = ask(corpus, tmp_path, answered(tmp_path, "answers.jsonl", status=400))
    assert {failure.retryable for failure in failures(run)} == {False}
    assert "flagged by moderation" in failures(run)[0].message


@pytest.mark.parametrize(
    "failed",
    [
        {"response": None, "error": {"code": "batch_expired", "message": "This request could not be executed"}},
        {"response": {"status_code": 500, "body": {"error": {"message": "internal"}}}, "error": None},
        {"response": {"status_code": 429, "body": None}, "error": {"message": "too many requests"}},
        {"response": {"status_code": None, "body": None}, "error": "lost"},
    ],
)
def test_a_request_that_failed_for_a_reason_that_may_pass_is_written_again(corpus, tmp_path, failed):
    ask(corpus, tmp_path)
    before = {row["custom_id"] for row in rows(tmp_path / "requests.jsonl")}
    lines = [json.dumps({"custom_id": name} | failed) + "\n" for name in before]
    (tmp_path / "errors.jsonl").write_text("".join(lines))
    run = ask(corpus, tmp_path, tmp_path / "errors.jsonl")
    assert {row["custom_id"] for row in rows(tmp_path / "requests.jsonl")} == before
    assert "pass the answers by --batch-answers" in failures(run)[0].message


def test_a_request_that_vllm_refuses_has_its_error_beside_the_response(corpus, tmp_path):
    ask(corpus, tmp_path)
    error = {"message": "This model's maximum context length is 4096 tokens", "code": 400}
    lines = [
        {"custom_id": row["custom_id"], "response": {"status_code": 400, "body": None}, "error": error}
        for row in rows(tmp_path / "requests.jsonl")
    ]
    (tmp_path / "errors.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = ask(corpus, tmp_path, tmp_path / "errors.jsonl")
    assert {failure.retryable for failure in failures(run)} == {False}
    assert "maximum context length" in failures(run)[0].message


def test_answers_are_not_overwritten_by_requests(corpus, tmp_path):
    ask(corpus, tmp_path)
    answers = answered(tmp_path, "answers.jsonl")
    before = answers.read_bytes()
    with pytest.raises(UserError, match=r"exists and does not hold requests: choose another --batch-file"):
        ask(corpus, tmp_path, answers, batch_file=str(answers))
    assert answers.read_bytes() == before


@pytest.mark.parametrize("line", ["{", "[]", '{"id": 1}'])
def test_answers_that_are_none_are_refused_in_one_line(corpus, tmp_path, line):
    (tmp_path / "answers.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=r"answers\.jsonl"):
        ask(corpus, tmp_path, tmp_path / "answers.jsonl")


def test_answers_to_other_requests_are_named(corpus, tmp_path):
    ask(corpus, tmp_path, temperature=0.5)
    given = answered(tmp_path, "answers.jsonl")
    (tmp_path / "run").rename(tmp_path / "other")
    assert "the answers given are to other requests" in failures(ask(corpus, tmp_path, given))[0].message


def test_only_a_document_without_a_request_is_counted_as_answered(corpus, tmp_path, caplog):
    caplog.set_level("INFO", "m3dllm")
    ask(corpus, tmp_path)
    assert any(message.startswith("1 answer in ") for message in caplog.messages)


def test_a_batch_needs_the_name_of_its_model(corpus, tmp_path):
    with pytest.raises(UserError, match="--batch-file needs --model"):
        ask(corpus, tmp_path, model=None)
