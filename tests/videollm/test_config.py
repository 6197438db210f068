"""The options of the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from m3dllm.catalogue import option_table
from m3dllm.errors import UserError
from m3dllm.experiment import resolve_config
from m3dllm.labels import LabelSet
from m3dllm.registry import find_system
from m3dllm.system import SystemSpec
from m3dllm.systems.videollm.config import Config

SPEC = SystemSpec(name="video-llm", factory="x:y", config="m3dllm.systems.videollm.config:Config", summary="x")


def test_every_option_is_explained():
    assert [row["flag"] for row in option_table(Config) if not row["help"]] == []


def test_words_of_the_command_line_become_an_option():
    options = {"model": "a/b", "batch": "2", "video": "true", "temperature": "0.5"}
    config = resolve_config(SPEC, options, preset=None, seed=7)
    assert (config.model, config.batch, config.video, config.temperature, config.seed) == ("a/b", 2, True, 0.5, 7)


def test_a_strategy_that_is_none_is_refused():
    with pytest.raises(UserError, match="--strategy llama"):
        resolve_config(SPEC, {"strategy": "llama"}, preset=None, seed=0)


def test_the_options_load_no_model_library():
    code = (
        "import sys, m3dllm.systems.videollm.config, m3dllm.systems.videollm.families;"
        "print(sorted({'torch', 'transformers', 'jinja2', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"unconstrained": True, "schema_only": True}, "exclude each other"),
        ({"max_tokens": 3}, "--max-tokens 3"),
        ({"frames": -1}, "--frames -1"),
        ({"shots": -1}, "--shots -1"),
        ({"shots": 1}, "--shots 1: 0 of the 0 documents"),
        ({"tensor_parallel": 0}, "--tensor-parallel 0"),
        ({"tensor_parallel": 2}, "--tensor-parallel: only --engine vllm"),
        ({"max_mention_characters": 1}, "--max-mention-characters 1"),
    ],
)
def test_options_that_cannot_be_are_refused_before_a_model_loads(options, problem):
    pytest.importorskip("jinja2", reason="needs the extra 'llm'")
    from m3dllm.systems.videollm.system import VideoLLM
    from tests.small import LABELS

    with pytest.raises(UserError, match=problem):
        VideoLLM(Config(model="/nowhere", **options), labels=LABELS)


def test_a_label_set_without_types_is_refused():
    pytest.importorskip("jinja2", reason="needs the extra 'llm'")
    from m3dllm.systems.videollm.system import VideoLLM

    with pytest.raises(UserError, match="nothing to ask for"):
        VideoLLM(Config(model="/nowhere"), labels=LabelSet())


def test_an_engine_that_is_not_installed_is_one_line(monkeypatch):
    pytest.importorskip("jinja2", reason="needs the extra 'llm'")
    from m3dllm.systems.videollm.engines import make_engine

    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"needs 'vllm': pip install 'm3dllm\[vllm\]'"):
        make_engine(Config(model="/nowhere", engine="vllm"))


@pytest.mark.parametrize(
    ("engine", "module", "extra"),
    [("transformers", "torch", "llm"), ("vllm", "torch", "vllm"), ("openai", "openai", "server")],
)
def test_what_an_engine_needs_is_named_with_its_extra(monkeypatch, engine, module, extra):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"needs '{module}'.*pip install 'm3dllm\[{extra}\]'"):
        find_system("video-llm").require(Config(engine=engine))
