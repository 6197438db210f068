"""What servers do, and what becomes of it: each behaviour played by a server of our own."""

from __future__ import annotations

import json
import re
import socket
import threading
import time

import pytest

from m3dllm import cli
from m3dllm.errors import UserError
from m3dllm.normalize import normalize
from m3dllm.runs import Run
from m3dllm.scored import read_runs
from m3dllm.systems.videollm.engines.openai.dialect import Dialect
from m3dllm.systems.videollm.engines.openai.kinds import PROBE
from tests.small import LABELS, small_corpus
from tests.videollm.documents import document
from tests.videollm.test_openai_engine import ANSWER, MODELS, completion, failures, serve, system  # noqa: F401

client = pytest.importorskip("m3dllm.systems.videollm.engines.openai.client", reason="needs the extra 'server'")

OK = (200, completion(ANSWER))
VLLM = {"data": [{"id": "x", "root": "/m/qwen3-vl", "owned_by": "vllm", "max_model_len": 4096}]}


def error(message: str, **more) -> dict:
    return {"error": {"message": message, **more}}


def answer(message: dict, finish: str | None = "stop", **more) -> tuple[int, dict]:
    return 200, {"choices": [{"message": message, "finish_reason": finish}], **more}


def one(server, **options):
    """What becomes of one document."""
    (raw,) = system(server, **options).predict([document("d")])
    return raw


def codes(raw) -> list[str]:
    return [issue.code for issue in normalize(document("d"), raw, LABELS).issues]


# --- a failure is no score --------------------------------------------------------------------------------------------


@pytest.fixture
def run(serve, tmp_path, monkeypatch, capsys):  # noqa: F811
    """Runs the command line against a server: (its exit code, what it printed)."""
    corpus = small_corpus(tmp_path / "corpus", train=2, dev=0, test=6)

    def do(server, *words, verb="run", out="run"):
        url = server if isinstance(server, str) else server.url
        command = ["m3dllm", verb, "--system", "video-llm", "--corpus", corpus, "--out", tmp_path / out, "--engine"]
        command += ["openai", "--base-url", url, "--batch", "1", "--retries", "0", *words]
        return cli_main(command, monkeypatch, capsys)

    do.path = tmp_path
    return do


