"""Passwords and keys in addresses that any option or path names stand in no message, no log and no file."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from m3dllm.ending import SafeFormatter
from m3dllm.errors import redact
from m3dllm.options import public, public_command
from m3dllm.systems.videollm.config import Config
from tests.small import small_corpus

ROOT = Path(__file__).resolve().parents[2]
SECRETS = ("hunter2-pass", "tok-12345678", "hf_0123456789abcdefghij")
ADDRESS = f"https://ada:{SECRETS[0]}@h.org/m?token={SECRETS[1]}"


def m3dllm(*words: object, **env: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "m3dllm", *map(str, words)]
    kept = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | kept | env)
    assert done.returncode == 2, done.stderr
    return done.stdout + done.stderr


def written(folder: Path) -> str:
    return "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("system", "option"), [("dffm", "--text-encoder"), ("video-llm", "--model")])
def test_an_address_in_an_option_is_never_shown_whole(system, option, tmp_path):
    corpus = small_corpus(tmp_path / "c", train=2, dev=2, test=2)
    words = ("run", "--system", system, "--corpus", corpus, "--lang", "en", "--out", tmp_path / "r", option, ADDRESS)
    printed = m3dllm(*words, HF_TOKEN=SECRETS[2])
    for secret in SECRETS:
        assert secret not in printed
        assert secret not in written(tmp_path)


@pytest.mark.parametrize("verb", [("check",), ("import", "auto")])
def test_an_address_in_the_place_of_a_path_is_never_shown_whole(verb, tmp_path):
    out = () if verb == ("check",) else ("--out", tmp_path / "o")
    printed = m3dllm(*verb, ADDRESS, *out)
    assert not [secret for secret in SECRETS if secret in printed]


@pytest.mark.parametrize("option", ["grounding_model", "retriever", "adapter", "model"])
def test_what_a_run_keeps_of_its_options_is_without_secrets(option):
    config = Config(**{option: ADDRESS})
    kept = str(public(config)) + str(public_command(("m3dllm", f"--{option}", ADDRESS), config))
    assert not [secret for secret in SECRETS if secret in kept]


def test_a_line_of_a_log_is_without_secrets():
    record = logging.LogRecord("m3dllm", logging.INFO, "", 0, "asks %s", (ADDRESS,), None)
    assert SafeFormatter().format(record) == "asks https://***@h.org/m?token=***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no https://u:p@w@h/x?q=1 here", "no https://***@h/x?q=1 here"),
        ("s3://h/x?X-Amz-Signature=abc&b=1", "s3://h/x?X-Amz-Signature=***&b=1"),
        ("https://h/a@b", "https://h/a@b"),
        ("ada@h.org said 12:30", "ada@h.org said 12:30"),
        ("Bearer hf_0123456789abcdefghij", "Bearer ***"),
    ],
)
def test_what_is_secret_is_struck_out_and_nothing_else(text, shown):
    assert redact(text) == shown


def test_keys_of_the_environment_are_struck_out_of_values(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "sesame-open\n")
    assert redact({"a": ["x sesame-open", 3]}) == {"a": ["x ***", 3]}
