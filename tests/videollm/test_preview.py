"""What a run would send, without weights."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the extra 'llm'")
pytest.importorskip("llguidance", reason="needs the extra 'llm'")

from m3dllm import Experiment, pipeline
from m3dllm.errors import UserError
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.preview import preview
from m3dllm.systems.videollm.system import VideoLLM
from tests.small import LABELS, example, small_corpus
from tests.videollm.documents import document, frames


@pytest.fixture(scope="module")
def unweighted(tiny, tmp_path_factory) -> str:
    """A model's folder without its weights."""
    folder = tmp_path_factory.mktemp("model") / "qwen2_5_vl"
    folder.mkdir()
    for path in Path(tiny("qwen2_5_vl")).iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    return str(folder)


@pytest.mark.parametrize("strategy", ["joint", "staged", "mqa"])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_is_previewed_is_what_is_sent(tiny, unweighted, tmp_path, strategy, lang):
    options = {"strategy": strategy, "max_tokens": 16, "dtype": "float32", "device": "cpu"}
    about = document("d", lang, stills=frames(tmp_path, (160, 90)))
    shown = preview(Config(model=unweighted, **options), about, labels=LABELS)
    (raw,) = VideoLLM(Config(model=tiny("qwen2_5_vl"), **options), labels=LABELS).predict([about])
    sent = raw.turns[0]
    assert (shown.stage, shown.count.tokens, shown.count.vision) == (sent.stage, sent.tokens_in, sent.tokens_vision)
    assert "<|im_start|>user" in shown.prompt
    assert "start:" in shown.constraint
    assert f"{sent.tokens_in} tokens, {sent.tokens_vision} of them images" in str(shown)


def test_examples_stand_in_a_preview(unweighted):
    config = Config(model=unweighted, shots=1)
    shown = preview(config, document("d"), labels=LABELS, examples=[example("e", "[PER0 Zoe] sings .")])
    assert "Zoe sings ." in shown.prompt


def test_a_free_answer_is_said_to_be_free(unweighted):
    shown = preview(Config(model=unweighted, unconstrained=True), document("d"), labels=LABELS)
    assert shown.constraint is None
    assert str(shown).endswith("the answer is free")


def test_of_an_empty_document_nothing_is_asked(unweighted):
    assert preview(Config(model=unweighted), document("empty", text=""), labels=LABELS) is None


def test_a_document_that_does_not_fit_says_why(unweighted):
    with pytest.raises(UserError, match="too small for any document: the question with the label set"):
        preview(Config(model=unweighted, context=500), document("d"), labels=LABELS)


def test_the_grammar_of_a_dry_run_is_a_file(unweighted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpus = small_corpus(tmp_path / "corpus")
    options = {"model": unweighted}
    shown = pipeline.preview(Experiment(system="video-llm", corpus=corpus, options=options, out=tmp_path / "runs/mine"))
    assert shown.endswith("the answer is constrained by mine.grammar")
    assert "start:" in (tmp_path / "mine.grammar").read_text()
    assert not (tmp_path / "runs").exists()