def cli_main(words, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [str(word) for word in words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    printed = capsys.readouterr()
    return end.value.code or 0, printed.out + printed.err


MODERATED = (400, error("flagged by content_filter"))


def test_a_run_in_which_documents_failed_says_so_in_its_exit_code_scores_and_table(serve, run, caplog):  # noqa: F811
    code, printed = run(serve(says=lambda n: MODERATED if n == 2 else OK))
    assert code == 2
    assert "2 of 3 documents answered" in printed
    assert "5 of 6 answered; 1 failed" in caplog.text
    scores = Run(run.path / "run").scores()
    assert sum(of.get("failed", 0) for of in scores["languages"].values()) == 1


def test_a_document_that_failed_counts_nowhere(serve, run):  # noqa: F811
    run(serve(says=lambda n: MODERATED if n == 2 else OK))
    rows = Run(run.path / "run").per_document()
    assert [bool(row["tasks"]) for row in rows].count(False) == 1


def test_a_run_in_which_all_documents_failed_has_no_score(serve, run):  # noqa: F811
    code, printed = run(serve(says=lambda n: MODERATED))
    assert code == 2
    assert "0 of 3 documents answered" in printed
    languages = Run(run.path / "run").scores()["languages"].values()
    assert all(of["end_to_end"]["average_f1"] is None for of in languages)


def test_a_system_with_failed_documents_is_not_ranked(serve, run, monkeypatch, capsys):  # noqa: F811
    run(serve(says=lambda n: MODERATED if n == 2 else OK))
    corpus = run.path / "corpus"
    words = ["m3dllm", "run", "--system", "majority", "--corpus", corpus, "--out", run.path / "other"]
    cli_main(words, monkeypatch, capsys)
    out = run.path / "report"
    code, _ = cli_main(["m3dllm", "report", run.path / "run", run.path / "other", "--out", out], monkeypatch, capsys)
    assert code == 0
    page = next(out.glob("*.md")).read_text()
    assert "Not ranked, because documents failed: video-llm (" in page
    assert "5 of 6" in page or "of 3 answered" in page
    assert "ranks first of" not in page
    assert "p = " not in page


def test_failed_documents_are_retried_only_by_retry_failed(serve, run):  # noqa: F811
    server = serve(says=lambda n: MODERATED if n == 2 else OK)
    assert run(server)[0] == 2
    assert (run(server)[0], len(server.asked)) == (2, 6)
    assert (run(server, "--retry-failed")[0], len(server.asked)) == (0, 7)
    assert list(Run(run.path / "run").failed()) == []


def test_predict_says_by_its_exit_code_that_documents_failed(serve, run):  # noqa: F811
    assert run(serve(says=lambda n: MODERATED if n == 2 else OK), verb="predict")[0] == 2


def test_an_incomplete_run_is_left_out_of_a_report_by_name(serve, run):  # noqa: F811
    run(serve(says=lambda n: (500, error("boom")) if n == 2 else OK))
    with pytest.raises(UserError, match="run: is incomplete"):
        read_runs([run.path / "run"])


REASON = "Invalid value: 'xhigh' is no effort; the body said much more, and all of it is shown"


def test_a_server_that_refuses_the_first_requests_alike_ends_the_run_with_its_whole_reason(serve, run):  # noqa: F811
    server = serve(says=lambda n: (400, error(REASON, code="bad_value", metadata={"raw": "upstream: no such thing"})))
    code, printed = run(server)
    assert code == 2
    assert "the first 3 requests all failed for the same reason" in printed
    assert REASON in printed
    assert "upstream: no such thing" in printed
    assert len(server.asked) == 3


def test_a_dead_server_ends_the_run_soon(serve, run):  # noqa: F811
    server = serve(says=lambda n: (503, error("overloaded")))
    code, printed = run(server)
    assert code == 2
    assert "overloaded" in printed
    assert len(server.asked) == 6


def test_numbers_in_a_reason_do_not_make_it_another(serve):  # noqa: F811
    server = serve(says=lambda n: (400, error(f"request req_{n}a7 is bad")))
    with pytest.raises(UserError, match="first 3 requests"):
        failures(server, 9)


def test_failures_after_an_answer_end_nothing(serve):  # noqa: F811
    server = serve(says=lambda n: OK if n == 0 else (400, error("bad day")))
    assert [found is None for found in failures(server, 5)] == [True] + [False] * 4


# --- what is asked again ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        (402, error("out of credits")),
        (408, error("late")),
        (409, error("lock")),
        (425, b""),
        (429, error("slow down")),
        (500, b"boom"),
        (502, b""),
        (529, error("overloaded")),
        (200, error("upstream died", code=502)),
        (200, {"choices": [{"error": {"code": 502, "message": "upstream"}, "message": {"content": ""}}]}),
        (200, {"choices": [{"finish_reason": "error", "error": {"code": 429, "message": "x"}, "message": {}}]}),
        (200, {"choices": []}),
        (200, {"choices": None}),
        (200, b""),
        (200, b"<html>"),
        (200, b"[" * 100_000),
        None,
    ],
)
def test_a_temporary_failure_is_retried_at_once_and_by_the_next_run(serve, trouble):  # noqa: F811
    recovers = serve(says=lambda n: trouble if n < 2 else OK)
    raw = one(recovers)
    assert (raw.failure, raw.turns[0].retries) == (None, 2)
    stays = serve(says=lambda n: trouble)
    assert one(stays).failure.retryable


@pytest.mark.parametrize(
    "trouble",
    [
        (400, error("This model's maximum context length is 8192 tokens", code="context_length_exceeded")),
        (400, error("the request exceeds the available context size")),
        (413, b"too large"),
        (400, error("flagged by our moderation", type="content_policy_violation")),
        (403, error("Your chosen model requires moderation and your input was flagged", metadata={"reasons": ["x"]})),
        (422, error("the input is too long")),
        (200, error("maximum context length is 10", code=400)),
        (200, {"promptFeedback": {"blockReason": "SAFETY"}, "choices": []}),
    ],
)
def test_what_concerns_one_document_is_final_and_does_not_end_the_run(serve, trouble):  # noqa: F811
    server = serve(says=lambda n: trouble if n < 4 else OK)
    found = failures(server, 5)
    assert [failure.retryable for failure in found[:4]] == [False] * 4
    assert found[4] is None


