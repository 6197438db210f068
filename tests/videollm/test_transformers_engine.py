"""The transformers engine, over tiny models of five real architectures."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the extra 'llm'")
pytest.importorskip("llguidance", reason="needs the extra 'llm'")

import torch
from PIL import Image

from m3dllm.errors import UserError
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines import make_engine
from m3dllm.systems.videollm.engines.base import Constraint, Request
from m3dllm.systems.videollm.families import CONVENTIONS
from m3dllm.systems.videollm.grammar import choice_grammar, joint_grammar
from m3dllm.systems.videollm.messages import Clip, Message, Still
from m3dllm.systems.videollm.schema import joint_schema
from m3dllm.systems.videollm.visible import Bounds, VisibleFrames
from tests.small import LABELS
from tests.videollm.documents import document

MODELS = ("qwen2_5_vl", "qwen3_vl", "qwen3_5", "llava", "internvl")
BOUNDS = Bounds(chains=3, mentions=2, relations=2, regions=1, characters=20)


def config(model: str, **kwargs) -> Config:
    return Config(**{"model": model, "dtype": "float32", "device": "cpu", "batch": 4} | kwargs)


@pytest.fixture(scope="module")
def engines(tiny):
    made = {}

    def get(name: str):
        if name not in made:
            made[name] = make_engine(config(tiny(name)))
        return made[name]

    return get


def still(engine, frame: int, size: tuple[int, int], colour: str = "navy") -> Still:
    return Still(frame, engine.prepare(Image.new("RGB", size, colour)), f"{size}{colour}")


def request(engine, name: str, text: str, **kwargs) -> Request:
    """A request about an English or a Chinese document, with two frames."""
    lang = "zh" if name.startswith("zh") else "en"
    shown = VisibleFrames({24: (112, 56), 48: (56, 112)}, CONVENTIONS["permille"])
    parts = ("Frame 24:", still(engine, 24, (112, 56)), "Frame 48:", still(engine, 48, (56, 112), "teal"), text)
    constraint = Constraint(grammar=joint_grammar(document(name, lang), LABELS, shown, BOUNDS))
    messages = (Message("system", ("Answer.",)), Message("user", parts))
    return Request(**{"messages": messages, "max_tokens": 120, "constraint": constraint, "share": name} | kwargs)


def answers(engine, requests: list[Request]) -> list:
    for key, one in enumerate(requests):
        engine.submit(key, one)
    replies = {}
    while len(replies) < len(requests):
        replies |= dict(engine.poll())
    return [replies[key] for key in range(len(requests))]


@pytest.mark.parametrize("model", MODELS)
def test_a_batch_gives_each_request_what_it_gets_alone(engines, model):
    engine = engines(model)
    requests = [request(engine, f"{lang}{i}", f"Text {'x ' * i}" * (i + 1)) for lang in ("en", "zh") for i in (0, 3)]
    together = answers(engine, requests)
    for one, reply in zip(requests, together, strict=True):
        engine.release(one.share)
        (alone,) = answers(engine, [replace(one, share="")])
        assert (alone.text, alone.finish, alone.tokens_out) == (reply.text, reply.finish, reply.tokens_out)


def test_the_log_probabilities_of_an_answer_end_with_its_text(engines):
    engine = engines("qwen2_5_vl")
    (reply,) = answers(engine, [request(engine, "en", "What?")])
    engine.release("en")
    assert "logprobs" in engine.supports
    assert len(reply.logprobs) >= 1
    assert reply.logprobs[-1][0] <= len(reply.text)
    assert all(a <= b for (a, _), (b, _) in zip(reply.logprobs, reply.logprobs[1:], strict=False))
    assert all(logprob <= 1e-5 for _, logprob in reply.logprobs)


@pytest.mark.parametrize("model", [model for model in MODELS if model != "qwen3_5"])
def test_what_a_document_shares_is_encoded_once_and_changes_nothing(engines, model):
    engine = engines(model)
    first, second = request(engine, "en", "What?"), request(engine, "en", "What else, and why?")
    replies = answers(engine, [first]) + answers(engine, [second])
    (fresh,) = answers(engine, [replace(second, share="")])
    engine.release("en")
    assert replies[0].tokens_reused == fresh.tokens_reused == 0
    assert replies[1].tokens_reused > replies[1].tokens_vision > 0
    assert replies[1].text == fresh.text


def test_a_model_that_keeps_states_encodes_each_prompt_whole(engines):
    engine = engines("qwen3_5")
    first, second = request(engine, "en", "What?"), request(engine, "en", "What else, and why?")
    replies = answers(engine, [first]) + answers(engine, [second])
    (fresh,) = answers(engine, [replace(second, share="")])
    engine.release("en")
    assert [reply.tokens_reused for reply in replies] == [0, 0]
    assert replies[1].text == fresh.text


def test_other_frames_are_never_taken_for_the_same(engines):
    engine = engines("qwen2_5_vl")
    first = request(engine, "en", "What?")
    parts = ("Frame 24:", still(engine, 24, (56, 112)), "Frame 48:", still(engine, 48, (112, 56)), "What?")
    other = replace(first, messages=(first.messages[0], Message("user", parts)))
    answers(engine, [first])
    (shared,) = answers(engine, [other])
    (fresh,) = answers(engine, [replace(other, share="")])
    engine.release("en")
    assert shared.text == fresh.text


@pytest.mark.parametrize("model", MODELS)
def test_without_a_grammar_the_model_writes_what_the_library_would(engines, model):
    engine = engines(model)
    one = request(engine, "en", "Say something.", constraint=None, max_tokens=12, share="")
    inputs = engine.local.encode(one.messages)
    with torch.inference_mode():
        ids = engine.model.generate(**inputs, max_new_tokens=12, do_sample=False)
    expected = engine.local.tokenizer.decode(
        ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    (reply,) = answers(engine, [one])
    half = "\N{REPLACEMENT CHARACTER}"  # where the answer is cut amid a character
    assert reply.text.rstrip(half) == expected.rstrip(half)


def test_tokens_are_counted_and_timed(engines):
    engine = engines("qwen2_5_vl")
    one = request(engine, "en", "What?")
    (reply,) = answers(engine, [replace(one, share="")])
    count = engine.count(one.messages)
    assert (reply.tokens_in, reply.tokens_vision) == (count.tokens, count.vision)
    assert reply.tokens_vision == 2 * (112 // 28) * (56 // 28)
    assert 0 < reply.first_token_s <= reply.seconds
    assert 0 < reply.grammar_s < reply.seconds


def test_an_answer_that_reaches_the_limit_says_so(engines):
    (reply,) = answers(engines("qwen2_5_vl"), [request(engines("qwen2_5_vl"), "en", "What?", max_tokens=3)])
    assert (reply.finish, reply.tokens_out) == ("length", 3)


def test_an_answer_that_is_cut_amid_a_character_ends_before_it(engines):
    engine, said = engines("qwen2_5_vl"), 8 * "𠮷"
    held = Constraint(grammar=f'start: "{said}"')
    asked = [request(engine, "zh", "What?", constraint=held, max_tokens=limit) for limit in range(1, 24)]
    cut = [reply for reply in answers(engine, asked) if reply.finish == "length"]
    assert any(0 < len(reply.text) < len(said) for reply in cut)
    assert [reply.text for reply in cut if not said.startswith(reply.text)] == []


def test_a_prompt_that_does_not_fit_fails_alone(engines):
    engine = engines("qwen2_5_vl")
    long = request(engine, "en", "word " * 9000)
    failed, fine = answers(engine, [long, request(engine, "zh", "What?")])
    assert "tokens; the model takes 8192" in failed.failure.message
    assert fine.failure is None


def test_a_grammar_that_is_none_fails_alone(engines):
    engine = engines("qwen2_5_vl")
    wrong = request(engine, "en", "What?", constraint=Constraint(grammar="start: (("))
    failed, fine = answers(engine, [wrong, request(engine, "zh", "What?")])
    assert "the grammar cannot be compiled" in failed.failure.message
    assert json.loads(fine.text)


def test_rows_may_share_a_schema_and_end_at_different_times(engines):
    engine = engines("qwen3_vl")
    schema = joint_schema(LABELS, VisibleFrames({24: (112, 56)}, CONVENTIONS["permille"]), BOUNDS)
    requests = [
        request(engine, f"en{i}", f"Text {i}", constraint=Constraint(schema=schema), max_tokens=300) for i in (0, 1, 2)
    ]
    together = answers(engine, requests)
    assert {reply.finish for reply in together} <= {"stop", "length"}
    for reply in together:
        if reply.finish == "stop":
            assert json.loads(reply.text).keys() == {"chains", "relations", "regions"}
            assert json.dumps(json.loads(reply.text), ensure_ascii=False, separators=(",", ":")) == reply.text


def test_different_schemas_hold_in_one_batch(engines):
    engine = engines("qwen3_vl")
    schemas = [{"type": "integer", "minimum": n, "maximum": n} for n in (11, 222, 3333)]
    requests = [
        request(engine, f"en{n}", "Number?", constraint=Constraint(schema=schema)) for n, schema in enumerate(schemas)
    ]
    assert [reply.text for reply in answers(engine, requests)] == ["11", "222", "3333"]


@pytest.mark.parametrize("model", MODELS)
def test_options_have_log_probabilities_that_add_up_to_one(engines, model):
    engine = engines(model)
    options = ("A", "B", "C")
    (reply,) = answers(engine, [request(engine, "en", "A, B or C?", options=options, constraint=None)])
    assert torch.tensor(reply.scores).exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert reply.text == options[max(range(3), key=reply.scores.__getitem__)]


def test_sampling_is_the_same_for_the_same_seed_and_in_any_company(tiny):
    engine = make_engine(config(tiny("qwen2_5_vl"), temperature=1.0, seed=3))
    requests = [request(engine, f"en{i}", f"Text {i}") for i in range(3)]
    together = [reply.text for reply in answers(engine, requests)]
    alone = [answers(engine, [one])[0].text for one in requests]
    assert together == alone
    other = make_engine(config(tiny("qwen2_5_vl"), temperature=1.0, seed=4))
    assert [reply.text for reply in answers(other, requests)] != together


def test_a_choice_is_kept_to(engines):
    engine = engines("llava")
    grammar = Constraint(grammar=choice_grammar(["yes", "no"]))
    (reply,) = answers(engine, [request(engine, "en", "Yes or no?", constraint=grammar)])
    assert reply.text in ("yes", "no")


@pytest.mark.parametrize("model", ["qwen2_5_vl", "qwen3_vl", "qwen3_5", "internvl"])
def test_frames_may_be_shown_as_one_video(engines, model):
    engine = engines(model)
    stills = tuple(
        still(engine, 24 * i, (112, 56), colour) for i, colour in enumerate(("navy", "teal", "red", "blue"), 1)
    )
    messages = (Message("user", ("The clip:", Clip(stills, (1.0, 2.0, 3.0, 4.0)), "What?")),)
    (reply,) = answers(engine, [Request(messages=messages, max_tokens=5)])
    assert reply.failure is None
    assert reply.tokens_vision > 0


def test_a_model_that_reads_no_videos_is_shown_none(tiny):
    with pytest.raises(UserError, match=r"--video: model .*llava.* reads images but no videos: omit it"):
        make_engine(config(tiny("llava"), video=True))


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(640, 360), (50, 50), (33, 400), (200, 90)])
@pytest.mark.parametrize("model", ["qwen2_5_vl", "qwen3_vl"])
def test_a_prepared_frame_is_not_resized_again(engines, model, size):
    local = engines(model).local
    prepared = local.prepare(Image.new("RGB", size))
    assert local.prepare(prepared).size == prepared.size
    message = Message("user", (Still(0, prepared),))
    grid = local.encode([message])["image_grid_thw"][0].tolist()
    patch = local.processor.image_processor.patch_size
    assert (grid[2] * patch, grid[1] * patch) == prepared.size


def test_llava_sees_a_square_with_the_frame_in_its_middle(engines):
    prepared = engines("llava").prepare(Image.new("RGB", (100, 50), "red"))
    assert prepared.size == (100, 100)
    assert prepared.getpixel((50, 24)) == (127, 127, 127)
    assert prepared.getpixel((50, 25)) == (255, 0, 0)


def test_images_stand_where_they_are_named_in_every_chat_format(engines):
    for model in MODELS:
        engine = engines(model)
        text = engine.local.chat(request(engine, "en", "Question").messages)
        marks = [text.index(mark) for mark in ("Answer.", "Frame 24:", "Frame 48:", "Question")]
        token = engine.local.processor.image_token
        first, second = text.index(token), text.rindex(token)
        assert marks == sorted(marks)
        assert marks[1] < first < marks[2] < second < marks[3]


# --- what the user can mend -------------------------------------------------------------------------------------------


def test_a_folder_that_is_no_model_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"is not a model: expected a folder with a config\.json"):
        make_engine(config(str(tmp_path)))


def test_a_model_that_is_no_language_model_is_refused(tmp_path):
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UserError, match=r"is a 'vit' model: expected one that transformers loads as"):
        make_engine(config(str(folder)))


def test_a_model_that_reads_images_by_cross_attention_is_refused(tmp_path):
    from transformers import MllamaConfig

    MllamaConfig().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"reads images by cross-attention.*--engine openai"):
        make_engine(config(str(tmp_path)))


def test_a_model_that_reads_no_images_can_answer_about_texts(tiny):
    engine = make_engine(config(tiny("text_only"), frames=0))
    grammar = Constraint(grammar=joint_grammar(document("en"), LABELS, VisibleFrames(), BOUNDS))
    messages = (Message("system", ("Answer.",)), Message("user", ("What?",)))
    (reply,) = answers(engine, [Request(messages=messages, max_tokens=200, constraint=grammar)])
    assert reply.failure is None
    assert reply.tokens_vision == 0


def test_a_model_without_a_chat_format_is_refused(tiny, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(tiny("qwen2_5_vl"), folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="has no chat format"):
        make_engine(config(str(folder)))


def test_a_model_of_no_known_family_is_refused(tiny, tmp_path):
    folder = tmp_path / "mystery"
    shutil.copytree(tiny("llava"), folder)
    with pytest.raises(UserError, match="--family qwen9"):
        make_engine(config(str(folder), family="qwen9"))


@pytest.mark.parametrize(("option", "value"), [("device", "cuda:99"), ("dtype", "int3"), ("dtype", "nothing")])
def test_a_device_or_a_number_type_that_is_not_there_is_one_line(tiny, option, value):
    with pytest.raises(UserError, match=f"--{option} {value}"):
        make_engine(config(tiny("qwen2_5_vl"), **{option: value}))


def test_broken_weights_are_one_line(tiny, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(tiny("qwen2_5_vl"), folder)
    Path(folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be loaded") as error:
        make_engine(config(str(folder)))
    assert "\n" not in str(error.value)


def test_other_weights_have_another_hash(tiny, tmp_path):
    from tests.videollm import tiny as models

    other = models.qwen2_5_vl(tmp_path / "other", seed=1)
    hashes = {make_engine(config(path)).provenance["sha256"] for path in (tiny("qwen2_5_vl"), str(other))}
    assert len(hashes) == 2


@pytest.mark.parametrize("model", ["qwen2_5_vl", "qwen3_vl"])
def test_the_frames_of_a_clip_are_of_one_size_that_the_video_processor_keeps(engines, model):
    local = engines(model).local
    images = [Image.new("RGB", size, "teal") for size in ((640, 360), (360, 640), (64, 64))]
    prepared = local.prepare_clip(images)
    (size,) = {image.size for image in prepared}
    assert len(prepared) == 3
    assert all(side % local.clip_bounds.factor == 0 for side in size)
    assert size[0] * size[1] <= local.clip_bounds.max_pixels
    assert prepared[0].getpixel((0, 0)) == (0, 128, 128)


def test_a_schema_is_left_to_outlines_whatever_the_others_of_its_batch_are_held_to(engines):
    engine = engines("qwen3_vl")
    schema = {"type": "object", "properties": {"n": {"const": 5}}, "required": ["n"], "additionalProperties": False}
    held = (Constraint(schema=schema), Constraint(grammar='start: "yes"'), None)
    requests = [request(engine, f"en{i}", "Number?", constraint=c, max_tokens=20) for i, c in enumerate(held)]
    first, second, _ = answers(engine, requests)
    assert (first.text, second.text) == ('{"n":5}', "yes")
    assert (first.grammar_s, second.grammar_s is None) == (None, False)
