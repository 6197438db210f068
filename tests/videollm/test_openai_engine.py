"""The openai engine, over a server of our own that behaves as it is told, and over vLLM's."""

from __future__ import annotations

import base64
import inspect
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from m3dllm.errors import UserError
from m3dllm.normalize import normalize
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines import openai
from m3dllm.systems.videollm.engines.openai.kinds import PROBE
from m3dllm.systems.videollm.system import VideoLLM
from tests.small import LABELS, small_corpus
from tests.videollm.documents import HARMLESS, OPEN, document, frames

pytest.importorskip("openai", reason="needs the extra 'server'")

ANSWER = '{"chains":[{"id":"c0","type":"PER","mentions":["Ada"]}],"relations":[],"regions":[]}'
MODELS = {"data": [{"id": "tiny-qwen3-vl", "owned_by": "someone"}]}


def completion(text: str | None, finish: str = "stop") -> dict:
    usage = {"prompt_tokens": 900, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 40}}
    return {"choices": [{"message": {"content": text}, "finish_reason": finish}], "usage": usage}


class Server:
    """A server on this machine. `says` gives (status, body) for the n-th completion, from 0, or from its number and the
    request; or (status, body, headers), None to hang up, or what is done with the handler.

    `obeys`: it writes what a probe of its grammar asks for, which is no completion.
    """

    def __init__(
        self,
        models=MODELS,
        says: Callable = lambda n: (200, completion(ANSWER)),
        models_status: int = 200,
        obeys: bool = False,
    ):
        self.obeys = obeys
        self.asked: list[dict] = []
        self.headers: list[dict] = []
        lock = threading.Lock()
        takes_body = len(inspect.signature(says).parameters) > 1
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send(models_status, models)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(outer.asked)
                    outer.asked.append(body)
                    outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                    held = json.dumps([body.get("structured_outputs"), body.get("grammar")])
                    if outer.obeys and PROBE in held:
                        outer.asked.pop()
                        self.send(200, completion(PROBE))
                        return
                said = says(number, body) if takes_body else says(number)
                if said is None:
                    self.close_connection = True
                elif callable(said):
                    said(self)
                else:
                    self.send(*said)

            def send(self, status, body, headers=None):
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {
                    "Content-Length": str(len(data)),
                    "Location": "/elsewhere",
                    **(headers or {}),
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setattr(openai.time, "sleep", lambda s: None)  # waits are tested by their length alone
    monkeypatch.delenv(openai.KEY, raising=False)
    running = []

    def start(*args, **kwargs) -> Server:
        running.append(Server(*args, **kwargs))
        return running[-1]

    yield start
    for server in running:
        server.stop()


def system(server: Server | str, **options) -> VideoLLM:
    url = server if isinstance(server, str) else server.url
    config = Config(**{"engine": "openai", "base_url": url, "retries": 2, "batch": 1, "max_tokens": 64} | options)
    made = VideoLLM(config, labels=LABELS)
    assert made.engine  # it is loaded when it is asked for
    return made


def failures(server: Server, n: int = 1, **options) -> list:
    return [raw.failure for raw in system(server, **options).predict([document(f"d{i}") for i in range(n)])]


def test_frames_go_as_jpeg_where_they_stand_among_the_texts(serve, tmp_path):
    server = serve()
    (raw,) = system(server).predict([document("d", stills=frames(tmp_path, (160, 90)))])
    told, *_, asked = server.asked[0]["messages"]
    assert isinstance(told["content"], str)
    kinds = [part["type"] for part in asked["content"]]
    assert kinds == ["text", "image_url", "text", "text"]
    head, _, data = asked["content"][1]["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert (image.format, image.size) == ("JPEG", (352, 192))  # at least 256 x 256 pixels in area, sides by 32
    assert raw.boxes.sizes == {24: (1000, 1000)}


def test_an_answer_is_read_and_counted(serve):
    made = document("d")
    (raw,) = system(serve()).predict([made])
    assert [mention.type for mention in normalize(made, raw, LABELS).annotation.mentions] == ["PER", "PER"]
    (turn,) = raw.turns
    assert (turn.tokens_in, turn.tokens_out, turn.tokens_reused, turn.finish) == (900, 9, 40, "stop")


def test_a_server_is_given_the_schema_and_vllm_the_grammar(serve):
    other = serve()
    list(system(other).predict([document("d")]))
    held = other.asked[0]["response_format"]["json_schema"]["schema"]
    assert set(held["properties"]) == {"chains", "relations", "regions"}
    assert "structured_outputs" not in other.asked[0]
    vllm = serve({"data": [{"id": "x", "root": "/m/qwen3-vl", "owned_by": "vllm", "max_model_len": 4096}]}, obeys=True)
    made = system(vllm)
    list(made.predict([document("d")]))
    assert "start:" in vllm.asked[0]["structured_outputs"]["grammar"]
    assert (made.engine.context, made.engine.family.name) == (4096, "qwen3-vl")
    assert made.provenance["constraint"] == "grammar"


def test_a_free_model_is_held_to_nothing(serve):
    server = serve()
    list(system(server, unconstrained=True).predict([document("d")]))
    assert not {"response_format", "structured_outputs"} & server.asked[0].keys()


def test_the_key_comes_from_the_environment_and_is_not_sent_elsewhere(serve, monkeypatch):
    monkeypatch.setenv(openai.KEY, "sesame")
    server = serve(says=lambda n: (302, b""))
    with pytest.raises(UserError, match="302: it redirects"):
        failures(server)
    assert [headers["authorization"] for headers in server.headers] == ["Bearer sesame"]


@pytest.mark.parametrize("trouble", [(500, b"boom"), (503, {}), (429, {"error": {"message": "slow down"}}), None])
def test_requests_to_a_server_that_recovers_are_retried(serve, trouble):
    server = serve(says=lambda n: trouble if n < 2 else (200, completion(ANSWER)))
    (raw,) = system(server).predict([document("d")])
    assert raw.failure is None
    assert raw.turns[0].retries == 2


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ((500, b"<h1>boom</h1>"), "answers 500 (<h1>boom</h1>)"),
        ((408, {"error": {"message": "slow\ndown"}}), "answers 408 (slow down)"),
        ((200, b"\xff garbage"), "not valid JSON"),
        ((200, b'{"choices": ' + b"[" * 500 + b"]" * 500 + b"}"), "nested too deeply"),
        ((200, []), "not an object"),
        ((200, {"choices": []}), "returned no completion"),
        (None, "does not respond"),
    ],
)
def test_a_server_that_stays_broken_fails_its_documents_until_the_next_run(serve, trouble, message):
    server = serve(says=lambda n: trouble)
    found = failures(server, 3)
    assert all(failure.retryable and message in failure.message for failure in found)
    assert not any("\n" in failure.message for failure in found)
    assert len(server.asked) <= 3 * 3