def test_a_longest_answer_that_is_too_long_for_the_model_concerns_all_documents(serve):  # noqa: F811
    why = "max_tokens is too large: 64. This model supports at most 32 completion tokens"
    with pytest.raises(UserError, match="supports at most 32"):
        failures(serve(says=lambda n: (400, error(why))), 5)


def test_a_refusal_of_the_request_itself_is_retried_by_the_next_run(serve):  # noqa: F811
    server = serve(says=lambda n: OK if n == 0 else (400, error("unknown thing")))
    assert failures(server, 2)[1].retryable


# --- dialects ---------------------------------------------------------------------------------------------------------

REFUSED = {
    "max_completion_tokens": (
        lambda body: "max_tokens" in body,
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    ),
    "no temperature": (
        lambda body: "temperature" in body,
        "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) is.",
    ),
    "no seed": (lambda body: "seed" in body, "property 'seed' is unsupported"),
    "system message merged": (
        lambda body: body["messages"][0]["role"] == "system",
        "System role not supported",
    ),
    "without lengths": (
        lambda body: "maxLength" in json.dumps(body),
        "Invalid schema for response_format 'answer': In context=(), 'maxLength' is not permitted.",
    ),
    "json_object for json_schema": (
        lambda body: body.get("response_format", {}).get("type") == "json_schema",
        "This response_format type is unavailable now: json_schema is not supported",
    ),
    "no response_format": (
        lambda body: "response_format" in body,
        "response_format is not supported by this model",
    ),
}


@pytest.mark.parametrize("change", REFUSED)
def test_what_a_server_refuses_is_learned_for_the_run_and_recorded(serve, change):  # noqa: F811
    refuses, why = REFUSED[change]
    server = serve(says=lambda n, body: (400, error(why)) if refuses(body) else OK)
    made = system(server)
    raws = list(made.predict([document(f"d{i}") for i in range(3)]))
    assert [raw.failure for raw in raws] == [None] * 3
    assert len(server.asked) <= 3 + 3  # refused at most three times, and never again
    assert any(change in words for words in made.provenance["dialect"])
    assert any(change in note for note in made.notes)


def test_several_refusals_are_learned_one_after_the_other(serve):  # noqa: F811
    def says(n, body):
        for refuses, why in REFUSED.values():
            if refuses(body):
                return 400, error(why)
        return OK

    server = serve(says=says)
    made = system(server)
    assert [raw.failure for raw in made.predict([document("d")])] == [None]
    assert made.provenance["constraint"] == "none"
    assert len(made.provenance["dialect"]) >= 6


def test_what_was_learned_is_not_learned_again_by_requests_that_were_under_way(serve):  # noqa: F811
    together = threading.Barrier(3, timeout=20)

    def says(n, body):
        if "seed" in body:
            together.wait()
            return 400, error("unsupported parameter: seed")
        return OK

    made = system(serve(says=says), batch=3)
    assert [raw.failure for raw in made.predict([document(f"d{i}") for i in range(3)])] == [None] * 3
    assert made.provenance["dialect"] == ["no seed"]


def test_the_system_message_comes_before_the_user_s():
    body = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]}
    assert Dialect(merges_system=True).write(body)["messages"] == [{"role": "user", "content": "Be brief.\n\nWho?"}]


def test_a_property_that_is_called_as_a_keyword_stays_in_the_schema():
    schema = {"type": "object", "properties": {"minimum": {"type": "array", "maxItems": 3}}, "required": ["minimum"]}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    written = Dialect(bounded=False).write({"model": "m", "messages": [], "response_format": form})
    assert written["response_format"]["json_schema"]["schema"]["properties"] == {"minimum": {"type": "array"}}


def test_a_reason_that_names_nothing_of_the_request_teaches_nothing():
    assert Dialect().learn({"model": "m", "messages": [], "seed": 0}, "the weather is bad") is None


