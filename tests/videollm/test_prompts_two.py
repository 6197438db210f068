"""Version 2 of the prompts: examples as turns of the conversation, guidelines once, nothing to copy in the question."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

pytest.importorskip("jinja2", reason="needs the extra 'llm'")

from m3dllm import Experiment
from m3dllm.corpora.merge import merge_corpora
from m3dllm.corpora.native import load_corpus
from m3dllm.corpora.split import split_corpus, write_split
from m3dllm.errors import UserError
from m3dllm.experiment import plan
from m3dllm.normalize import normalize
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.messages import Still
from m3dllm.systems.videollm.system import VideoLLM
from m3dllm.systems.videollm.worked import WORKED
from tests.small import LABELS, example, small_corpus
from tests.videollm.documents import document, frames
from tests.videollm.test_shots import EMPTY, Echo, asked

TRAIN = [
    example(f"t{i}", f"[PER0 {name}] was born in [LOC1 {place}] .", relations=[("c0", "c1", "PER-LOC_birth")])
    for i, (name, place) in enumerate((("Ada", "Arles"), ("Bela", "Basel"), ("Cora", "Calais"), ("Dora", "Delft")))
]
STAGED = ('{"PER":["Ada"],"LOC":["Delft"]}', '{"relations":[]}')
IN_BOTH = pytest.mark.parametrize("lang", ["en", "zh"])


def ask(*answers: str, about=None, train=TRAIN, labels=LABELS, **options):
    """(what was asked last, the answer)."""
    engine = Echo(*(answers or (EMPTY,)))
    made = VideoLLM(
        Config(**{"model": "echo", "max_tokens": 100} | options), labels=labels, examples=train, engine=engine
    )
    (raw,) = made.predict([about or asked()])
    return engine, raw


def said(message) -> str:
    return "".join(part for part in message.parts if isinstance(part, str))


@pytest.mark.parametrize("shots", [1, 2, 4])
def test_examples_are_turns_in_the_form_of_the_real_one(shots):
    engine, _ = ask(shots=shots)
    assert [message.role for message in engine.messages] == ["system", *["user", "assistant"] * shots, "user"]
    questions = {message.parts[-1] for message in engine.messages if message.role == "user"}
    assert len(questions) == 1
    assert all(json.loads(said(message))["chains"] for message in engine.messages if message.role == "assistant")


def test_all_before_the_last_document_is_one_beginning_where_the_examples_are_fixed():
    first, second = (
        ask(about=asked(text, id=text), shots=2, shot_choice="fixed")[0] for text in ("Edna left .", "Ada fell .")
    )
    assert [(m.role, said(m)) for m in first.messages[:-1]] == [(m.role, said(m)) for m in second.messages[:-1]]
    assert said(first.messages[-1]) != said(second.messages[-1])


def test_fixed_examples_are_never_of_the_video_of_the_document():
    train = [replace(e, document=replace(e.document, group=f"g{i}")) for i, e in enumerate(TRAIN)]
    for i in range(4):
        engine, _ = ask(about=asked(group=f"g{i}"), shots=3, shot_choice="fixed", train=train)
        assert not any(train[i].document.text in said(message) for message in engine.messages)


def test_frames_of_examples_are_shown_on_request(tmp_path):
    shot = example("shot", "[PER0 Ada] was born in [LOC1 Arles] .", frames=2)
    stills = [
        replace(f, index=g.index, annotated=True)
        for f, g in zip(frames(tmp_path, (64, 48), (64, 48)), shot.document.frames, strict=True)
    ]
    shot = replace(shot, document=replace(shot.document, frames=tuple(stills)))
    for shot_frames in (0, 1, 2):
        engine, _ = ask(shots=1, shot_frames=shot_frames, train=[shot])
        assert sum(isinstance(part, Still) for part in engine.messages[1].parts) == shot_frames
        assert len(json.loads(said(engine.messages[2]))["regions"]) == shot_frames


@IN_BOTH
@pytest.mark.parametrize("strategy", ["joint", "staged", "mqa"])
def test_a_question_has_nothing_that_could_be_copied_as_an_answer(strategy, lang):
    text = "Ada is from Delft ." if lang == "en" else "苏珊去了北京。"
    found = '{"PER":["Ada"],"LOC":["Delft"]}' if lang == "en" else '{"PER":["苏珊"],"LOC":["北京"]}'
    answers = {"joint": [EMPTY], "staged": [found, '{"relations":[]}'], "mqa": ['{"mentions":[]}']}[strategy]
    engine, _ = ask(*answers, about=asked(text, lang=lang), strategy=strategy)
    question = said(engine.messages[-1])
    assert "…" not in question
    assert not re.search(r"[\[{]\"|\[\]", question)


@IN_BOTH
def test_the_form_of_a_joint_answer_is_shown_on_another_domain_where_there_are_no_examples(lang):
    text = WORKED[lang].document.text
    about = document("d", lang)
    assert text in ask(about=about)[0].asked[0]
    assert (
        text
        not in ask(about=about, shots=1, train=[replace(e, document=replace(e.document, lang=lang)) for e in TRAIN])[
            0
        ].asked[0]
    )
    assert text not in ask(about=about, prompt_form="compact")[0].asked[0]
    assert text not in ask(about=about, prompt_version=1)[0].asked[0]


@pytest.mark.parametrize("shots", [0, 1])
def test_what_is_copied_from_an_example_is_counted_and_dropped(shots):
    copied, chain = ("the hungry wader", "An old grey heron") if not shots else ("Arles", "Ada")
    answer = {
        "chains": [
            {"id": "c0", "type": "PER", "mentions": ["Edna", copied]},
            {"id": "c1", "type": "PER", "mentions": [[chain, 1]]},
            {"id": "c2", "type": "PER", "mentions": ["…"]},
        ],
        "relations": [],
        "regions": [],
    }
    about = asked("Edna left .")
    _, raw = ask(json.dumps(answer), about=about, shots=shots, train=TRAIN[:1])
    prediction = normalize(about, raw, LABELS)
    assert [i.code for i in prediction.issues] == ["copied_template"]
    assert prediction.issues[0].detail.startswith("3 texts")
    assert [[m.span for m in chain.mentions] for chain in prediction.annotation.chains] == [[(0, 4)]]


def test_a_text_of_an_example_that_stands_in_the_document_is_no_copy():
    answer = '{"chains":[{"id":"c0","type":"PER","mentions":["Ada"]}],"relations":[],"regions":[]}'
    _, raw = ask(answer, about=asked("Ada left ."), shots=1, train=TRAIN[:1])
    assert raw.payload == answer
    assert raw.issues == ()


def test_placeholders_in_an_answer_about_types_are_counted_too():
    _, raw = ask('{"PER":["…"],"LOC":[]}', strategy="staged")
    assert [issue.code for issue in raw.issues] == ["copied_template"]
    assert raw.payload["chains"] == []


# --- guidelines -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = small_corpus(tmp_path_factory.mktemp("corpus") / "small")
    (folder / "guidelines.en.md").write_text("Mark every person.\n", encoding="utf-8")
    (folder / "guidelines.zh.md").write_text("标出每个人物。\n", encoding="utf-8")
    return folder


def settled(corpus, **options) -> Config:
    return plan(Experiment(system="video-llm", corpus=corpus, options=options, lang="en")).config


@IN_BOTH
def test_the_guidelines_of_the_corpus_stand_in_the_prompt_once(corpus, lang):
    config = settled(corpus, model="echo", shots=2, engine="transformers")
    engine = Echo(EMPTY)
    train = load_corpus(corpus)["train"]
    list(VideoLLM(config, labels=LABELS, examples=train, engine=engine).predict([document("d", lang)]))
    assert engine.asked[0].count("Mark every person." if lang == "en" else "标出每个人物。") == 1


def test_guidelines_that_are_given_come_before_those_of_the_corpus(corpus, tmp_path):
    (tmp_path / "mine.md").write_text("Mark nobody.", encoding="utf-8")
    config = settled(corpus, model="echo", guidelines=str(tmp_path / "mine.md"))
    engine = Echo(EMPTY)
    list(VideoLLM(config, labels=LABELS, engine=engine).predict([asked()]))
    assert "Mark nobody." in engine.asked[0]
    assert "Mark every person." not in engine.asked[0]
    assert config.sources()["guidelines"] != settled(corpus, model="echo").sources()["guidelines"]


def test_prompts_that_show_no_guidelines_refuse_them(corpus):
    for options in ({"prompt_version": 1}, {"prompt_form": "compact"}):
        with pytest.raises(UserError, match=r"--guidelines: .* shows none"):
            settled(corpus, model="echo", guidelines=str(corpus), **options)
        assert settled(corpus, model="echo", **options).guidelines is None


@pytest.mark.parametrize(("text", "problem"), [("", "is empty"), (None, "cannot be read|No such file|does not exist")])
def test_guidelines_that_cannot_be_read_are_one_line(corpus, tmp_path, text, problem):
    if text is not None:
        (tmp_path / "mine.md").write_text(text)
    with pytest.raises(UserError, match=problem):
        settled(corpus, model="echo", guidelines=str(tmp_path / "mine.md"))


def test_guidelines_go_with_a_corpus_that_is_split_or_merged(corpus, tmp_path):
    whole = load_corpus(corpus)
    write_split(tmp_path / "split", whole, split_corpus(whole))
    assert (tmp_path / "split/guidelines.zh.md").read_text(encoding="utf-8") == "标出每个人物。\n"
    same = merge_corpora([whole, load_corpus(tmp_path / "split")])
    assert same.images["guidelines.en.md"] == b"Mark every person.\n"
    (tmp_path / "split/guidelines.en.md").unlink()
    differ = merge_corpora([whole, load_corpus(tmp_path / "split")])
    assert "guidelines.en.md" not in differ.images
    assert "guidelines" in {left.what for left in differ.left_out}


# --- version and form -------------------------------------------------------------------------------------------------


def test_the_version_is_that_of_the_adapter_else_of_the_model(corpus, tmp_path):
    (tmp_path / "joint").mkdir()
    (tmp_path / "joint/joint.en.v1.jinja").write_text("Mine.", encoding="utf-8")
    assert settled(corpus).prompt_version == 1
    assert settled(corpus, shots=1).prompt_version == 2
    assert settled(corpus, adapter="demo").prompt_version == 1
    assert settled(corpus, model="any").prompt_version == 2
    assert settled(corpus, model="any", prompts=str(tmp_path)).prompt_version == 1
    assert settled(corpus, prompt_version=2).prompt_version == 2


@IN_BOTH
def test_the_compact_form_has_labels_and_no_more(lang):
    about = asked("Edna left .", lang=lang)
    full, compact = (ask(about=about, prompt_form=form)[0].asked[0] for form in ("full", "compact"))
    assert "PER-LOC_birth" in compact
    assert all(word not in compact for word in ("born in", "出生地", "chains"))
    assert len(compact) < len(full) / 3


def test_version_one_has_one_form_and_examples_of_text():
    for options in ({"prompt_form": "compact"}, {"shot_frames": 1}):
        with pytest.raises(UserError, match="--prompt-form and --shot-frames: version 1"):
            ask(prompt_version=1, **options)


def test_a_template_that_version_two_lacks_is_that_of_version_one():
    engine, _ = ask('{"mentions":["Ada"]}', "A", strategy="mqa")
    assert "Answer with the letter alone." in engine.asked[1]
