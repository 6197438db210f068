from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m3dllm.corpora.images import image_size
from m3dllm.errors import UserError
from m3dllm.extract.reading import Reading, in_language, joined, read_source
from m3dllm.extract.sources import Source, find_sources
from m3dllm.subtitles import Cue
from m3dllm.types import Segment
from tests.clips import write_clip

pytest.importorskip("av", reason="needs av (the extra video)")

LINES = [(0.5, 1.5, "Ada Lovelace wrote."), (2.0, 3.0, "She was born in London.")]
GERMAN = "1\n00:00:01,000 --> 00:00:02,000\nIch weiß nicht, was das ist und wer du bist.\n"
ENGLISH = "1\n00:00:01,000 --> 00:00:02,000\nI know what this is and who you are.\n"
CHINESE = "1\n00:00:01,000 --> 00:00:02,000\n我知道这是什么，也知道你是谁。\n"


def read(tmp_path: Path, *paths: Path, subtitles: tuple[Path, ...] = (), **options: object):
    """The documents of the first source, frames in tmp_path/out."""
    return read_source(find_sources(paths, subtitles)[0], "film", Reading(**options), tmp_path / "out")


def text_file(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# --- films ------------------------------------------------------------------------------------------------------------


def test_a_clip_with_a_track_becomes_a_document_with_text_times_and_frames(tmp_path):
    found = read(tmp_path, write_clip(tmp_path / "a.mp4", 80, subtitles=LINES))
    (document,) = found.documents
    assert (document.id, document.lang, document.group, document.title) == ("film", "en", "film", "a")
    assert document.text == "Ada Lovelace wrote. She was born in London."
    assert document.segments == (Segment(0, 19, 0.5, 1.5), Segment(20, 43, 2.0, 3.0))
    assert [(f.index, f.time_s, f.path) for f in document.frames] == [
        (0, 0.0, "frames/film/0.jpg"),
        (24, 1.0, "frames/film/24.jpg"),
        (48, 2.0, "frames/film/48.jpg"),
        (72, 3.0, "frames/film/72.jpg"),
    ]
    assert {image_size(tmp_path / "out" / frame.path) for frame in document.frames} == {(80, 48)}
    assert found.facts["subtitles"] == "track 0"


def test_subtitles_beside_the_video_go_before_its_track(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 80, subtitles=LINES)
    text_file(tmp_path / "a.srt", ENGLISH)
    assert read(tmp_path, clip).facts["subtitles"] == "a.srt"
    assert read(tmp_path, clip, track=0).facts["subtitles"] == "track 0"


def test_of_several_languages_beside_a_video_the_wanted_one_is_taken(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 30)
    for name, text in (("a.de.srt", GERMAN), ("a.en.srt", ENGLISH), ("a.zh.srt", CHINESE)):
        text_file(tmp_path / name, text)
    assert read(tmp_path, clip).facts["subtitles"] == "a.en.srt"
    assert read(tmp_path, clip, lang="zh").facts["subtitles"] == "a.zh.srt"


def test_another_language_is_named_and_refused_or_taken_by_lang(tmp_path):
    clip, subtitles = write_clip(tmp_path / "a.mp4", 30), text_file(tmp_path / "x.srt", GERMAN)
    with pytest.raises(UserError, match=r"x\.srt: is in German: only English and Chinese are read.*--lang"):
        read(tmp_path, clip, subtitles=(subtitles,))
    assert read(tmp_path, clip, subtitles=(subtitles,), lang="en").documents[0].lang == "en"


def test_a_long_film_is_cut_into_documents_of_one_group(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 300, rate=1)
    cues = "".join(
        f"{i}\n00:0{i // 6}:{i % 6}0,000 --> 00:0{i // 6}:{i % 6}4,000\nLine {i} is here.\n\n" for i in range(29)
    )
    found = read(tmp_path, clip, subtitles=(text_file(tmp_path / "x.srt", cues),))
    assert [d.id for d in found.documents] == ["film-001", "film-002", "film-003"]
    assert {d.group for d in found.documents} == {"film"}
    assert [frame.index for d in found.documents for frame in d.frames] == list(range(0, 300, 24))
    for document in found.documents:
        times = [s.start_s for s in document.segments]
        assert all(min(times) - 10 <= frame.time_s <= max(times) + 14 for frame in document.frames)
        assert all(document.text[s.start : s.end].startswith("Line") for s in document.segments)


def test_frames_can_be_taken_by_rate_and_at_subtitles(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 80, subtitles=LINES)
    assert [f.index for f in read(tmp_path, clip, fps=1).documents[0].frames] == [11, 35, 59]
    assert [f.index for f in read(tmp_path, clip, at_subtitles=True).documents[0].frames] == [24, 60]


def test_frames_that_show_the_same_can_be_passed_over_and_are_counted(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 72, images=[np.full((48, 80, 3), 90, np.uint8)] * 72)
    found = read(tmp_path, clip, least_change=0.1)
    assert [f.index for f in found.documents[0].frames] == [0]
    assert found.facts["similar_frames_passed_over"] == 2


def test_a_silent_film_has_frames_only_and_says_so(tmp_path):
    found = read(tmp_path, write_clip(tmp_path / "a.mp4", 30))
    assert [(d.text, len(d.frames)) for d in found.documents] == [("", 2)]
    assert found.problems == ["no subtitles: its documents have frames and no text (give --subtitles or --ocr)"]


def test_subtitles_of_a_longer_film_are_reported(tmp_path):
    subtitles = text_file(tmp_path / "x.srt", ENGLISH + "\n2\n00:09:01,000 --> 00:09:02,000\nThis is the end.\n")
    found = read(tmp_path, write_clip(tmp_path / "a.mp4", 30), subtitles=(subtitles,))
    assert found.problems == ["1 of 2 subtitles come after the last frame: do they belong to this video?"]


def test_sound_with_subtitles_has_text_only_and_says_so(tmp_path):
    sound = write_clip(tmp_path / "a.mkv", 0, sound_s=3)
    found = read(tmp_path, sound, subtitles=(text_file(tmp_path / "x.srt", ENGLISH),))
    assert [(bool(d.text), d.frames) for d in found.documents] == [(True, ())]
    assert found.problems == ["there is only sound: its documents have no frames"]


def test_sound_without_subtitles_is_refused(tmp_path):
    with pytest.raises(UserError, match="contains neither video frames nor subtitles; use --transcribe"):
        read(tmp_path, write_clip(tmp_path / "a.mkv", 0, sound_s=1))


def test_subtitles_alone_are_a_film_without_frames(tmp_path):
    (document,) = read(tmp_path, text_file(tmp_path / "a.srt", CHINESE)).documents
    assert (document.lang, document.text, document.frames) == ("zh", "我知道这是什么，也知道你是谁。", ())


def test_a_track_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no subtitle track 2; its subtitle tracks are 0"):
        read(tmp_path, write_clip(tmp_path / "a.mkv", 30, subtitles=LINES), track=2)


# --- transcripts ------------------------------------------------------------------------------------------------------


def test_a_program_that_prints_srt_gives_the_subtitles(tmp_path):
    program = text_file(tmp_path / "hear.py", f"import sys\nassert sys.argv[1].endswith('a.mp4')\nprint({ENGLISH!r})\n")
    found = read(tmp_path, write_clip(tmp_path / "a.mp4", 30), transcribe=f"{sys.executable} {program}")
    assert found.documents[0].text == "I know what this is and who you are."


def test_no_program_is_run_where_there_are_subtitles(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 80, subtitles=LINES)
    assert read(tmp_path, clip, transcribe="no-such-program").facts["subtitles"] == "track 0"


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("import sys; print('broken', file=sys.stderr); sys.exit(3)", "ended with 3 for .*: broken"),
        ("print('no subtitles')", "printed no SRT"),
        (None, "cannot be run: No such file"),
    ],
)
def test_a_program_that_fails_is_reported_in_one_line(tmp_path, program, says):
    command = "no-such-program" if program is None else f"{sys.executable} {text_file(tmp_path / 'p.py', program)}"
    with pytest.raises(UserError, match=says) as raised:
        read(tmp_path, write_clip(tmp_path / "a.mp4", 30), transcribe=command)
    assert "\n" not in str(raised.value)