def test_options_add_to_a_request_and_take_from_it(serve, monkeypatch):  # noqa: F811
    monkeypatch.setenv("MY_KEY", "sesame-open")
    monkeypatch.setenv("TENANT", "blue-seven")
    server = serve()
    options = {"extra_body": '{"top_k": 1}', "omit": ("seed",), "reasoning_effort": "low", "api_key_env": "MY_KEY"}
    one(server, **options, header=("X-Tenant: $TENANT",), query=("v=2",))
    (body,), (headers,) = server.asked, server.headers
    assert (body["top_k"], body["reasoning_effort"], "seed" in body) == (1, "low", False)
    assert (headers["authorization"], headers["x-tenant"]) == ("Bearer sesame-open", "blue-seven")


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000])
def test_an_extra_body_that_is_no_object_is_one_line(text):
    with pytest.raises(UserError, match="--extra-body"):
        system("http://127.0.0.1:9/v1", extra_body=text)


def test_an_azure_deployment_gets_its_key_and_version_its_own_way(serve, monkeypatch):  # noqa: F811
    monkeypatch.setenv("OPENAI_API_KEY", "azure-key-1")
    server = serve()
    one(server, query=("api-version=2024-10-21",), model="tiny-qwen3-vl")
    assert server.headers[0]["api-key"] == "azure-key-1"
    assert "authorization" not in server.headers[0]


# --- what really constrained ------------------------------------------------------------------------------------------


def test_a_server_that_ignores_the_grammar_is_given_the_schema_and_nothing_else_is_claimed(serve):  # noqa: F811
    server = serve(VLLM)
    made = system(server)
    list(made.predict([document("d")]))
    assert made.provenance["constraint"] == "schema"
    assert "response_format" in server.asked[-1]


def test_a_server_that_ignores_the_schema_constrained_nothing(serve):  # noqa: F811
    made = system(serve(says=lambda n: (200, completion("Sure! Ada is a person."))))
    list(made.predict([document("d")]))
    assert made.provenance["constraint"] == "none"
    assert "did not enforce it" in made.notes[0]


@pytest.mark.parametrize(
    ("options", "expected"), [({"unconstrained": True}, "none"), ({"schema_only": True}, "schema")]
)
def test_the_constraint_of_an_option_is_the_one_that_is_recorded(serve, options, expected):  # noqa: F811
    made = system(serve(VLLM, obeys=True), **options)
    list(made.predict([document("d")]))
    assert made.provenance["constraint"] == expected


# --- which model ------------------------------------------------------------------------------------------------------


def says_as(model: str, fingerprint: str = "fp"):
    return lambda n: (200, completion(ANSWER) | {"model": model, "system_fingerprint": fingerprint})


def dies_after(n_good: int, says):
    return lambda n: says(n) if n < n_good else (500, error("gone"))


@pytest.mark.parametrize(
    ("other", "models", "what"),
    [
        (says_as("b"), MODELS, "another model"),
        (says_as("a", "fp2"), MODELS, "another state of the server's model"),
        (says_as("a"), {"data": [{"id": "other-qwen3-vl"}]}, "another model"),
    ],
)
def test_a_run_is_not_resumed_with_another_model(serve, run, other, models, what):  # noqa: F811
    assert run(serve(says=dies_after(3, says_as("a"))))[0] == 2
    kept = (run.path / "run/raw.jsonl").read_bytes()
    code, printed = run(serve(models, says=other))
    assert code == 2
    assert f"was answered by {what}" in printed
    assert (run.path / "run/raw.jsonl").read_bytes() == kept


def test_a_run_is_resumed_with_the_same_model_at_another_address(serve, run):  # noqa: F811
    run(serve(says=dies_after(3, says_as("a"))))
    assert run(serve(says=says_as("a")))[0] == 0


# --- model lists ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("models", "status", "name"),
    [
        ({}, 404, "tiny-qwen3-vl"),
        (b"no", 200, "tiny-qwen3-vl"),
        ({}, 500, "tiny-qwen3-vl"),
        ([{"id": "tiny-qwen3-vl"}], 200, "tiny-qwen3-vl"),
        ({"data": [{"id": "models/tiny-qwen3-vl"}]}, 200, "tiny-qwen3-vl"),
        ({"models": [{"name": "models/tiny-qwen3-vl"}]}, 200, "tiny-qwen3-vl"),
        ({"data": [{"id": "long", "aliases": ["qwen3-vl"]}]}, 200, "qwen3-vl"),
        ({"data": [{"id": "qwen3-vl"}]}, 200, "qwen3-vl:free"),
        ({"data": []}, 200, "qwen3-vl"),
        ({"data": None}, 200, "qwen3-vl"),
        (["qwen3-vl"], 200, "qwen3-vl"),
    ],
)
def test_a_model_that_is_named_is_requested_whatever_the_list_says(serve, models, status, name):  # noqa: F811
    server = serve(models, models_status=status)
    assert one(server, model=name, retries=0).failure is None
    assert server.asked[0]["model"] == name


