"""Several processes that share the documents: the same answers as one, and what happens when one dies."""

from __future__ import annotations

import os
import signal

import pytest

pytest.importorskip("transformers", reason="needs the extra 'llm'")
pytest.importorskip("llguidance", reason="needs the extra 'llm'")

from m3dllm.errors import UserError
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines import make_engine
from m3dllm.systems.videollm.engines.base import Request
from m3dllm.systems.videollm.engines.local.workers import gpu_shares, visible_gpus
from m3dllm.systems.videollm.messages import Message
from m3dllm.systems.videollm.system import VideoLLM
from tests.small import LABELS
from tests.videollm.documents import document, frames

SMALL = {"max_chains": 4, "max_mentions": 3, "max_relations": 3, "max_regions": 1, "max_mention_characters": 30}
TWO = {"workers": 2, "batch": 2, "dtype": "float32", "device": "cpu", "max_tokens": 200} | SMALL


def question(share: str, tokens: int = 8) -> Request:
    return Request(messages=(Message("user", (f"What of {share}?",)),), max_tokens=tokens, share=share)


@pytest.mark.slow
def test_two_processes_answer_as_one_and_in_order(tiny, tmp_path):
    stills = frames(tmp_path, (160, 90), (64, 64))
    documents = [document(f"d{i}", "zh" if i % 2 else "en", stills=stills[: i % 3]) for i in range(7)]
    documents.append(document("empty", text=""))
    options = TWO | {"model": tiny("qwen2_5_vl"), "strategy": "staged"}
    one = VideoLLM(Config(**options | {"workers": 1}), labels=LABELS)
    two = VideoLLM(Config(**options), labels=LABELS)
    ours, theirs = list(one.predict(documents)), list(two.predict(documents))
    assert [raw.document for raw in theirs] == [made.id for made in documents]
    assert [raw.payload for raw in theirs] == [raw.payload for raw in ours]
    assert [[t.tokens_in for t in raw.turns] for raw in theirs] == [[t.tokens_in for t in raw.turns] for raw in ours]
    assert two.provenance == one.provenance
    assert two.tally.tokens_out == one.tally.tokens_out
    assert two.tally.memory_mb > one.tally.memory_mb / 2
    two.engine.close()


@pytest.mark.slow
def test_two_processes_of_vllm_answer_as_one(tiny):
    pytest.importorskip("vllm", reason="needs the extra 'vllm'")
    documents = [document(f"d{i}", "zh" if i % 2 else "en") for i in range(3)]
    options = TWO | {"model": tiny("qwen2_5_vl"), "engine": "vllm", "context": 4000}
    answers = []
    for workers in (1, 2):
        system = VideoLLM(Config(**options | {"workers": workers}), labels=LABELS)
        answers.append([raw.payload for raw in system.predict(documents)])
        system.engine.close()
    assert answers[0] == answers[1]
    assert all(answers[0])


@pytest.mark.slow
def test_a_worker_that_dies_fails_what_it_had_in_hand_and_nothing_else(tiny):
    engine = make_engine(Config(model=tiny("qwen2_5_vl"), **TWO))
    for key, share in enumerate("abcd"):
        engine.submit(key, question(share))
    doomed = next(worker for worker in engine._workers if 0 in worker.in_hand)
    lost = set(doomed.in_hand)
    os.kill(doomed.process.pid, signal.SIGKILL)
    doomed.process.join()
    replies = {}
    while len(replies) < 4:
        replies |= dict(engine.poll())
    assert {key for key, reply in replies.items() if reply.failure} == lost == {0, 2}
    assert all(replies[key].failure.retryable and "signal 9" in replies[key].failure.message for key in lost)

    engine.submit(4, question("a"))  # goes to the one that is left
    ((key, reply),) = engine.poll()
    assert (key, reply.failure, reply.tokens_out > 0) == (4, None, True)

    (last,) = (worker for worker in engine._workers if worker.alive)
    os.kill(last.process.pid, signal.SIGKILL)
    engine.submit(5, question("b"))
    assert engine.poll()[0][1].failure.retryable
    with pytest.raises(UserError, match=r"all workers have died \(signal 9\): give the same command again"):
        engine.submit(6, question("c"))
    engine.close()


@pytest.mark.slow
def test_weights_that_no_worker_can_load_are_one_line(tiny, tmp_path):
    import shutil

    folder = tmp_path / "qwen3_vl"
    shutil.copytree(tiny("qwen3_vl"), folder)
    (folder / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match="cannot be loaded"):
        make_engine(Config(model=str(folder), **TWO))


def test_each_worker_sees_its_own_gpus():
    assert gpu_shares(Config(workers=2), ["0", "1", "2"]) == ["0", "1"]
    vllm = Config(workers=2, engine="vllm", tensor_parallel=2)
    assert gpu_shares(vllm, ["4", "5", "6", "7"]) == ["4,5", "6,7"]
    assert gpu_shares(Config(workers=3), []) == [None] * 3
    with pytest.raises(UserError, match=r"--workers 2 with --tensor-parallel 2 needs 4 GPUs, and 3 can be seen"):
        gpu_shares(vllm, ["0", "1", "2"])


def test_no_gpu_is_looked_for_where_none_is_wanted():
    assert visible_gpus(Config(device="cpu")) == []
    with pytest.raises(UserError, match="--device cuda:1 names one GPU"):
        visible_gpus(Config(device="cuda:1"))