def test_a_dead_server_is_waited_for_once(serve):
    server = serve(says=lambda n: None)
    failures(server, 5)
    assert len(server.asked) == 3 + 4


def test_a_server_that_dies_in_the_middle_loses_nothing(serve):
    server = serve(says=lambda n: (200, completion(ANSWER)) if n < 2 or n > 6 else None)
    raws = list(system(server).predict([document(f"d{i}") for i in range(9)]))
    assert [raw.document for raw in raws] == [f"d{i}" for i in range(9)]
    assert [raw.failure is None for raw in raws] == [True, True, False, False, False, True, True, True, True]


def test_a_request_that_is_refused_fails_its_document_alone(serve):
    server = serve(says=lambda n: (400, {"error": {"message": "too long"}}) if n == 0 else (200, completion(ANSWER)))
    bad, good = failures(server, 2)
    assert "answers 400 (too long)" in bad.message
    assert not bad.retryable
    assert good is None


def test_an_answer_that_is_cut_off_says_so(serve):
    (raw,) = system(serve(says=lambda n: (200, completion(ANSWER[:-9], "length")))).predict([document("d")])
    assert raw.turns[0].finish == "length"
    assert "truncated" in [issue.code for issue in normalize(document("d"), raw, LABELS).issues]


def test_an_empty_answer_is_an_issue(serve):
    (raw,) = system(serve(says=lambda n: (200, completion(None)))).predict([document("d")])
    assert normalize(document("d"), raw, LABELS).issues


