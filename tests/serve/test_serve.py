"""The service: who may ask, the form and its jobs, predictions for Label Studio."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest

from m3dllm import pipeline
from m3dllm.corpora.m3d import m3d_labels
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment
from m3dllm.extract.steps import labels_for
from m3dllm.guidelines import guideline_files
from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.system import System
from m3dllm.types import Failure, RawOutput

pytest.importorskip("starlette", reason="needs starlette (the extra serve)")
pytest.importorskip("httpx", reason="needs httpx, starlette's test client")

from starlette.testclient import TestClient

from m3dllm.serve.app import make_app
from m3dllm.serve.jobs import Jobs
from m3dllm.serve.label_studio import Interface, Predictor
from m3dllm.serve.service import Service, listening, make_predictor, start
from tests.small import small_corpus

CONFIG = """<View><Relations><Relation value="met"/></Relations>
<Labels name="tag" toName="words"><Label value="PER"/></Labels><Text name="words" value="$body"/></View>"""
LABELS = LabelSet((Label("PER"), Label("LOC")), (RelationLabel("met"),))


class Names(System):
    """Ada is a PER, sure of it; Arles a LOC; they met."""

    def predict(self, documents):
        for document in documents:
            if not document.text:
                yield RawOutput(document.id, error=Failure("out of memory"))
                continue
            mentions = {"text": "Ada", "confidence": 0.5}
            chains = [
                {"id": "a", "type": "PER", "mentions": [mentions]},
                {"id": "b", "type": "LOC", "mentions": ["Arles"]},
            ]
            relations = [{"head": "a", "tail": "b", "type": "met"}]
            yield RawOutput(document.id, payload={"chains": chains, "relations": relations})


def client(folder: Path, *, token: str = "", words: tuple[str, ...] = (), **more) -> TestClient:
    predictor = Predictor(lambda: Names(None, labels=LABELS), LABELS, "names")
    return TestClient(make_app(Jobs(folder, words), predictor, token=token, **more), base_url="http://127.0.0.1:9090")


@pytest.fixture
def web(tmp_path):
    with client(tmp_path) as made:
        yield made


def finished(web: TestClient, job: str) -> dict:
    for _ in range(600):
        state = web.get(f"/jobs/{job}").json()
        if state["status"] in ("done", "failed"):
            return state
        time.sleep(0.1)
    raise AssertionError(state)


# --- who may ask ---


def test_a_name_that_is_not_this_machine_is_not_answered(web):
    assert web.get("/health", headers={"host": "evil.example"}).status_code == 403


def test_another_site_may_not_send_the_form(web):
    assert (
        web.post("/extract", files={"text": (None, "x")}, headers={"origin": "http://evil.example"}).status_code == 403
    )


def test_with_a_token_every_request_needs_it(tmp_path):
    web = client(tmp_path, token="s3cret")
    basic = base64.b64encode(b"any:s3cret").decode()
    given = [None, "Bearer wrong", "Bearer s3cret", f"Basic {basic}", "Basic %%%"]
    found = [web.get("/health", headers={"authorization": one} if one else {}).status_code for one in given]
    assert found == [401, 401, 200, 200, 401]


def test_a_token_may_have_any_characters(tmp_path):
    web = client(tmp_path, token="clé")
    basic = [base64.b64encode(f"any:{word}".encode()).decode() for word in ("clé", "clef", "clè")]
    assert [web.get("/health", headers={"authorization": f"Basic {one}"}).status_code for one in basic] == [
        *(200, 401, 401)
    ]


def test_another_address_needs_a_token(tmp_path, monkeypatch):
    monkeypatch.delenv("M3DLLM_TOKEN", raising=False)
    with pytest.raises(UserError, match="set a token in the environment variable M3DLLM_TOKEN"):
        start(Service("majority"), tmp_path, "0.0.0.0", 9090, token_env="M3DLLM_TOKEN")


def test_a_port_that_is_taken_is_named():
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port}: Address already in use: choose another port"):
            listening("127.0.0.1", port)


def test_a_system_that_must_be_fitted_needs_its_checkpoint():
    with pytest.raises(UserError, match="give its run by --checkpoint"):
        make_predictor(Service("majority"))


def test_a_checkpoint_of_another_system_is_refused_before_it_serves(tmp_path):
    asked = Experiment(system="majority", corpus=small_corpus(tmp_path / "corpus"), out=tmp_path / "run")
    with pytest.raises(UserError, match="is a checkpoint of system 'majority', not of 'dffm'"):
        make_predictor(Service("dffm", checkpoint=pipeline.fit(asked).path))


def test_guidelines_that_the_prompts_do_not_show_are_refused(tmp_path):
    (tmp_path / "mine.md").write_text("Mark names.")
    options = {"prompt_version": "1", "guidelines": str(tmp_path / "mine.md")}
    with pytest.raises(UserError, match="--guidelines: version 1 of the prompts shows none"):
        make_predictor(Service("video-llm", options=options))


def test_types_of_m3d_come_with_its_guidelines(tmp_path):
    labels, folder = labels_for(None, None, {}, "video-llm")
    assert (labels, {*guideline_files(folder)}) == (m3d_labels(), {"en", "zh"})


# --- the form ---


def test_the_form_runs_its_own_script_only(web):
    answer = web.get("/")
    assert "unsafe-inline" not in answer.headers["content-security-policy"]
    assert '<form action="/extract"' in answer.text


@pytest.mark.slow
def test_a_text_becomes_a_page(tmp_path):
    pytest.importorskip("transformers", reason="needs transformers (the extra llm)")
    with client(tmp_path) as web:
        sent = web.post("/extract", files={"text": (None, "Ada King met Bela in Arles .")}, follow_redirects=False)
        assert sent.status_code == 303
        job = sent.headers["location"].removeprefix("/#")
        state = finished(web, job)
        assert state["status"] == "done", state
        assert "<title>Documents</title>" in web.get(state["page"]).text


def test_what_fails_says_why(tmp_path):
    with client(tmp_path, words=("--system", "majority")) as web:
        sent = web.post("/extract", files={"files": ("../../x.txt", b"\xff\xfe")}, follow_redirects=False)
        job = sent.headers["location"].removeprefix("/#")
        state = finished(web, job)
        assert state["status"] == "failed"
        assert state["message"].startswith("m3dllm: ")
        assert web.get(f"/jobs/{job}/page/%2e%2e/%2e%2e/given/x.txt").status_code == 404
    assert [path.name for path in (tmp_path / job / "given").iterdir()] == ["x.txt"]


def test_files_of_one_name_are_all_kept(tmp_path):
    with client(tmp_path, words=("--system", "majority")) as web:
        files = [("files", ("a.txt", text)) for text in (b"Ada", b"Bela")] + [("files", ("text.txt", b"Cora"))]
        sent = web.post("/extract", files=files, data={"text": "Dora"}, follow_redirects=False)
    given = (tmp_path / sent.headers["location"].removeprefix("/#") / "given").iterdir()
    assert {path.name: path.read_text() for path in given} == {
        "a.txt": "Ada",
        "a-2.txt": "Bela",
        "text.txt": "Cora",
        "text-2.txt": "Dora",
    }


def test_nothing_sent_is_refused(web):
    assert web.post("/extract", files={"text": (None, " ")}).status_code == 400


def test_too_much_is_refused(tmp_path):
    assert client(tmp_path, upload_limit=10).post("/extract", files={"text": (None, "x" * 99)}).status_code == 413


def test_no_file_beside_the_page_is_served(web, tmp_path):
    assert web.get("/jobs/none/page/index.html").status_code == 404
    assert web.get("/jobs/../page/index.html").status_code == 404


# --- Label Studio ---


def test_the_service_is_up(web):
    assert web.get("/health").json() == {"status": "UP", "model_class": "names"}
    assert web.post("/setup", json={"project": "1", "schema": CONFIG}).json() == {"model_version": "names"}


def test_tasks_get_results_of_their_interface(web):
    """The interface has no label LOC: neither Arles nor the relation to it can be drawn."""
    asked = {"tasks": [{"id": 7, "data": {"body": "Ada saw Arles ."}}], "label_config": CONFIG}
    (found,) = web.post("/predict", json=asked).json()["results"]
    value = {"start": 0, "end": 3, "text": "Ada", "labels": ["PER"]}
    result = {"id": "c0m0", "from_name": "tag", "to_name": "words", "type": "labels", "value": value, "score": 0.5}
    assert found == {"model_version": "names", "score": 0.5, "result": [result]}


def test_relations_are_drawn_where_both_ends_are(web):
    config = CONFIG.replace('<Label value="PER"/>', '<Label value="PER"/><Label value="LOC"/>')
    asked = {"tasks": [{"data": {"body": "Ada saw Arles ."}}], "label_config": config}
    (found,) = web.post("/predict", json=asked).json()["results"]
    assert [one["labels"] for one in found["result"] if one["type"] == "relation"] == [["met"]]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "expected 'tasks'"),
        ({"tasks": [{"data": {}}], "label_config": CONFIG}, "tasks[0].data.body: expected the text"),
        ({"tasks": [7], "label_config": CONFIG}, "tasks[0].data.body: expected the text"),
        ({"tasks": [], "label_config": "<View/>"}, "nothing can be marked"),
        ({"tasks": [], "label_config": "<View"}, "is not valid XML"),
        ({"tasks": [], "label_config": '<!DOCTYPE a [<!ENTITY b "c">]><View/>'}, "declares a document type"),
        ({"tasks": [{"data": {"body": ""}}], "label_config": CONFIG}, "the system failed: out of memory"),
    ],
)
def test_a_wrong_request_is_answered_with_the_reason(web, asked, words):
    answer = web.post("/predict", json=asked)
    assert (answer.status_code, words in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize("body", [b"{", b"[]", b"[" * 100_000])
def test_what_is_no_request_is_refused(web, body):
    assert web.post("/predict", content=body).status_code == 400


def test_an_interface_names_its_text_and_labels():
    assert Interface.of(CONFIG) == Interface("tag", "words", "body", frozenset({"PER"}), True)
