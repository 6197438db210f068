"""The openai engine over llama.cpp's own server, with SmolLM2-135M-Instruct: a real server and a real model."""

from __future__ import annotations

import json

import pytest

from m3dllm.normalize import normalize
from m3dllm.systems.videollm.engines.openai import gbnf, kinds
from tests.small import LABELS
from tests.videollm.documents import HARMLESS, OPEN, document
from tests.videollm.test_openai_engine import system

OPTIONS = {"max_tokens": 64, "max_chains": 4, "max_mentions": 3, "max_relations": 2, "timeout": 300.0}
MAY_BE = {"truncated"} | OPEN["joint"] | HARMLESS


def codes(about, raw) -> set[str]:
    return {issue.code for issue in normalize(about, raw, LABELS).issues}


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_llama_cpp_holds_answers_to_the_document_s_grammar(llama_server, lang):
    made, about = system(llama_server, **OPTIONS), document("d", lang)
    (raw,) = made.predict([about])
    assert raw.failure is None
    assert codes(about, raw) <= MAY_BE
    assert (made.provenance["server"], made.provenance["constraint"]) == ("llama.cpp", "grammar")
    assert made.provenance["response_models"]
    assert (made.provenance["shown"], made.unsupported) == ("text only", {"grounding"})
    assert made.engine.context == 4096


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_llama_cpp_without_llguidance_is_given_gbnf(llama_server, monkeypatch, lang):
    probes = kinds.LlamaCpp().probes()
    monkeypatch.setattr(kinds.LlamaCpp, "probes", lambda self: ({"grammar": "not a grammar"}, probes[1]))
    made, about = system(llama_server, **OPTIONS), document("d", lang)
    (raw,) = made.predict([about])
    assert raw.failure is None
    assert codes(about, raw) <= MAY_BE | {"bad_geometry", "fuzzy"}
    assert made.provenance["constraint"] == "grammar"


@pytest.mark.slow
def test_llama_cpp_takes_the_schema(llama_server):
    made = system(llama_server, schema_only=True, strategy="staged", **OPTIONS)
    (raw,) = made.predict([document("d")])
    assert raw.failure is None
    assert all(isinstance(json.loads(turn.text), dict) for turn in raw.turns if turn.finish == "stop")
    assert made.provenance["constraint"] == "schema"


@pytest.mark.slow
def test_what_llama_cpp_has_no_room_for_fails_its_document_alone(llama_server):
    made = system(llama_server, **OPTIONS, context=20_000)
    monstrous = document("long", text="zq qz " * 3000)
    long, short = made.predict([monstrous, document("short")])
    assert "exceeds the available context size" in long.failure.message
    assert not long.failure.retryable
    assert short.failure is None


# --- the grammar that is written for it -------------------------------------------------------------------------------

MENTIONS = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 0, "maxItems": 3}
SCHEMA = {"type": "object", "properties": {"PER": MENTIONS}, "required": ["PER"], "additionalProperties": False}


def test_mentions_are_runs_of_the_document_s_tokens():
    assert gbnf.write(SCHEMA, ("Ada", " ", "Love", "lace")).splitlines() == [
        'root ::= "{" "\\"PER\\":" "[" (item0 ("," item0){0,2})? "]" "}"',
        "item0 ::= mention",
        'mention ::= "\\"" (t0 | t1 | t2) "\\""',
        't0 ::= "Ada" (" " t1)?',
        't1 ::= "Love" (t2)?',
        't2 ::= "lace"',
    ]


def test_what_stands_in_quotes_is_escaped_twice():
    (line,) = (line for line in gbnf.write(SCHEMA, ('say "it"\\\n',)).splitlines() if line.startswith("t0"))
    assert line == 't0 ::= "say \\\\\\"it\\\\\\"\\\\\\\\\\\\n"'


def test_a_document_without_a_token_has_no_such_grammar():
    assert gbnf.write(SCHEMA, ()) is None


def test_a_choice_is_one_of_its_options():
    assert gbnf.one_of(["A", 'B"']) == 'root ::= "A" | "B\\""\n'
