"""Data is read, never run: templates, checkpoints, encoders, adapters and pictures that try."""

from __future__ import annotations

import json
import time

import pytest

from m3dllm.errors import UserError
from m3dllm.experiment import read_done
from m3dllm.files import sha256_file

OUT = [
    "{{ part.__globals__ }}",
    "{{ part.__class__.__mro__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ document.__init__ }}",
    "{{ names.append('x') }}",
    "{% for i in range(10 ** 9) %}x{% endfor %}",
    "{{ part('mentions') }}",
]


@pytest.mark.parametrize("template", OUT)
def test_a_template_reaches_nothing_behind_its_values(template, tmp_path):
    pytest.importorskip("jinja2")
    from m3dllm.systems.videollm.prompts import Prompts

    (tmp_path / "document").mkdir()
    (tmp_path / "document/mentions.en.v1.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(UserError, match=r"mentions\.en\.v1\.jinja.*(cannot be filled|is not a valid template)"):
        Prompts(tmp_path).render("document/mentions", "en", names=["Ada"], document="text")


def test_an_ordinary_template_is_filled(tmp_path):
    from m3dllm.systems.videollm.prompts import Prompts

    (tmp_path / "document").mkdir()
    (tmp_path / "document/mentions.zh.v1.jinja").write_text(
        "{% for name in names %}{{ name | upper }}{{ ', ' if not loop.last }}{% endfor %}", encoding="utf-8"
    )
    assert Prompts(tmp_path).render("document/mentions", "zh", names=["艾达", "b"]) == "艾达, B"


# --- checkpoints ------------------------------------------------------------------------------------------------------


def checkpoint(folder, files):
    folder.mkdir()
    (folder / "weights").write_bytes(b"w")
    (folder / "done.json").write_text(json.dumps({"format": 1, "files": files}), encoding="utf-8")
    return folder


def test_a_checkpoint_of_its_own_files_is_read(tmp_path):
    folder = checkpoint(tmp_path / "c", {})
    (folder / "done.json").write_text(json.dumps({"files": {"weights": sha256_file(folder / "weights")}}))
    assert read_done(folder)["files"]


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "link", "", "x\0y", "链接"])
def test_a_checkpoint_names_no_file_out_of_its_folder(name, tmp_path):
    (tmp_path / "secret").write_bytes(b"s")
    folder = checkpoint(tmp_path / "c", {name: sha256_file(tmp_path / "secret")})
    for link in ("link", "链接"):
        (folder / link).symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="which is not in the checkpoint"):
        read_done(folder)


# --- encoders ---------------------------------------------------------------------------------------------------------


def with_code(folder, marker):
    """An encoder's folder that brings its own program, which leaves a mark where it is run."""
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass C: pass\nclass M: pass\n")
    auto = {"AutoConfig": "evil.C", "AutoModel": "evil.M", "AutoTokenizer": ["evil.M", "evil.M"]}
    (folder / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": auto}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "M", "auto_map": auto}))
    (folder / "preprocessor_config.json").write_text(json.dumps({"auto_map": {"AutoImageProcessor": "evil.M"}}))
    return str(folder)


@pytest.mark.parametrize("kind", ["text", "vision", "retriever", "text checkpoint", "vision checkpoint"])
def test_an_encoder_never_brings_a_program(kind, tmp_path, monkeypatch):
    pytest.importorskip("transformers", reason="needs the extra 'supervised'")
    from m3dllm.systems.supervised import text, vision
    from m3dllm.systems.videollm.retrieval import _load

    monkeypatch.setattr("builtins.input", lambda _: "y")
    folder, marker = with_code(tmp_path / "e", tmp_path / "ran"), tmp_path / "ran"
    load = {
        "text": text.load_text_encoder,
        "vision": vision.load_vision_encoder,
        "retriever": _load,
        "text checkpoint": lambda name: text.empty_text_encoder(name, name="x"),
        "vision checkpoint": lambda name: vision.empty_vision_encoder(name, name="x"),
    }[kind]
    with pytest.raises(UserError):
        load(folder)
    assert not marker.exists()


# --- adapters ---------------------------------------------------------------------------------------------------------

MODULES = ["model", "model.layers.0.q_proj", "model.layers.0.v_proj", "model.layers.1.q_proj", "a" * 60 + "!"]


def settings(**values):
    from m3dllm.systems.videollm.adapters.patterns import safe_settings

    pytest.importorskip("regex")
    return safe_settings(values, MODULES)


@pytest.mark.parametrize("key", ["target_modules", "exclude_modules", "rank_pattern", "alpha_pattern"])
@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|aa)+$", r"(a|a)*b", r"(.*a){25}c"])
def test_a_pattern_of_an_adapter_cannot_hang(key, pattern):
    value = {pattern: 4} if key.endswith("pattern") else pattern
    started = time.process_time()
    try:
        settings(**{key: value})
    except ValueError as error:
        assert "takes longer" in str(error) or "matches no layer" in str(error)  # noqa: PT017
    assert time.process_time() - started < 10


def test_patterns_of_an_adapter_become_the_names_that_they_match():
    import re

    found = settings(target_modules=r".*\.(q|v)_proj", exclude_modules=r".*layers\.1.*", rank_pattern={"v_proj": 2})
    assert [n for n in MODULES if re.fullmatch(found["target_modules"], n)] == MODULES[1:4]
    assert [n for n in MODULES if re.fullmatch(found["exclude_modules"], n)] == [MODULES[3]]
    assert found["rank_pattern"] == {re.escape(MODULES[2]): 2}
    assert settings(target_modules=["q_proj"])["target_modules"] == ["q_proj"]
    assert settings(target_modules="all-linear")["target_modules"] == "all-linear"


@pytest.mark.parametrize(
    "values",
    [
        {"target_modules": "nothing"},
        {"target_modules": "("},
        {"rank_pattern": {"[": 1}},
        {"layers_pattern": "(a+)+"},
        {"layers_pattern": ["h", "(a+)+"]},
        {"megatron_config": {"a": 1}, "megatron_core": "os"},
        {"auto_mapping": {"parent_library": "os"}},
    ],
)
def test_what_an_adapter_may_not_say_is_refused(values):
    with pytest.raises(ValueError, match=r"not supported|no layer|not a valid pattern|not the name"):
        settings(**values)
