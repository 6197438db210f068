"""From templates to messages."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest

pytest.importorskip("jinja2", reason="needs the extra 'llm'")

from PIL import Image

from m3dllm.errors import UserError
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.dialogue import prompts_of
from m3dllm.systems.videollm.families import CONVENTIONS
from m3dllm.systems.videollm.messages import Clip, Message, Still, prompt_sha256, prompt_text
from m3dllm.systems.videollm.prompts import BREAK, SHIPPED, Prompts, copy, harmless, show_document, text_lines, unused
from m3dllm.types import Document, Frame, Segment
from tests.videollm.documents import EN, NASTY, ZH, document

STILLS = [Still(24, Image.new("RGB", (8, 8)), "a"), Still(345, Image.new("RGB", (8, 8)), "b")]
VALUES = {
    "mention_types": [{"name": "PER", "gloss": "person"}, {"name": "TIME", "gloss": "TIME"}],
    "relation_types": [{"name": "PER-PER_x", "gloss": "x", "head": ("PER",), "tail": (), "symmetric": False}],
    "region_types": [{"name": "PER", "gloss": "person"}],
    "convention": CONVENTIONS["permille"],
    "has_text": True,
    "has_frames": True,
    "example_frame": 24,
    "example_type": "PER",
    "shots": [{"text": "T", "question": "", "answer": "A"}],
    "marked": "[m0 Ada]",
    "drawn": ["c0"],
    "known": "a painter",
    "groups": [{"type": "PER", "names": ["m0", "m1"]}],
    "chains": [{"name": "c0", "type": "PER", "texts": ["Ada"]}],
    "form": '{"PER":["…"]}',
    "frames": [],
    "clip": "",
    "lines": [],
    "timed": False,
    "options": [
        {"letter": "A", "none": False, "text": "Ada", "name": "PER", "gloss": "person", "head": "Ada", "tail": "Bela"},
        {"letter": "B", "none": True},
    ],
    "text": "Ada",
    "kind": "person",
    "first": "Ada",
    "second": "Bela",
    "frame": 24,
    "description": "a painter",
    "box": "[0,0,9,9]",
}
SHAPE = "calibrate/shape"
"""Drawn shapes have no language."""
NAMES = [
    (version, name)
    for version in (1, 2)
    for name in sorted({p.relative_to(SHIPPED).as_posix().split(".")[0] for p in SHIPPED.rglob(f"*.v{version}.jinja")})
    if name != SHAPE
]


def shown(document, stills=STILLS, **kwargs):
    return show_document(Prompts(), document, stills, fps=24.0, **kwargs)


@pytest.mark.parametrize(("version", "name"), NAMES)
def test_every_prompt_is_there_in_both_languages_and_can_be_filled(version, name):
    for lang in ("en", "zh"):
        for has in (True, False):
            made = Prompts(version=version, compact=has and version > 1)
            text = made.render(name, lang, **VALUES | {"has_text": has, "has_frames": has})
            assert "{{" not in text.replace('"{{', "")
            assert not re.search(r"\n{3,}", text)


@pytest.mark.parametrize(("version", "name"), NAMES)
def test_the_chinese_prompts_are_chinese(version, name):
    text = Prompts(version=version).render(name, "zh", **VALUES)
    assert not re.search(r"\b(the|and|of|answer|subtitles|shows)\b", text)


def test_a_document_is_shown_frame_by_frame_with_its_times():
    parts = shown(document("d"))
    assert [part if isinstance(part, Still) else "text" for part in parts] == [
        "text",
        STILLS[0],
        "text",
        STILLS[1],
        "text",
    ]
    assert parts[0] == "Frame 24, 1.0 s:\n"
    assert parts[2] == "\nFrame 345, 14.4 s:\n"
    assert "[0-1.5] " in parts[4]
    assert "[1.5-4] " in parts[4]


def test_frames_may_be_shown_without_times_or_as_one_video():
    assert show_document(Prompts(), document("d"), STILLS, fps=0)[0] == "Frame 24:\n"
    before, clip, _ = shown(document("d"), as_video=True)
    assert before == "The clip is made of these frames: 24 (1.0 s), 345 (14.4 s)\n"
    assert isinstance(clip, Clip)
    assert clip.seconds == (1.0, 345 / 24)


def test_a_time_that_was_noted_goes_before_the_frame_rate():
    noted = (Frame(24, "24.png", 8, 8, time_s=0.8), Frame(345, "345.png", 8, 8))
    before, clip, _ = shown(replace(document("d"), frames=noted), as_video=True)
    assert before == "The clip is made of these frames: 24 (0.8 s), 345 (14.4 s)\n"
    assert clip.seconds == (0.8, 345 / 24)


def test_what_is_missing_is_reported():
    assert "no frames" in shown(document("d"), [])[0]
    assert "no subtitles" in "".join(p for p in shown(document("d", text="")) if isinstance(p, str))
    assert "没有字幕" in "".join(p for p in shown(document("d", "zh", "")) if isinstance(p, str))


@pytest.mark.parametrize("text", [EN, ZH, *NASTY, "x"])
def test_the_whole_text_is_shown_once_and_in_order(text):
    middle = len(text) // 2
    segments = (Segment(0, middle, 0, 1), Segment(max(0, middle - 2), middle + len(text) // 4, 1, 2))
    lines = text_lines(Document("d", "en", text, segments=segments))
    said = "".join(line.text for line in lines).replace(BREAK, "")
    assert re.sub(r"\s", "", said) == re.sub(r"\s", "", text)


@pytest.mark.parametrize(
    "text", ["<|im_end|>", "a</s>b", "<image>", "[INST]", "<|image_pad|>", "<IMG_CONTEXT>", "<end_of_turn>"]
)
def test_a_text_cannot_speak_a_special_token(text):
    said = harmless(text, ["<image>"])
    assert said.replace(BREAK, "") == text
    assert text not in said
    assert BREAK in said


def test_a_special_token_of_the_model_is_broken_too():
    assert "<madeup>" not in harmless("a <madeup> b", ["<madeup>"])


def test_an_ordinary_text_is_left_as_it_is():
    assert harmless(EN + ZH + "a < b > c [1] <b>", ["<|im_end|>"]) == EN + ZH + "a < b > c [1] <b>"


def test_the_hash_of_a_prompt_identifies_it():
    messages = (Message("user", ("a", STILLS[0])),)
    assert json.loads(prompt_text(messages)) == [
        {"role": "user", "content": ["a", {"frame": 24, "size": [8, 8], "sha256": "a"}]}
    ]
    assert prompt_sha256(messages) != prompt_sha256((Message("user", ("a", STILLS[1])),))


def test_the_templates_are_known_by_their_hash(tmp_path):
    ours = Prompts().hashes("joint")
    assert {"joint/joint.en.v1.jinja", "joint/joint.zh.v1.jinja", "document/mentions.en.v1.jinja"} <= ours.keys()
    assert all(len(value) == 64 for value in ours.values())
    (tmp_path / "joint").mkdir()
    (tmp_path / "joint/joint.en.v1.jinja").write_text("Mine.", encoding="utf-8")
    theirs = Prompts(tmp_path).hashes("joint")
    assert {name for name in ours if ours[name] != theirs[name]} == {"joint/joint.en.v1.jinja"}


def test_a_prompt_of_the_users_own_comes_before_ours(tmp_path):
    (tmp_path / "joint").mkdir()
    (tmp_path / "joint/joint.en.v1.jinja").write_text("Mine. {{ part('mentions') }}", encoding="utf-8")
    text = Prompts(tmp_path).render("joint/joint", "en", **VALUES)
    assert text.startswith("Mine. A mention is")
    assert Prompts(tmp_path).render("joint/joint", "zh", **VALUES).startswith("请")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("a\nb {{ mystery }}", r"joint\.en\.v1\.jinja:2: cannot be filled: 'mystery' is undefined"),
        ("{% if %}", r"joint\.en\.v1\.jinja:1: is not a valid template"),
        ("a\n\n{% for x in shots %}", r"joint\.en\.v1\.jinja:3: is not a valid template"),
        ("{{ 1 / 0 }}", r"joint\.en\.v1\.jinja:1: cannot be filled: division by zero"),
        ("a\n{{ part('nothing') }}", "there is no prompt document/nothing"),
    ],
)
def test_a_wrong_template_is_an_error_with_its_file_and_line(tmp_path, template, problem):
    (tmp_path / "joint").mkdir()
    (tmp_path / "joint/joint.en.v1.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(UserError, match=problem):
        Prompts(tmp_path).render("joint/joint", "en", **VALUES)


def test_an_error_in_a_shared_part_names_that_part(tmp_path):
    shutil.copytree(SHIPPED, tmp_path / "mine")
    (tmp_path / "mine/document/mentions.en.v1.jinja").write_text("a\nb\n{{ oops }}", encoding="utf-8")
    with pytest.raises(UserError, match=r"mentions\.en\.v1\.jinja:3"):
        Prompts(tmp_path / "mine").render("joint/joint", "en", **VALUES)


def test_a_folder_or_a_version_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        Prompts(tmp_path / "nowhere")
    with pytest.raises(UserError, match="there are no prompts of version 9: expected at most 2"):
        Prompts(version=9)


def test_templates_are_read_before_the_first_prompt(tmp_path):
    (tmp_path / "staged").mkdir()
    (tmp_path / "staged/chains.zh.v1.jinja").write_text("好\n{% if %}", encoding="utf-8")
    Prompts(tmp_path).check("document", "joint")
    with pytest.raises(UserError, match=r"chains\.zh\.v1\.jinja:2: is not a valid template"):
        Prompts(tmp_path).check("document", "staged")


# --- prompts of your own ----------------------------------------------------------------------------------------------


def test_prompts_are_copied_in_their_newest_version_and_say_the_same(tmp_path):
    copy(tmp_path / "own", SHIPPED)
    names = sorted(path.relative_to(tmp_path / "own").as_posix() for path in (tmp_path / "own").rglob("*.jinja"))
    assert "joint/joint.en.v2.jinja" in names
    assert "joint/joint.en.v1.jinja" not in names
    assert "document/mentions.en.v1.jinja" in names
    assert Prompts(tmp_path / "own", version=2).hashes("joint") == Prompts(version=2).hashes("joint")


def test_a_folder_is_laid_over_the_embedded_models_own_prompts(tmp_path):
    (tmp_path / "joint").mkdir()
    (tmp_path / "joint/joint.en.v1.jinja").write_text("Mine.", encoding="utf-8")
    made = prompts_of(Config(prompts=str(tmp_path)), embedded_model=True)
    theirs = prompts_of(Config(), embedded_model=True).hashes("joint")
    changed = {name for name, digest in made.hashes("joint").items() if theirs.get(name) != digest}
    assert changed == {"joint/joint.en.v1.jinja"}


def test_files_that_no_strategy_asks_with_are_named(tmp_path, caplog):
    (tmp_path / "joint").mkdir()
    (tmp_path / "document").mkdir()
    (tmp_path / "joint/joint.en.v2.jinja").write_text("{{ part('mine') }}", encoding="utf-8")
    (tmp_path / "document/mine.en.v2.jinja").write_text("Mine.", encoding="utf-8")
    (tmp_path / "joint/jiont.en.v2.jinja").write_text("Never.", encoding="utf-8")
    (tmp_path / "joint/joint.en.v2.txt").write_text("Never.", encoding="utf-8")
    assert unused(tmp_path) == ["joint/jiont.en.v2.jinja", "joint/joint.en.v2.txt"]
    prompts_of(Config(prompts=str(tmp_path), model="m"), embedded_model=False)
    assert "no strategy uses" in caplog.text
    assert "joint/jiont.en.v2.jinja" in caplog.text
