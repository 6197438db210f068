from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from m3dllm.extract.hearing import _held, in_rows, read_captions
from m3dllm.subtitles import Cue
from tests.clips import write_clip


def box(x: float, y: float, *, width: float = 40, height: float = 20) -> list[tuple[float, float]]:
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def test_words_at_one_height_are_one_line_from_left_to_right():
    found = [(box(100, 51), "Warsaw."), (box(0, 50), "born"), (box(50, 49), "in"), (box(0, 20), "Marie Curie was")]
    assert in_rows(found) == "Marie Curie was\nborn in Warsaw."


def test_chinese_words_at_one_height_are_joined_without_a_space():
    assert in_rows([(box(50, 50), "巴黎。"), (box(0, 50), "她去了")]) == "她去了巴黎。"


def test_nothing_read_is_nothing_said():
    assert in_rows([]) == ""


def test_a_caption_lasts_until_another_picture_is_without_it():
    read = iter([(0.0, ""), (1.0, "Hello."), (2.0, "Hello."), (3.0, ""), (4.0, "She left.")])
    assert list(_held(read)) == [Cue(1.0, 3.0, "Hello."), Cue(4.0, 5.0, "She left.")]


def test_captions_in_the_pictures_are_read(tmp_path: Path):
    pytest.importorskip("rapidocr", reason="needs rapidocr (the extra ocr)")
    font = ImageFont.load_default(28)
    still = Image.new("RGB", (640, 360), (40, 60, 80))
    ImageDraw.Draw(still).text((320, 310), "Marie Curie was born in Warsaw.", font=font, fill="white", anchor="mm")
    clip = write_clip(tmp_path / "a.mp4", 48, images=[np.asarray(still)] * 48)
    (cue,) = read_captions(clip).cues
    assert cue.text.replace(" ", "") == "MarieCuriewasborninWarsaw."
