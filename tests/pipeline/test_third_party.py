"""A system that another package brings."""

from __future__ import annotations

import json
import os

import pytest

from m3dllm import session
from m3dllm.errors import UserError
from m3dllm.experiment import plan
from m3dllm.labels import LabelSet
from m3dllm.runs import Run
from m3dllm.system import System
from m3dllm.types import RawOutput
from m3dllm.wire import decode_raw
from tests.pipeline.asking import m3dllm, majority


def test_an_installed_plugin_is_listed(plugged):
    done = m3dllm("systems", "--json", env=plugged)
    assert {"name": "capitals", "tasks": ["entity"]}.items() <= json.loads(done.stdout)[0].items()


def test_an_installed_plugin_runs_and_is_scored_on_its_task_alone(corpus, tmp_path, plugged):
    done = m3dllm(
        "run", "--system", "capitals", "--corpus", corpus, "--lang", "en", "--out", tmp_path / "r", env=plugged
    )
    assert done.returncode == 0, done.stderr
    scores = Run(tmp_path / "r").scores()["languages"]["en"]["end_to_end"]
    assert scores["average_of"] == ["entity"]
    assert scores["tasks"]["entity"]["recall"] == pytest.approx(0.75)


def test_a_language_that_a_system_does_not_read_is_one_line(corpus, plugged):
    done = m3dllm("run", "--system", "capitals", "--corpus", corpus, env=plugged)
    assert done.returncode == 2
    assert done.stderr.startswith("m3dllm: system 'capitals' does not read zh")
    assert done.stderr.count("\n") == 1


def test_a_plugin_that_fails_on_import_is_one_line_and_leaves_the_others_alone(tmp_path, plugged):
    (tmp_path / "rotten.py").write_text("raise RuntimeError('no such luck')\n")
    info = tmp_path / "rotten-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: rotten\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[m3dllm.systems]\nrotten = rotten:SPEC\n")
    env = plugged | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{plugged['PYTHONPATH']}"}
    done = m3dllm("run", "--system", "rotten", env=env)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "system 'rotten' of rotten cannot be loaded: RuntimeError: no such luck" in done.stderr
    listed = m3dllm("systems", env=env)
    assert listed.returncode == 0
    assert "no such luck" in listed.stdout


def test_an_answer_that_cannot_be_kept_fails_its_document_alone(corpus, tmp_path):
    payloads = ["\ud800", object(), {"x": 10**400}, "fine"]

    class Odd(System):
        def predict(self, documents):
            for document, payload in zip(documents, payloads, strict=False):
                yield RawOutput(document.id, payload=payload)

    documents = [e.document for e in plan(majority(corpus, tmp_path / "run")).test[:4]]
    lines = session.checked_answers(Odd(None, labels=LabelSet()), documents, "odd")
    errors = [decode_raw(line).error for _, line in lines]
    assert [bool(error) for error in errors] == [True, True, False, False]


def test_a_system_that_answers_the_wrong_document_is_named(corpus, tmp_path):
    class Wrong(System):
        def predict(self, documents):
            yield from (RawOutput("elsewhere") for _ in documents)

    documents = [e.document for e in plan(majority(corpus, tmp_path / "run")).test]
    with pytest.raises(UserError, match="'wrong' answered 'elsewhere' where document 'test0' was next"):
        list(session.checked_answers(Wrong(None, labels=LabelSet()), documents, "wrong"))


def test_a_system_that_stops_early_is_named(corpus, tmp_path):
    class Short(System):
        def predict(self, documents):
            return iter(())

    documents = [e.document for e in plan(majority(corpus, tmp_path / "run")).test]
    with pytest.raises(UserError, match="'short' stopped before document 'test0'"):
        list(session.checked_answers(Short(None, labels=LabelSet()), documents, "short"))