# --- limits -----------------------------------------------------------------------------------------------------------


def drip(handler) -> None:
    """A byte every 50 ms, headers first."""
    handler.close_connection = True
    try:
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 1000:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            threading.Event().wait(0.05)
    except OSError:
        pass


def test_an_answer_has_a_whole_time(serve):  # noqa: F811
    server = serve(says=lambda n: drip)
    started = time.perf_counter()
    failure = one(server, timeout=0.6, retries=0).failure
    assert "no whole answer within 0.6 s" in failure.message
    assert time.perf_counter() - started < 5


def test_an_answer_has_a_largest_size(serve, monkeypatch):  # noqa: F811
    monkeypatch.setattr(client, "MOST_BYTES", 1 << 20)
    server = serve(says=lambda n: (200, b'"' + b"x" * (3 << 20) + b'"'))
    assert "larger than 1 MB" in one(server, retries=0).failure.message


def test_a_compressed_answer_is_not_unpacked(serve):  # noqa: F811
    server = serve(says=lambda n: (200, b"\x1f\x8b", {"Content-Encoding": "gzip"}))
    assert "compressed" in one(server, retries=0).failure.message


def test_a_server_that_takes_the_connection_and_says_nothing_is_not_waited_for_long():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with pytest.raises(UserError, match="does not respond"):
            system(url, timeout=0.3, retries=0)


# --- prompts that were cut --------------------------------------------------------------------------------------------


def test_a_prompt_that_the_server_cut_is_noted(serve):  # noqa: F811
    cut = {"choices": [{"message": {"content": ANSWER}}], "usage": {"prompt_tokens": 60, "completion_tokens": 9}}
    (raw,) = system(serve(says=lambda n: (200, cut))).predict([document("d", text="word " * 2000)])
    (issue,) = [issue for issue in raw.issues if issue.code == "prompt_cut"]
    assert re.search(r"counts 60 tokens of a prompt of about \d{4,}", issue.detail)


def test_a_prompt_of_about_the_expected_length_is_not(serve):  # noqa: F811
    whole = {"choices": [{"message": {"content": ANSWER}}], "usage": {"prompt_tokens": 2400}}
    (raw,) = system(serve(says=lambda n: (200, whole))).predict([document("d", text="word " * 2000)])
    assert raw.issues == ()


LLAMA = {"data": [{"id": "qwen3-vl", "owned_by": "llamacpp", "meta": {"n_ctx": 4096}}]}


def test_a_grammar_that_a_server_cannot_parse_does_not_keep_it_from_another(serve):  # noqa: F811
    def says(n, body):
        grammar = body.get("grammar", "")
        if "llguidance" in grammar:
            return 400, error("Failed to initialize samplers: failed to parse grammar")
        return (200, completion(PROBE)) if PROBE in grammar else OK

    server = serve(LLAMA, says=says)
    made = system(server)
    assert [raw.failure for raw in made.predict([document("d")])] == [None]
    assert made.provenance["constraint"] == "grammar"
    assert "dialect" not in made.provenance
    assert server.asked[-1]["grammar"].startswith("root ::=")


def test_a_server_that_takes_ebnf_is_given_it(serve):  # noqa: F811
    models = {"data": [{"id": "qwen3-vl", "owned_by": "sglang", "max_model_len": 4096}]}
    server = serve(models, says=lambda n, body: (200, completion(PROBE)) if PROBE in body.get("ebnf", "") else OK)
    made = system(server)
    list(made.predict([document("d")]))
    assert (made.provenance["server"], made.provenance["constraint"]) == ("sglang", "grammar")
    assert "mention ::=" in server.asked[-1]["ebnf"]
