"""Keys and other secrets of servers stand in no file, page or message, and go to no other host."""

from __future__ import annotations

import json
import logging

import pytest

from m3dllm.errors import UserError
from m3dllm.runs import Run
from m3dllm.systems.videollm.address import Address, Secrets, read_key, read_pairs, without_secrets
from tests.videollm.test_openai_engine import ANSWER, completion, serve  # noqa: F401
from tests.videollm.test_servers import error, one, run  # noqa: F401


@pytest.mark.parametrize(
    "key", ['"sesame-1"', "'sesame-1'", "sesame-1\n", "sesa\r\nme-1", "sesame 1", "sésame-1", "se\x00me"[:2] + "\x7f-1"]
)
def test_a_key_that_was_copied_badly_is_refused_and_not_printed(monkeypatch, key):
    monkeypatch.setenv("A_KEY", key)
    with pytest.raises(UserError, match=r"the key in \$A_KEY contains") as found:
        read_key("A_KEY")
    assert "1" not in str(found.value).replace("A_KEY", "")


def test_a_key_given_as_the_name_of_its_variable_is_not_printed():
    with pytest.raises(UserError) as found:
        read_key("sk-secret-1")
    assert "secret" not in str(found.value)


SECRETS = ("hunter2-pass", "tok-12345", "tenant-s3cret", "q-s3cret", "key-s3cret-9")


def test_secrets_stand_in_no_file_and_no_message(serve, run, monkeypatch):  # noqa: F811
    monkeypatch.setenv("OPENAI_API_KEY", SECRETS[4])

    def says(n):
        echo = " ".join(SECRETS)
        return (400, error(f"flagged: {echo}, moderation")) if n == 1 else (200, completion(ANSWER) | {"model": echo})

    server = serve(says=says)
    url = server.url.replace("http://", f"http://ada:{SECRETS[0]}@") + f"?token={SECRETS[1]}"
    _, printed = run(url, "--header", f"X-Tenant: {SECRETS[2]}", f"--query=q={SECRETS[3]}")
    written = "".join(path.read_text() for path in (run.path / "run").rglob("*") if path.is_file())
    for secret in SECRETS:
        assert secret not in printed
        assert secret not in written
    assert "ada:" not in json.dumps(Run(run.path / "run").record().provenance)
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    "text",
    [
        "http://u:hunter2@[::1/v1",
        "ftp://u:hunter2@h/v1?k=hunter2",
        "http://u:hunter2@h:99999/v1",
        "u:hunter2@h?k=hunter2",
        "http://?hunter2",
    ],
)
def test_an_address_that_is_none_is_refused_without_its_secrets(text):
    with pytest.raises(UserError, match="expected an address") as found:
        Address.parse(text)
    assert "hunter2" not in str(found.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:p@h.org:8443/v1/?k=v#f", "https://h.org:8443/v1"),
        ("http://[::1]:80/v1/chat/completions", "http://[::1]:80/v1"),
        ("http://h", "http://h"),
    ],
)
def test_an_address_is_shown_bare(text, shown):
    assert Address.parse(text).shown == shown


def test_what_is_no_address_is_shown_bare_too():
    assert without_secrets("http://u:p@w@h/v1?q#x") == "http://h/v1"


def test_a_header_with_commas_is_one():
    assert read_pairs(["A: b", "c", "D: e"], option="--header", mark=":") == {"A": "b,c", "D": "e"}


def test_a_header_names_a_variable_that_is_not_there(monkeypatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(UserError, match="no environment variable NOWHERE"):
        read_pairs(["A: $NOWHERE"], option="--header", mark=":")


def test_secrets_are_struck_out_wherever_they_stand():
    assert Secrets.of(["sesame"]).strike({"a": ["open sesame"], "sesame": 1}) == {"a": ["open ***"], "***": 1}


def test_the_words_of_a_header_stay_in_answers(serve):  # noqa: F811
    words = "X-Title: chains of mentions, relations and regions, in choices"
    raw = one(serve(), header=(words,))
    assert (raw.payload, raw.failure) == (ANSWER, None)


def test_a_key_that_a_model_repeats_is_struck_out(serve, monkeypatch):  # noqa: F811
    monkeypatch.setenv("OPENAI_API_KEY", SECRETS[4])
    raw = one(serve(says=lambda n: (200, completion(f"{SECRETS[4]} {ANSWER}"))))
    assert raw.turns[0].text == f"*** {ANSWER}"


def test_no_log_of_the_libraries_shows_what_is_secret_in_the_address(serve, caplog):  # noqa: F811
    with caplog.at_level(logging.INFO):
        one(serve(), query=(f"q={SECRETS[3]}",))
    assert SECRETS[3] not in caplog.text


def test_the_key_is_not_sent_to_another_host(serve, monkeypatch):  # noqa: F811
    monkeypatch.setenv("OPENAI_API_KEY", "sesame-open")
    other = serve()
    away = serve(says=lambda n: (307, b"", {"Location": f"{other.url}/chat/completions"}))
    with pytest.raises(UserError, match="it redirects"):
        one(away)
    assert other.asked == []


def test_what_the_environment_holds_for_other_servers_is_not_sent(serve, monkeypatch):  # noqa: F811
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "AZURE_OPENAI_API_KEY", "OPENAI_ORG_ID"):
        monkeypatch.setenv(name, "sesame-open")
    server = serve()
    one(server, api_key_env="NOT_SET_HERE")
    assert "sesame-open" not in str(server.headers)
