"""Video-ChatGPT and Video-LLaMA: their vectors against slow twins, their prompts, their published files."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the extra 'llm'")
pytest.importorskip("llguidance", reason="needs the extra 'llm'")

import torch
from PIL import Image
from transformers import Blip2Config, CLIPImageProcessor, LlamaForCausalLM

from m3dllm.errors import UserError
from m3dllm.normalize import normalize
from m3dllm.registry import find_system
from m3dllm.systems.videollm.engines import make_engine
from m3dllm.systems.videollm.engines.base import Request
from m3dllm.systems.videollm.engines.native.video_chatgpt_model import pool
from m3dllm.systems.videollm.engines.native.video_llama import VideoLlamaLocal
from m3dllm.systems.videollm.engines.native.video_llama_model import NORM_EPS, VideoLlama, own_tensors, published
from m3dllm.systems.videollm.messages import Clip, Message, Still
from m3dllm.systems.videollm.native import Native, VideoChatGPT
from m3dllm.systems.videollm.native import VideoLlama as VideoLlamaConfig
from m3dllm.systems.videollm.system import VideoLLM
from tests.reference import native as twin
from tests.small import LABELS
from tests.videollm import native_parts
from tests.videollm.documents import document, frames

CONFIGS: dict[str, type[Native]] = {"video-chatgpt": VideoChatGPT, "video-llama-2": VideoLlamaConfig}
BOTH = tuple(CONFIGS)


def config(name: str, **options) -> Native:
    kind = CONFIGS[name]
    return kind(**{**kind.presets["tiny"], "device": "cpu", "max_tokens": 48} | options)


@pytest.fixture(scope="module")
def engines():
    made = {}

    def get(name: str):
        if name not in made:
            made[name] = make_engine(config(name))
        return made[name]

    return get


@pytest.fixture(scope="module")
def parts(engines, tmp_path_factory):
    """The folder of the tiny model of that name, as its authors would have published it."""
    made = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = native_parts.write(engines(name), tmp_path_factory.mktemp(name))
        return made[name]

    return get


def shown(engine, *colours: str) -> Clip:
    stills = tuple(Still(24 * i, engine.prepare(Image.new("RGB", (64, 48), c)), c) for i, c in enumerate(colours))
    return Clip(stills, tuple(float(i) for i in range(len(colours))))


def messages(engine, *colours: str, turns: tuple[Message, ...] = ()) -> tuple[Message, ...]:
    clip = (shown(engine, *colours),) if colours else ()
    return Message("system", ("Rules.",)), *turns, Message("user", (*clip, "Ada met Bela .", "\n\nWho?"))


def logits(engine, *colours: str) -> torch.Tensor:
    with torch.inference_mode():
        return engine.model(**engine.local.encode(messages(engine, *colours))).logits[0, -1]


# --- vectors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 7, 100])
def test_video_chatgpt_has_356_vectors_of_a_clip_frames_first_then_patches(count):
    patches = torch.randn(count, 256, 1024)
    found = pool(patches, 100)
    assert found.shape == (356, 1024)
    few = slice(0, 1024, 256)  # the twin is slow
    assert found[:, few].tolist() == [pytest.approx(row, abs=1e-4) for row in twin.pooled(patches[:, :, few], 100)]
    assert not found[count:100].any()


def test_video_chatgpt_reads_the_last_layer_but_one_without_the_class_token(engines):
    model, pixels = engines("video-chatgpt").model, torch.randn(2, 3, 56, 56)
    with torch.inference_mode():
        states = model.vision.pre_layrnorm(model.vision.embeddings(pixels))
        for layer in model.vision.encoder.layers[:-1]:
            states = layer(states, attention_mask=None)
        assert torch.allclose(model.patches(pixels), states[:, 1:], atol=1e-5)


@pytest.fixture(scope="module")
def paper_sized() -> VideoLlama:
    """Video-LLaMA's own part in its size, over a tiny language model and a tiny encoder of frames."""
    language = LlamaForCausalLM(VideoLlamaLocal(config("video-llama-2")).config)
    small = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    sizes = Blip2Config(
        vision_config=small | {"hidden_size": 32, "image_size": 56, "initializer_range": 0.02},
        qformer_config={"num_hidden_layers": 2, "encoder_hidden_size": 32},
        num_query_tokens=32,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VideoLlama(language, sizes, placeholder=0, most_frames=32).eval()


@pytest.mark.parametrize(
    ("count", "order"), [(8, range(8)), (12, range(12)), (1, [0] * 8), (3, [0, 0, 1, 1, 1, 1, 2, 2])]
)
def test_video_llama_has_32_vectors_of_a_clip_however_many_frames(paper_sized, count, order):
    seen = torch.randn(count, 32, 768)
    found = {published(name): value for name, value in own_tensors(paper_sized).items()}
    with torch.inference_mode():
        ours, slow = paper_sized.clip(seen), twin.clip([seen[i] for i in order], found, heads=12)
    assert ours.shape == (32, 64)
    assert torch.allclose(ours, slow, atol=1e-4)


def test_video_llama_publishes_what_its_authors_do(paper_sized):
    names = {published(name): value for name, value in own_tensors(paper_sized).items()}
    assert names["video_query_tokens"].shape == (1, 32, 768)
    assert names["video_frame_position_embedding.weight"].shape == (32, 768)
    assert len([name for name in names if name.startswith("video_Qformer.bert.")]) == 54
    assert {
        "video_Qformer.bert.embeddings.LayerNorm.weight",
        "video_Qformer.bert.encoder.layer.1.attention.self.query.weight",
        "video_Qformer.bert.encoder.layer.0.crossattention.self.key.bias",
        "video_Qformer.bert.encoder.layer.0.crossattention.output.LayerNorm.bias",
        "video_Qformer.bert.encoder.layer.1.intermediate_query.dense.weight",
        "video_Qformer.bert.encoder.layer.1.output_query.dense.bias",
        "llama_proj.weight",
    } <= names.keys()


def test_the_norm_behind_blip_2s_encoder_is_the_authors(paper_sized):
    assert paper_sized.frames.vision_model.post_layernorm.eps == NORM_EPS


@pytest.mark.parametrize("name", BOTH)
def test_a_frame_is_squeezed_to_a_square_and_coloured_as_clip_wants_it(engines, name):
    engine, picture = engines(name), Image.effect_noise((64, 48), 90).convert("RGB")
    still = Still(0, engine.prepare(picture), "x")
    mine = engine.local.encode([Message("user", (Clip((still,), (0.0,)), "?"))])["pixel_values_videos"]
    theirs = CLIPImageProcessor(do_resize=False, do_center_crop=False)(still.image, return_tensors="pt")["pixel_values"]
    assert still.image.size == (56, 56)
    assert torch.allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize("name", BOTH)
def test_the_vectors_of_a_clip_stand_in_place_of_its_tokens(engines, name):
    engine = engines(name)
    model, inputs = engine.model, engine.local.encode(messages(engine, "red", "blue"))
    given = {}
    hook = model.language_model.model.register_forward_pre_hook(lambda _, a, k: given.update(k), with_kwargs=True)
    with torch.inference_mode():
        model(**inputs)
        seen = model.see(inputs["pixel_values_videos"], [2])
    hook.remove()
    at = inputs["input_ids"][0] == engine.local.placeholder
    assert int(at.sum()) == engine.local.rows == len(seen)
    assert torch.allclose(given["inputs_embeds"][0, at], seen, atol=1e-6)


@pytest.mark.parametrize("name", BOTH)
def test_frames_change_what_follows(engines, name):
    assert not torch.allclose(logits(engines(name), "red"), logits(engines(name), "blue"), atol=1e-6)


@pytest.mark.parametrize("name", BOTH)
def test_it_writes_what_the_library_writes_after_the_same_vectors(engines, name):
    engine, model = engines(name), engines(name).model
    asked = messages(engine, "red", "blue")
    inputs = engine.local.encode(asked)
    ids = inputs["input_ids"].masked_fill(at := inputs["input_ids"] == engine.local.placeholder, 0)
    with torch.inference_mode():
        vectors = model.language_model.get_input_embeddings()(ids)
        vectors[at] = model.see(inputs["pixel_values_videos"], [2])
        written = model.language_model.generate(inputs_embeds=vectors, max_new_tokens=8, do_sample=False)
    engine.submit(0, Request(messages=asked, max_tokens=8))
    ((_, reply),) = engine.poll()
    assert reply.text == engine.local.tokenizer.decode(written[0], skip_special_tokens=True)


# --- prompts ----------------------------------------------------------------------------------------------------------


def test_video_chatgpt_is_prompted_as_it_was_trained(engines):
    engine = engines("video-chatgpt")
    turns = (Message("user", ("First?",)), Message("assistant", ("Yes.",)))
    eos = engine.local.tokenizer.eos_token
    assert engine.chat(messages(engine, "red", "blue", turns=turns)) == (
        f"Rules. USER: First? ASSISTANT: Yes.{eos}USER: Ada met Bela .\n\nWho?\n[2 frames] ASSISTANT:"
    )
    assert engine.chat(messages(engine)) == "Rules. USER: Ada met Bela .\n\nWho? ASSISTANT:"


def test_video_llama_is_prompted_as_it_was_trained(engines):
    engine = engines("video-llama-2")
    turns = (Message("user", ("First?",)), Message("assistant", ("Yes.",)))
    bos, eos = engine.local.tokenizer.bos_token, engine.local.tokenizer.eos_token
    assert engine.chat(messages(engine, "red", "blue", turns=turns)) == (
        f"[INST] <<SYS>>\nRules.\n<</SYS>>\n\nFirst? [/INST] Yes. {eos}{bos}[INST] <Video>[2 frames]</Video> "
        "These are 2 frames of a video, seen at 0.0, 1.0 seconds. Ada met Bela .\n\nWho? [/INST]"
    )
    assert engine.chat(messages(engine)) == "[INST] <<SYS>>\nRules.\n<</SYS>>\n\nAda met Bela .\n\nWho? [/INST]"


@pytest.mark.parametrize("name", BOTH)
def test_pieces_are_tokenised_apart_and_the_text_begins_once(engines, name):
    local = engines(name).local
    asked = messages(engines(name), "red")
    expected = [local.tokenizer.bos_token_id]
    for piece in local.pieces(asked):
        whole = isinstance(piece, str)
        expected += local.tokenizer.encode(piece, add_special_tokens=False) if whole else local.clip_tokens()
    ids = local.encode(asked)["input_ids"][0].tolist()
    assert ids == expected
    assert ids.count(local.tokenizer.bos_token_id) == 1


def test_the_clip_of_video_chatgpt_has_a_start_and_an_end(engines):
    local = engines("video-chatgpt").local
    patch = len(local.tokenizer)
    assert local.clip_tokens() == [patch + 1, *[patch] * (100 + 16), patch + 2]


def test_video_chatgpt_can_read_the_tokens_of_a_clip_and_never_writes_them(engines):
    engine = engines("video-chatgpt")
    assert engine.model.language_model.get_input_embeddings().num_embeddings == len(engine.local.tokenizer) + 3
    assert logits(engine, "red").shape == (len(engine.local.tokenizer),)


@pytest.mark.parametrize("name", BOTH)
def test_a_document_cannot_speak_the_marks_of_the_format(tmp_path, name):
    text = "<Video> <ImageHere> </Video> <<SYS>> <vid_start> <vid_patch> [INST] </s> Ada ."
    asked = VideoLLM(config(name), labels=LABELS)
    (view,) = asked.builder.of(document("d", text=text, stills=frames(tmp_path, (64, 48))))
    said = "".join(part for part in view.context.view if isinstance(part, str))
    assert not any(mark in said for mark in asked.engine.local.marks_of_chat)
    assert "[INST]" not in said


# --- documents --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    return frames(tmp_path_factory.mktemp("stills"), (64, 48), (48, 64), (64, 64))


@pytest.mark.parametrize("name", BOTH)
def test_every_kind_of_document_is_answered(stills, name):
    asked = VideoLLM(config(name), labels=LABELS)
    documents = [
        document("en", stills=stills),
        document("zh", "zh", stills=stills),
        document("no text", text="", stills=stills),
        document("no frames", "zh"),
        document("empty", text=""),
    ]
    raws = list(asked.predict(documents))
    assert [raw.failure for raw in raws] == [None] * 5
    stages = [[turn.stage for turn in raw.turns] for raw in raws]
    assert [found.count("frame") for found in stages] == [3, 3, 3, 0, 0]
    assert [found.count("entities") for found in stages] == [1, 1, 0, 1, 0]
    seen = [{turn.tokens_vision for turn in raw.turns} for raw in raws]
    assert seen == [{asked.engine.local.rows}] * 3 + [{0}, set()]
    for one, raw in zip(documents, raws, strict=True):
        codes = {issue.code for issue in normalize(one, raw, LABELS).issues}
        assert not codes & {"text_not_found", "bad_frame", "box_outside"}
    assert asked.notes == ("random weights: its answers mean nothing",)
    assert asked.unsupported == frozenset()


def test_each_frame_has_a_question_of_its_own(stills):
    asked = VideoLLM(config("video-llama-2"), labels=LABELS)
    list(asked.predict([document("no text", text="", stills=stills)]))
    prompts = list(asked.take_prompts().values())
    assert [[f'"clip": [{still.index}]' in prompt for still in stills] for prompt in prompts] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


def test_other_strategies_ask_for_no_regions_of_a_clip(stills):
    asked = VideoLLM(config("video-llama-2", strategy="joint"), labels=LABELS)
    (raw,) = asked.predict([document("d", stills=stills)])
    assert raw.payload["regions"] == []
    assert asked.unsupported == {"grounding"}
    assert any("--strategy framewise" in note for note in asked.notes)


@pytest.mark.parametrize(("name", "context"), [("video-chatgpt", 2048), ("video-llama-2", 4096)])
def test_a_document_too_long_is_read_in_windows_with_room_for_the_answer(stills, name, context):
    asked = VideoLLM(config(name, max_tokens=512), labels=LABELS)
    assert asked.engine.context == context
    long = document("d", text="Ada met Bela in Arles and left . " * 150, stills=stills)
    views = asked.builder.of(long)
    assert len(views) > 1
    assert all(asked.builder.needed(view.context) <= context for view in views)
    assert {frame for view in views for frame in view.context.frames} == {still.index for still in stills}


# --- published files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOTH)
def test_what_the_authors_published_is_loaded_whole(engines, parts, name):
    loaded = make_engine(config(name, model=str(parts(name))))
    assert torch.equal(logits(loaded, "red", "blue"), logits(engines(name), "red", "blue"))
    assert loaded.notes == ()
    assert len(loaded.provenance["sha256"]) == 64


def changed(folder: Path, to: Path, change) -> Path:
    """The parts with another file of what the authors trained."""
    shutil.copytree(folder, to)
    (file,) = (path for path in to.iterdir() if path.is_file())
    saved = torch.load(file, weights_only=True)
    torch.save(change(saved) or saved, file)
    return to


def test_every_absent_tensor_is_named_at_once(parts, tmp_path):
    folder = changed(parts("video-chatgpt"), tmp_path / "a", lambda saved: {"model.mm_projector.bias": torch.zeros(64)})
    with pytest.raises(UserError, match=r"lacks 2 of 3 tensors: model.mm_projector.weight, model.embed_tokens.weight"):
        make_engine(config("video-chatgpt", model=str(folder)))
    wanted = ("video_query_tokens", "video_Qformer.bert.encoder.layer.1.attention.self.key.weight")
    folder = changed(
        parts("video-llama-2"), tmp_path / "b", lambda saved: [saved["model"].pop(name) for name in wanted] and None
    )
    with pytest.raises(UserError, match="lacks 2 of") as caught:
        make_engine(config("video-llama-2", model=str(folder)))
    assert all(name in str(caught.value) for name in wanted)


def test_an_absent_tensor_of_a_part_is_named(parts, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(parts("video-chatgpt"), folder := tmp_path / "parts")
    file = folder / "language/model.safetensors"
    kept = {name: value for name, value in load_file(file).items() if name != "model.layers.1.mlp.up_proj.weight"}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 tensors of a LlamaForCausalLM: model.layers.1.mlp.up_proj.weight"):
        make_engine(config("video-chatgpt", model=str(folder)))


def test_a_tensor_of_another_shape_is_refused(parts, tmp_path):
    def cut(saved):
        saved["model.embed_tokens.weight"] = saved["model.embed_tokens.weight"][:-1]

    folder = changed(parts("video-chatgpt"), tmp_path / "parts", cut)
    with pytest.raises(UserError, match=r"'model.embed_tokens.weight' has the shape .* expected"):
        make_engine(config("video-chatgpt", model=str(folder)))


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_pickle_is_not_run(parts, tmp_path):
    shutil.copytree(parts("video-chatgpt"), folder := tmp_path / "parts")
    ran = tmp_path / "ran"
    (folder / "video_chatgpt-7B.bin").write_bytes(pickle.dumps(_Touch(ran)))
    with pytest.raises(UserError, match="cannot be read as tensors alone"):
        make_engine(config("video-chatgpt", model=str(folder)))
    assert not ran.exists()


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("video-chatgpt", {"frames": 101}, "--frames 101: video-chatgpt sees at most 100"),
        ("video-llama-2", {"frames": 33}, "--frames 33: video-llama-2 sees at most 32"),
        ("video-llama-2", {"prompt_version": 1}, "--prompt-version 1"),
        ("video-llama-2", {"model": "large"}, "expected published, tiny, or a folder"),
        ("video-llama-2", {"model": "."}, "llama-2-7b-chat-hf: is not a folder"),
    ],
)
def test_what_cannot_be_is_one_line(name, options, told):
    with pytest.raises(UserError, match=told) as caught:
        make_engine(config(name, **options))
    assert "\n" not in str(caught.value)


def test_a_schema_alone_is_refused():
    with pytest.raises(UserError, match="--schema-only: --engine video-chatgpt takes only grammars"):
        VideoLLM(config("video-chatgpt", schema_only=True), labels=LABELS)


@pytest.mark.parametrize("name", BOTH)
def test_a_row_offers_what_its_model_has(name):
    from m3dllm.config import options_of

    offered = {option.name for option in options_of(find_system(name).config_class())}
    assert {"model", "frames", "strategy", "max_tokens", "seed"} <= offered
    assert not offered & {"engine", "adapter", "base_url", "rank", "engine_args", "video"}
