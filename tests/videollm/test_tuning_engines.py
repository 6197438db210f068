"""An adapter in every engine: the same greedy answers, and the same proof that it does something."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("transformers", reason="needs the extra 'llm'")
pytest.importorskip("llguidance", reason="needs the extra 'llm'")

from m3dllm.corpora.demo import generate_demo
from m3dllm.corpora.native import load_corpus, write_corpus
from m3dllm.errors import UserError
from m3dllm.systems.videollm.adapters.probe import effect
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines.vllm import _comparable
from m3dllm.systems.videollm.system import VideoLLM
from tests.small import LABELS, small_corpus
from tests.videollm.test_openai_engine import completion, serve  # noqa: F401  a fixture

OPTIONS = {
    "max_chains": 3,
    "max_mentions": 3,
    "max_relations": 2,
    "max_regions": 2,
    "max_tokens": 160,
    "longest_side": 64,
    "device": "cpu",
    "dtype": "float32",
    "context": 6000,
    "rank": 4,
    "alpha": 8,
    "epochs": 1,
    "lr": 1e-2,
    "step_size": 2,
    "dev_limit": 1,
}


@pytest.mark.slow
def test_an_adapter_gives_the_same_greedy_answers_in_transformers_and_vllm(tiny, tmp_path):
    pytest.importorskip("vllm", reason="needs the extra 'vllm'")
    corpus = load_corpus(small_corpus(tmp_path / "corpus", train=4, dev=1, test=4))
    base = {"model": tiny("qwen2_5_vl")} | OPTIONS
    VideoLLM(Config(**base), labels=LABELS).fit(corpus["train"], corpus["dev"], tmp_path)
    documents = [example.document for example in corpus["test"]]
    said = {}
    for name, options in {
        "transformers": {"adapter": str(tmp_path)},
        "vllm": {"adapter": str(tmp_path), "engine": "vllm"},
        "plain": {},
    }.items():
        system = VideoLLM(Config(**base | options), labels=LABELS)
        said[name] = [raw.payload for raw in system.predict(documents)]
        assert ("adapter" in system.provenance) == (name != "plain")
        system.engine.close()
    assert said["transformers"] == said["vllm"] != said["plain"]


@pytest.mark.slow
def test_the_embedded_model_and_its_adapter_answer_in_vllm_as_in_transformers(tmp_path):
    pytest.importorskip("vllm", reason="needs the extra 'vllm'")
    write_corpus(tmp_path / "corpus", generate_demo(5, documents={"test": 4}))
    corpus = load_corpus(tmp_path / "corpus")
    documents = [example.document for example in corpus["test"]]
    said = {}
    for engine in ("transformers", "vllm"):
        for adapter in (None, "demo"):
            system = VideoLLM(
                Config(engine=engine, adapter=adapter, device="cpu", dtype="float32"), labels=corpus.labels
            )
            said[engine, adapter] = [[turn.text for turn in raw.turns] for raw in system.predict(documents)]
            system.engine.close()
    assert said["transformers", None] == said["vllm", None]
    assert said["transformers", "demo"] == said["vllm", "demo"]
    assert said["vllm", None] != said["vllm", "demo"]


@pytest.mark.parametrize(
    ("adapted", "plain", "changed"),
    [
        ({1: -1.0, 2: -2.0}, {2: -2.5, 1: -1.0}, 0.5),
        ({1: -1.0, 2: -2.0}, {1: -1.25, 3: -9.0}, 0.25),
        ({1: -1.0}, {2: -1.0}, math.inf),
    ],
)
def test_in_vllm_the_tokens_that_are_likely_with_and_without_an_adapter_are_compared(adapted, plain, changed):
    assert effect(*_comparable([adapted], [plain])) == changed


# --- a server ---------------------------------------------------------------------------------------------------------

BASE = {"id": "base-qwen3-vl", "owned_by": "someone", "max_model_len": 9000}
MODELS = {"data": [BASE, {"id": "mine", "owned_by": "someone", "parent": "base-qwen3-vl", "root": "/adapters/mine"}]}
ANSWER = '{"chains":[],"relations":[],"regions":[]}'


def first_token(logprob: float) -> dict:
    """A completion of one token, with its log-probability."""
    said = completion("a")
    said["choices"][0]["logprobs"] = {"content": [{"top_logprobs": [{"token": "a", "logprob": logprob}]}]}
    return said


def ask(server, **options) -> VideoLLM:
    config = Config(engine="openai", base_url=server.url, retries=0, batch=1, **options)
    return VideoLLM(config, labels=LABELS)


def test_an_adapter_is_requested_from_a_server_by_name(serve):  # noqa: F811
    server = serve(MODELS, says=lambda n: (200, first_token(-1.0 if n < 3 else -2.0) if n < 6 else completion(ANSWER)))
    system = ask(server, adapter="mine")
    assert system.engine.context == 9000
    assert [body["model"] for body in server.asked] == ["mine"] * 3 + ["base-qwen3-vl"] * 3
    assert system.provenance["model"] == "mine"


def test_an_adapter_of_a_server_that_does_nothing_is_an_error(serve):  # noqa: F811
    server = serve(MODELS, says=lambda n: (200, first_token(-1.0)))
    with pytest.raises(UserError, match="adapter 'mine' changes no log-probability of three texts"):
        assert ask(server, adapter="mine").engine


def test_a_server_without_log_probabilities_proves_nothing_and_says_so(serve, caplog):  # noqa: F811
    server = serve(MODELS)
    assert ask(server, adapter="mine").engine
    assert "whether 'mine' has an effect cannot be checked" in caplog.text


def test_an_adapter_that_a_server_does_not_have_is_one_line(serve):  # noqa: F811
    with pytest.raises(UserError, match="does not serve 'yours': expected one of base-qwen3-vl, mine as --adapter"):
        assert ask(serve(MODELS), adapter="yours").engine
