"""Which frames are shown, and how large."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.families import SmartResize
from m3dllm.systems.videollm.frames import choose_frames, load_image
from m3dllm.systems.videollm.messages import Message, Still
from m3dllm.types import Document, Frame, Segment
from tests.small import png


def clip(count: int, annotated: tuple[int, ...] = (), segments: tuple[Segment, ...] = ()) -> Document:
    stills = tuple(Frame(24 * i, f"{i}.png", 64, 48, annotated=i in annotated) for i in range(count))
    return Document("d", "en", "x" * 20, frames=stills[::-1], segments=segments)


def numbers(*args, **kwargs) -> list[int]:
    return [frame.index // 24 for frame in choose_frames(*args, **kwargs)]


def test_few_frames_are_all_shown_in_order():
    assert numbers(clip(3), 8) == [0, 1, 2]


def test_many_frames_are_spread_evenly():
    assert numbers(clip(60), 4) == [7, 22, 37, 52]


def test_no_frame_is_shown_where_none_may_be():
    assert numbers(clip(5), 0) == []
    assert numbers(clip(0), 4) == []


def test_annotated_frames_are_chosen_where_there_are_some():
    assert numbers(clip(10, annotated=(2, 7)), 4, how="annotated") == [2, 7]
    assert numbers(clip(10, annotated=(1, 2, 3, 4, 5, 6)), 2, how="annotated") == [2, 5]
    assert numbers(clip(4), 2, how="annotated") == [1, 3]


def test_frames_by_subtitles_lie_in_the_middle_of_what_is_said():
    said = (Segment(0, 5, 0.0, 4.0), Segment(5, 10, 20.0, 24.0))
    assert numbers(clip(60, segments=said), 2, how="subtitles") == [2, 22]


def test_frames_by_subtitles_are_filled_up_and_work_without_times():
    said = (Segment(0, 5, 0.0, 4.0),)
    assert len(numbers(clip(60, segments=said), 4, how="subtitles")) == 4
    assert numbers(clip(60), 4, how="subtitles") == numbers(clip(60), 4)


def test_a_large_picture_is_made_smaller_and_keeps_its_shape(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(1280, 720))
    assert load_image(Frame(0, str(path), 1280, 720), longest_side=640).size == (640, 360)
    assert load_image(Frame(0, str(path), 1280, 720), longest_side=2000).size == (1280, 720)


@pytest.mark.parametrize("content", [b"", b"no picture", png()[:40]])
def test_a_picture_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"frame 24 .*broken\.png"):
        load_image(Frame(24, str(path), 64, 48), longest_side=640)


def test_a_large_picture_is_made_smaller_as_a_slow_twin_does_it(tmp_path):
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 16, 3), dtype=np.uint8))
    coarse.resize((1920, 1080), Image.Resampling.BICUBIC).save(tmp_path / "a.png")
    found = load_image(Frame(0, str(tmp_path / "a.png"), 1920, 1080), longest_side=640)
    expected = Image.open(tmp_path / "a.png").resize((640, 360), Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(found, dtype=int) - np.asarray(expected, dtype=int)).max() <= 3


@pytest.mark.parametrize("size", [(640, 360), (33, 77), (644, 364)])
def test_a_frame_is_prepared_as_the_library_of_the_models_does_it(size):
    library = pytest.importorskip("qwen_vl_utils.vision_process", reason="needs the extra 'llm'")
    from m3dllm.systems.videollm.engines.local.vision import prepare_frame

    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    image, bounds = Image.fromarray(noise), SmartResize(28, 56 * 56, 1280 * 28 * 28)
    limits = {"min_pixels": bounds.min_pixels, "max_pixels": bounds.max_pixels}
    theirs = library.fetch_image({"image": image, **limits}, image_patch_size=14)
    assert np.array_equal(prepare_frame(image, bounds), theirs)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava", "internvl"])
def test_tokens_are_counted_as_they_are_encoded_also_when_the_sizes_are_known(tiny, name):
    from m3dllm.systems.videollm.engines.local.model import LocalModel

    local = LocalModel(Config(model=tiny(name)))
    for text in ("Ada met Bela .", "苏珊在北京。" * 9, ""):
        stills = [Still(24 * i, local.prepare(Image.new("RGB", (96, 72 + i)))) for i in range(2)]
        messages = [Message("system", ("Say who is who.",)), Message("user", (text, *stills, f"\n\n{text}"))]
        inputs = local.encode(messages)
        counted = local.count(messages)
        assert (counted.tokens, counted.vision) == (inputs["input_ids"].shape[1], local.vision_tokens(inputs))
