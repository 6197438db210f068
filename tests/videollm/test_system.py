"""The system as the pipeline sees it: documents in, answers out."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace

import pytest

pytest.importorskip("transformers", reason="needs the extra 'llm'")
pytest.importorskip("llguidance", reason="needs the extra 'llm'")

from m3dllm.answers import Occurrences
from m3dllm.errors import UserError
from m3dllm.normalize import normalize
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.grammar import mention_chunks
from m3dllm.systems.videollm.system import VideoLLM
from m3dllm.types import Document, Frame, Given, Issue
from m3dllm.wire import decode_raw, encode_raw
from tests.small import LABELS, example
from tests.videollm.documents import HARMLESS, OPEN, adversarial, document, frames

SIZES = ((160, 90), (90, 160), (64, 64))
SMALL = {"max_chains": 4, "max_mentions": 3, "max_relations": 3, "max_regions": 1, "max_mention_characters": 30}


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    return frames(tmp_path_factory.mktemp("frames"), *SIZES)


@pytest.fixture(scope="module")
def make(tiny):
    loaded = {}

    def system(model: str = "qwen2_5_vl", **options) -> VideoLLM:
        config = Config(
            **{"model": tiny(model), "dtype": "float32", "device": "cpu", "max_tokens": 400} | SMALL | options
        )
        heavy = (config.model, config.batch, config.context, config.temperature, config.family)
        made = VideoLLM(config, labels=LABELS, engine=loaded.get(heavy))
        loaded[heavy] = made.engine
        return made

    return system


def mixed(stills) -> list[Document]:
    return [
        document("both", "en", stills=stills),
        document("zh", "zh", stills=stills[:1]),
        document("silent", "zh", "", stills),
        document("blind", "en"),
        document("empty", "en", ""),
    ]


@pytest.mark.parametrize("strategy", ["joint", "staged", "mqa", "gem", "riveg", "markup"])
@pytest.mark.parametrize("model", ["qwen2_5_vl", "qwen3_vl", "llava", "internvl"])
def test_every_document_is_answered_in_order(make, stills, model, strategy):
    documents = mixed(stills)
    raws = list(make(model, strategy=strategy).predict(documents))
    assert [raw.document for raw in raws] == [document.id for document in documents]
    assert [raw.failure for raw in raws] == [None] * 5
    for made, raw in zip(documents, raws, strict=True):
        assert decode_raw(encode_raw(raw)) == raw
        assert normalize(made, raw, LABELS).document == made.id
        assert raw.frames == tuple(frame.index for frame in made.frames)


def test_an_answer_costs_what_its_turns_cost(make, stills):
    system = make(strategy="staged")
    (raw,) = system.predict([document("both", "en", stills=stills)])
    assert raw.turns
    assert raw.tokens_in == sum(turn.tokens_in for turn in raw.turns) == system.tally.tokens_in
    assert raw.tokens_out == sum(turn.tokens_out for turn in raw.turns) == system.tally.tokens_out
    assert system.tally.finishes == Counter(turn.finish for turn in raw.turns)
    assert all(turn.tokens_vision == raw.turns[0].tokens_vision > 0 for turn in raw.turns)
    assert raw.turns[0].tokens_reused == 0 < raw.turns[-1].tokens_reused


def test_the_prompts_that_were_sent_are_there_once_each(make, stills):
    system = make(strategy="staged")
    raws = list(system.predict(mixed(stills)))
    sent = system.take_prompts()
    assert {turn.prompt_sha256 for raw in raws for turn in raw.turns} == set(sent)
    assert all(json.loads(text)[0]["role"] == "system" for text in sent.values())
    later = json.loads(sent[raws[0].turns[-1].prompt_sha256])[1]["content"]
    first = raws[0].turns[0].prompt_sha256
    assert later[0] == {"like": first, "parts": len(json.loads(sent[first])[1]["content"]) - 1}
    assert "Where do the frames show them?" in later[1]
    assert system.take_prompts() == {}


def test_what_was_used_is_said(make, stills):
    system = make()
    list(system.predict(mixed(stills)))
    said = system.provenance
    assert (said["family"], said["box_convention"], said["constraint"]) == ("qwen2.5-vl", "pixels", "grammar")
    assert {"joint/joint.en.v2.jinja", "joint/joint.zh.v2.jinja"} <= said["prompts"].keys()
    assert len(said["sha256"]) == 64


def test_a_batch_and_one_at_a_time_give_the_same(make, stills):
    documents = mixed(stills)
    together = make(strategy="staged", batch=4).predict(documents)
    alone = make(strategy="staged", batch=1).predict(documents)
    assert [raw.payload for raw in together] == [raw.payload for raw in alone]


def test_boxes_of_a_family_that_speaks_pixels_are_of_the_frame_as_it_was_shown(make, stills):
    (raw,) = make().predict([document("both", "en", stills=stills)])
    assert raw.boxes.sizes == {24: (112, 56), 48: (56, 112), 72: (56, 56)}


def test_no_regions_are_prompted_for_on_a_video(make, stills):
    for strategy in ("joint", "staged", "mqa", "gem", "riveg", "focalmre", "scanner", "markup"):
        (raw,) = make(video=True, strategy=strategy).predict([document("both", "en", stills=stills)])
        assert raw.failure is None
        assert raw.frames == (24, 48, 72)
        assert raw.turns[0].tokens_vision > 0
        assert not normalize(document("both", "en", stills=stills), raw, LABELS).annotation.regions


def test_a_frame_that_cannot_be_read_fails_its_document_alone(make, stills, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    broken = Document("bad", "en", "Ada .", frames=(Frame(24, str(tmp_path / "broken.png"), 64, 48),))
    bad, good = make().predict([broken, document("good", "en", stills=stills)])
    assert "broken.png" in bad.failure.message
    assert good.failure is None


@pytest.mark.parametrize("strategy", ["joint", "staged"])
def test_frames_that_do_not_fit_are_left_out_and_the_document_says_so(make, stills, strategy):
    whole = document("both", "en", stills=stills)
    one = make(frames=1, strategy=strategy)
    enough = one.builder.needed(replace(one.builder.show(whole), is_worked=False))
    (raw,) = make(context=enough, strategy=strategy).predict([whole])
    assert raw.failure is None
    assert raw.frames == (48,)
    assert [(issue.code, issue.detail) for issue in raw.issues] == [("shortened", "1 of 3 frames are shown")]
    (raw,) = make(context=enough - 1, strategy=strategy).predict([whole])
    assert raw.issues[0] == Issue("windows", "prompt", "the text is read in 2 overlapping windows")


def test_a_context_too_small_for_one_frame_is_one_line(make, stills):
    text_only = make(max_tokens=32)
    silent = document("silent", "en", "", stills[:1])
    enough = text_only.builder.needed(replace(text_only.builder.show(silent), is_worked=False))
    (raw,) = make(max_tokens=32, context=enough - 1).predict([silent])
    assert "too small: the document with one frame" in raw.failure.message
    assert "\n" not in raw.failure.message
    assert not raw.failure.retryable
    assert raw.frames == ()


def test_a_context_too_small_for_the_label_set_ends_the_run_in_one_line(make, stills):
    with pytest.raises(UserError, match="too small for any document: the question with the label set") as caught:
        list(make(context=500).predict([document("both", "en", stills=stills)]))
    assert "\n" not in str(caught.value)


def test_at_most_so_many_frames_are_shown(make, stills):
    (raw,) = make(frames=1).predict([document("both", "en", stills=stills)])
    assert raw.frames == (48,)
    (raw,) = make(frames=2, frame_choice="annotated").predict([document("both", "en", stills=stills)])
    assert raw.frames == (24, 72)
    (raw,) = make(frames=0).predict([document("both", "en", stills=stills)])
    assert (raw.frames, raw.boxes.sizes) == ((), {})


@pytest.mark.parametrize("strategy", ["joint", "staged", "mqa", "gem", "riveg", "focalmre", "scanner", "markup"])
def test_what_is_given_bounds_the_answer(make, stills, strategy):
    made = example("d", "[PER0 Ada] met [PER1 Bela] . [PER0 Ada] left [LOC2 Arles] .")
    for kind in ("mentions", "chains"):
        about = replace(made.document, given=Given(chains=made.gold.chains, kind=kind))
        (raw,) = make(strategy=strategy).predict([about])
        prediction = normalize(about, raw, LABELS)
        assert raw.given == kind
        assert {m.span for m in prediction.annotation.mentions} == {m.span for m in made.gold.mentions}
        assert not prediction.annotation.regions


def test_a_free_model_is_read_as_well_as_can_be(make, stills):
    system = make(unconstrained=True, max_tokens=24)
    documents = mixed(stills)
    for made, raw in zip(documents, system.predict(documents), strict=True):
        issues = [issue.code for issue in normalize(made, raw, LABELS).issues]
        assert {"not_json", "truncated"} & set(issues) or made.id == "empty"  # some noise begins like an answer
    assert system.provenance["constraint"] == "none"


def test_a_schema_alone_holds_the_shape(make, stills):
    system = make(schema_only=True, strategy="staged", max_tokens=300)
    for raw in system.predict(mixed(stills)):
        assert raw.failure is None
        for turn in raw.turns:
            if turn.finish == "stop":
                assert isinstance(json.loads(turn.text), dict)


def test_an_answer_that_is_cut_off_keeps_what_is_complete_and_says_so(make, stills):
    documents = mixed(stills)
    raws = make(max_tokens=40, temperature=1.0).predict(documents)
    issues = [[i.code for i in normalize(made, raw, LABELS).issues] for made, raw in zip(documents, raws, strict=True)]
    assert any("truncated" in codes for codes in issues)
    assert not any("not_json" in codes or "repaired" in codes for codes in issues)


# --- the claim --------------------------------------------------------------------------------------------------------

CHOICES = {"type", "coreference", "relation", "seen", "type_again", "relation_again", "present", "entailed"}
MANY = 220


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(
    ("strategy", "count"),
    [
        ("joint", MANY),
        ("staged", MANY),
        ("mqa", MANY),
        ("gem", 24),
        ("riveg", 24),
        ("focalmre", 24),
        ("scanner", 24),
        ("markup", 24),
    ],
)
def test_finished_answers_are_right_whatever_the_document_says(make, stills, strategy, count, lang, capsys):
    system = make(strategy=strategy, temperature=1.0, batch=8, longest_side=64)
    documents = {made.id: made for made in adversarial(count, lang, stills, longest=40)}
    asked = finished = 0
    for raw in system.predict(documents.values()):
        made = documents[raw.document]
        assert raw.failure is None
        asked += 1
        if any(turn.finish != "stop" for turn in raw.turns):
            continue
        finished += 1
        occurrences = Occurrences(made)
        prediction = normalize(made, raw, LABELS)
        odd = {issue.code for issue in prediction.issues} - HARMLESS - OPEN[strategy]
        assert not odd, (odd, raw.payload)
        for turn in raw.turns:
            if turn.stage == "markup":
                assert re.sub(r"<(PER|LOC) \d+>|</>", "", turn.text).startswith("".join(mention_chunks(made)))
            else:
                json.loads(turn.text if turn.stage not in CHOICES else f'"{turn.text}"')
        for mention in prediction.annotation.mentions:
            assert mention.span in occurrences.of(made.text[mention.start : mention.end])
            assert mention.type in LABELS.names("mentions")
        for region in prediction.annotation.regions:
            assert region.frame in raw.frames
            assert region.box.is_legal
        for relation in prediction.annotation.relations:
            assert relation.type in LABELS.names("relations")
    with capsys.disabled():
        print(f"\n{strategy} {lang}: {finished} of {asked} answers finished, all right")  # noqa: T201
    assert finished >= 0.9 * count