@pytest.mark.parametrize(
    ("status", "message"), [(401, "set OPENAI_API_KEY"), (403, "set OPENAI_API_KEY"), (404, "no such address or model")]
)
def test_what_no_document_can_mend_ends_the_run_in_one_line(serve, status, message):
    server = serve(says=lambda n: (200, completion(ANSWER)) if n == 0 else (status, {"error": {"message": "no"}}))
    made = system(server).predict([document("d0"), document("d1")])
    assert next(made).failure is None
    with pytest.raises(UserError, match=message):
        next(made)


@pytest.mark.parametrize(
    ("models", "status", "options", "message"),
    [
        (MODELS, 401, {}, "answers 401: it wants a valid key"),
        (MODELS, 404, {}, "answers 404"),
        (MODELS, 500, {}, "answers 500"),
        (b"hello", 200, {}, r"not valid JSON \(hello\)"),
        (b"[" * 100_000, 200, {}, "nested too deeply"),
        ({}, 200, {}, "lists no model"),
        ({"data": [{"id": "a"}, {"id": "b"}]}, 200, {}, r"several models: choose one by --model \(a, b\)"),
    ],
)
def test_a_server_that_is_not_what_it_should_be_is_one_line(serve, models, status, options, message):
    with pytest.raises(UserError, match=message):
        system(serve(models, models_status=status), **options)


TEXT_ONLY = {"id": "mystery", "architecture": {"input_modalities": ["text"]}}


@pytest.mark.parametrize(
    ("model", "refused", "shown"),
    [
        ({"id": "mystery"}, (400, {"error": {"message": "mystery is not a multimodal model"}}), "text only"),
        ({"id": "mystery"}, (404, {"error": {"message": "No endpoints found that support image input"}}), "text only"),
        ({"id": "mystery"}, (200, completion("Hello.")), "text and frames"),
        (TEXT_ONLY, (500, {"error": {"message": "image input is not supported"}}), "text only"),
        (TEXT_ONLY | {"id": "qwen3-vl"}, (500, {}), "text only"),
    ],
)
def test_a_model_of_no_known_family_is_shown_frames_where_it_takes_an_image(serve, tmp_path, model, refused, shown):
    def says(n, body):
        takes = "image_url" not in json.dumps(body["messages"])
        return (200, completion(ANSWER)) if takes else refused

    made = system(serve({"data": [model]}, says))
    assert made.provenance["shown"] == shown
    assert made.unsupported == {"grounding"}
    stills = frames(tmp_path, (64, 64)) if shown == "text only" else ()
    (raw,) = made.predict([document("d", stills=stills)])
    assert (raw.failure, raw.frames) == (None, ())


def test_where_a_server_does_not_say_whether_a_model_reads_images_the_user_must(serve):
    def says(n):
        return 400, {"error": {"message": "expected stream=true"}}

    with pytest.raises(UserError, match=r"whether 'mystery' reads images is not known.*--family.*--frames 0"):
        system(serve({"data": [{"id": "mystery"}]}, says)).engine  # noqa: B018  it is made now


def test_a_server_gets_the_budget_of_thinking_and_its_thoughts_are_counted(serve):
    def says(n):
        answer = completion(ANSWER)
        answer["choices"][0]["message"]["reasoning_content"] = "Ada is a name."
        answer["usage"]["completion_tokens_details"] = {"reasoning_tokens": 4}
        return 200, answer

    server = serve({"data": [{"id": "tiny-qwen3-vl", "owned_by": "vllm"}]}, says)
    (raw,) = system(server, thinking=20, schema_only=True).predict([document("d")])
    sent = server.asked[-1]
    assert sent["max_tokens"] == 64 + 20
    assert (sent["chat_template_kwargs"]["enable_thinking"], sent["thinking_token_budget"]) == (True, 20)
    assert (raw.turns[0].reasoning, raw.turns[0].tokens_thinking) == ("Ada is a name.", 4)


@pytest.mark.parametrize(("thinking", "sent"), [(None, None), (0, {"enable_thinking": False, "thinking": False})])
def test_a_server_thinks_by_its_own_default_without_the_option(serve, thinking, sent):
    server = serve({"data": [{"id": "tiny-qwen3-vl", "owned_by": "vllm"}]})
    list(system(server, thinking=thinking, schema_only=True).predict([document("d")]))
    assert server.asked[-1].get("chat_template_kwargs") == sent