def test_whisper_that_is_not_installed_is_reported_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(UserError, match=r"needs 'faster_whisper': pip install 'm3dllm\[whisper\]'"):
        read(tmp_path, write_clip(tmp_path / "a.mp4", 30), transcribe="whisper")


def test_ocr_that_is_not_installed_is_reported_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(UserError, match=r"needs 'rapidocr': pip install 'm3dllm\[ocr\]'"):
        read(tmp_path, write_clip(tmp_path / "a.mp4", 30), ocr=True)


# --- texts and pictures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "lang"), [("Ada met the king.\n", "en"), ("她见了国王。\n", "zh")])
def test_a_text_is_a_document_as_it_stands(tmp_path, text, lang):
    (document,) = read(tmp_path, text_file(tmp_path / "a.md", text)).documents
    assert (document.text, document.lang, document.frames) == (text, lang, ())


def test_an_empty_text_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"a\.txt: is empty"):
        read(tmp_path, text_file(tmp_path / "a.txt", " \n"))


def test_a_picture_with_its_caption_is_a_document(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    text_file(tmp_path / "a.txt", "Ada at her desk.\n")
    (document,) = read(tmp_path, tmp_path / "a.png").documents
    assert document.text == "Ada at her desk."
    assert [(f.index, f.width_px, f.height_px, f.path) for f in document.frames] == [(0, 30, 20, "frames/film/0.png")]


def test_a_broken_picture_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"a\.jpg: is not in a supported image format"):
        read(tmp_path, tmp_path / "a.jpg")


