"""Models that read no images: they are shown the texts, and say so; and models whose boxes nobody knows how to read."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("transformers", reason="needs the extra 'llm'")
pytest.importorskip("llguidance", reason="needs the extra 'llm'")

from m3dllm import pipeline
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment
from m3dllm.normalize import normalize
from m3dllm.report import write_report
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines.local import model
from m3dllm.systems.videollm.families import UNKNOWN
from m3dllm.systems.videollm.system import VideoLLM
from tests.small import LABELS, small_corpus
from tests.videollm.documents import document, frames

SMALL = {"max_chains": 3, "max_mentions": 2, "max_relations": 2, "max_regions": 1, "max_mention_characters": 20}
FAST = {"dtype": "float32", "device": "cpu", "max_tokens": 150} | SMALL
NOTE = "text only: the model reads no images"


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    return frames(tmp_path_factory.mktemp("frames"), (160, 90), (64, 64))


def system(folder: str, **options) -> VideoLLM:
    return VideoLLM(Config(model=folder, **FAST | options), labels=LABELS)


def mixed(stills) -> list:
    return [
        document("en", stills=stills),
        document("zh", "zh", stills=stills),
        document("silent", text="", stills=stills),
        document("blind"),
        document("empty", "zh", ""),
    ]


@pytest.mark.parametrize("strategy", ["joint", "staged", "mqa"])
def test_a_model_without_vision_is_shown_the_texts_alone(tiny, stills, strategy):
    made = system(tiny("text_only"), strategy=strategy)
    raws = list(made.predict(mixed(stills)))
    assert [(raw.failure, raw.frames) for raw in raws] == [(None, ())] * 5
    assert all(not turn.tokens_vision for raw in raws for turn in raw.turns)
    assert not raws[2].turns
    assert (made.provenance["family"], made.provenance["shown"]) == ("text only", "text only")
    assert made.provenance["box_convention"] is None
    assert made.notes == (NOTE,)


def test_grounding_is_absent_from_the_scores_of_a_model_without_vision(tiny, tmp_path):
    corpus = small_corpus(tmp_path / "corpus", train=0, dev=0, test=2)
    options = {"model": tiny("text_only")} | FAST
    run = pipeline.run(Experiment(system="video-llm", corpus=corpus, options=options, out=tmp_path / "run"))
    record = run.record()
    assert (record.unsupported, record.answered_tasks) == (("grounding",), ("entity", "chain", "relation"))
    assert NOTE in record.notes
    for scored in (run, pipeline.score(run.path)):
        of = json.loads((scored.path / "scores.json").read_text())["languages"]["en"]["end_to_end"]
        assert "grounding" not in {*of["tasks"], *of["average_of"]}
    write_report([run.path], tmp_path / "report")
    assert NOTE in (tmp_path / "report" / "report.md").read_text()


def test_a_model_without_vision_is_not_asked_for_grounding_alone(tiny, tmp_path):
    corpus = small_corpus(tmp_path / "corpus", train=0, dev=0, test=1)
    options = {"model": tiny("text_only")} | FAST
    experiment = Experiment(
        system="video-llm", corpus=corpus, options=options, tasks=("grounding",), out=tmp_path / "run"
    )
    with pytest.raises(UserError, match=f"as configured does not answer grounding: {NOTE}"):
        pipeline.run(experiment)


@pytest.mark.parametrize(
    ("options", "why"),
    [({"frames": 0}, "--frames 0"), ({"video": True}, "one video"), ({}, None)],
)
def test_where_no_regions_are_prompted_for_the_row_says_why(tiny, options, why):
    made = system(tiny("qwen2_5_vl"), **options)
    assert made.engine.sees
    assert made.unsupported == ({"grounding"} if why else frozenset())
    assert [why in note for note in made.notes] == ([True] if why else [])


def test_a_model_of_an_unknown_family_sees_frames_and_is_prompted_for_regions_only_in_a_named_convention(
    tiny, stills, monkeypatch
):
    monkeypatch.setattr(model, "find_family", lambda *_, **__: UNKNOWN)
    about = document("en", stills=stills)
    made = system(tiny("qwen2_5_vl"))
    (raw,) = made.predict([about])
    assert (raw.failure, raw.frames) == (None, (24, 48))
    assert raw.turns[0].tokens_vision > 0
    assert not normalize(about, raw, LABELS).annotation.regions
    assert made.unsupported == {"grounding"}
    assert "nothing documents" in made.notes[0]
    assert system(tiny("qwen2_5_vl"), box_convention="permille").unsupported == frozenset()


def test_a_gguf_file_is_a_model_like_its_folder(tmp_path):
    pytest.importorskip("gguf", reason="needs the extra 'gguf'")
    from tests.videollm import tiny as models

    file = models.gguf(tmp_path / "model.gguf")
    about = [document("en"), document("zh", "zh")]
    ours, theirs = ([raw.payload for raw in system(str(p)).predict(about)] for p in (tmp_path / "folder", file))
    assert ours == theirs
    assert system(str(file)).provenance["sha256"] != system(str(tmp_path / "folder")).provenance["sha256"]


def test_a_gguf_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"none\.gguf: does not exist"):
        assert system(str(tmp_path / "none.gguf")).engine


@pytest.mark.slow
def test_vllm_answers_as_the_transformers_engine_does(tiny, stills):
    pytest.importorskip("vllm", reason="needs the extra 'vllm'")
    answers = []
    for engine in ("transformers", "vllm"):
        made = system(tiny("text_only"), engine=engine, context=4000)
        answers.append([(raw.failure, raw.payload, raw.frames) for raw in made.predict(mixed(stills))])
        assert made.notes == (NOTE,)
        made.engine.close()
    assert answers[0] == answers[1]