def test_no_server_is_one_line(serve):
    server = Server()
    server.stop()
    with pytest.raises(UserError, match="does not respond"):
        system(server)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": None}, "needs --base-url"),
        ({"base_url": "file:///etc/passwd"}, "expected an address"),
        ({"video": True}, "--video"),
        ({"timeout": 0.0}, "--timeout"),
    ],
)
def test_options_that_no_server_knows_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        system("http://127.0.0.1:9/v1", **options)


def test_documents_are_under_way_together(serve):
    together = threading.Barrier(3, timeout=20)

    def wait(n):
        together.wait()
        return 200, completion(ANSWER)

    assert failures(serve(says=wait), 3, batch=3) == [None] * 3


WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "transformers", "tokenizers", "llguidance", "outlines"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from m3dllm import cli

cli.main()
"""


def test_who_only_asks_a_server_needs_no_model_library(serve, tmp_path):
    server = serve()
    corpus = small_corpus(tmp_path / "corpus", train=3, dev=0, test=3)
    words = ["run", "--system", "video-llm", "--corpus", corpus, "--out", tmp_path / "run", "--shots", "1"]
    words += ["--engine", "openai", "--base-url", server.url]
    command = [sys.executable, "-c", WITHOUT, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr
    assert "entity" in done.stdout
    assert len(server.asked) == 3


# --- vLLM's own server ------------------------------------------------------------------------------------------------

SMALL = {"max_chains": 4, "max_mentions": 3, "max_relations": 3, "max_regions": 1, "max_mention_characters": 30}
MAY_BE = {"truncated"} | OPEN["joint"] | HARMLESS
OF_THE_SERVER = {"model": "tiny", "family": "qwen2.5-vl", "batch": 4, "max_tokens": 300} | SMALL


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["joint", "staged"])
@pytest.mark.parametrize(("model", "family"), [("qwen2_5_vl", "qwen2.5-vl"), ("internvl", "internvl")])
def test_vllm_s_server_holds_answers_to_the_grammar(vllm_server, tmp_path, model, family, strategy):
    url, _ = vllm_server(model)
    stills = frames(tmp_path, (112, 56), (56, 112))
    made = system(url, strategy=strategy, **OF_THE_SERVER | {"family": family})
    documents = [document("en", stills=stills), document("zh", "zh", stills=stills[:1]), document("empty", text="")]
    raws = list(made.predict(documents))
    assert (made.engine.kind.name, made.engine.context) == ("vllm", 6000)
    assert [raw.failure for raw in raws] == [None] * 3
    for about, raw in zip(documents, raws, strict=True):
        issues = {issue.code for issue in normalize(about, raw, LABELS).issues}
        assert issues <= MAY_BE


@pytest.mark.slow
def test_text_alone_is_answered_by_vllm_s_server_as_by_the_transformers_engine(vllm_server):
    pytest.importorskip("llguidance", reason="needs the extra 'llm'")
    url, model = vllm_server("qwen2_5_vl")
    documents = [document("en"), document("zh", "zh")]
    served = system(url, strategy="staged", **OF_THE_SERVER).predict(documents)
    local = {"model": model, "dtype": "float32", "device": "cpu", "strategy": "staged"}
    config = Config(**OF_THE_SERVER | local)
    ours = VideoLLM(config, labels=LABELS).predict(documents)
    for one, other in zip(ours, served, strict=True):
        assert [(t.text, t.tokens_in, t.tokens_out) for t in one.turns] == [
            (t.text, t.tokens_in, t.tokens_out) for t in other.turns
        ]


@pytest.mark.slow
def test_vllm_s_server_takes_the_schema_too(vllm_server):
    url, _ = vllm_server("qwen2_5_vl")
    (raw,) = system(url, schema_only=True, strategy="staged", **OF_THE_SERVER).predict([document("en")])
    assert raw.failure is None
    assert all(isinstance(json.loads(turn.text), dict) for turn in raw.turns if turn.finish == "stop")


@pytest.mark.slow
def test_vllm_s_server_says_what_it_refuses(vllm_server):
    text = "zq qz " * 1500  # more tokens than one for three bytes
    url, _ = vllm_server("qwen2_5_vl")
    (raw,) = system(url, **OF_THE_SERVER).predict([document("long", text=text)])
    assert "answers 400" in raw.failure.message
    assert not raw.failure.retryable
    with pytest.raises(UserError, match="answers 404: no such address or model"):
        system(url, model="other", family="generic")