# --- what belongs together --------------------------------------------------------------------------------------------


def test_a_folder_stands_for_what_is_in_it(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    for name in ("film.mp4", "film.srt", "photo.txt", "notes.txt", "alone.vtt", ".hidden.txt", "other.bin"):
        text_file(tmp_path / name, "x")
    found = find_sources([tmp_path])
    assert [(s.kind, s.name, [f.name for f in s.files]) for s in found] == [
        ("film", "film", ["film.mp4", "film.srt"]),
        ("picture", "photo", ["photo.png", "photo.txt"]),
        ("film", "alone", ["alone.vtt"]),
        ("text", "notes", ["notes.txt"]),
    ]


def test_subtitles_go_to_films_in_their_order(tmp_path):
    files = [text_file(tmp_path / name, "x") for name in ("a.mp4", "b.txt", "c.mp4", "1.srt", "2.srt")]
    found = find_sources(files[:3], files[3:])
    assert [[f.name for f in s.files] for s in found] == [["a.mp4", "1.srt"], ["b.txt"], ["c.mp4", "2.srt"]]


@pytest.mark.parametrize(
    ("paths", "subtitles", "says"),
    [
        (["absent.mp4"], [], "absent.mp4: does not exist"),
        (["empty"], [], "empty: contains no video, subtitles, text or image"),
        (["a.mp4"], ["absent.srt"], "absent.srt: does not exist"),
        (["a.mp4"], ["x.srt", "x.srt"], "got 2 subtitle files for 1 film:"),
    ],
)
def test_what_is_missing_is_reported(tmp_path, paths, subtitles, says):
    (tmp_path / "empty").mkdir()
    for name in ("a.mp4", "x.srt"):
        text_file(tmp_path / name, "x")
    with pytest.raises(UserError, match=says):
        find_sources([tmp_path / path for path in paths], [tmp_path / path for path in subtitles])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"every": 3, "fps": 1.0}, "exclude one another"),
        ({"fps": 0.0}, "--fps 0: expected more than 0"),
        ({"fps": float("nan")}, "--fps nan"),
        ({"every": 0}, "--every 0"),
        ({"least_change": 2.0}, "--min-change 2"),
        ({"shortest_s": 60.0, "longest_s": 70.0}, "twice the shortest"),
    ],
)
def test_options_that_make_no_sense_are_reported(options, says):
    with pytest.raises(UserError, match=says):
        Reading(**options)


# --- text of cues -----------------------------------------------------------------------------------------------------


def test_chinese_cues_are_joined_without_a_space_where_a_sentence_ends():
    text, segments = joined([Cue(0, 1, "她写了信。"), Cue(1, 2, "然后\n走了"), Cue(2, 3, "后来")], "zh")
    assert text == "她写了信。然后 走了 后来"
    assert [text[s.start : s.end] for s in segments] == ["她写了信。", "然后 走了", "后来"]


def test_subtitles_in_two_languages_give_the_lines_of_one():
    cues = [Cue(0, 1, "我知道。\nI know."), Cue(1, 2, "你呢？\nAnd you?"), Cue(2, 3, "1867")]
    assert [cue.text for cue in in_language(cues, "zh")] == ["我知道。", "你呢？", "1867"]
    assert [cue.text for cue in in_language(cues, "en")] == ["I know.", "And you?", "1867"]


def test_the_source_of_every_kind_has_a_name():
    assert Source("film", None, (Path("a.en.srt"),)).name == "a.en"
