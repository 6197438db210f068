from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.errors import UserError
from m3dllm.subtitles import Cue, parse_subtitles, plain, read_subtitles, read_track, tidy
from tests.clips import write_clip

pytest.importorskip("pysubs2", reason="needs pysubs2 (the extra video)")

SRT = "1\n00:00:01,000 --> 00:00:02,500\n<i>Ada</i> wrote.\n\n2\n00:00:03,000 --> 00:00:04,000\n她写了信。\n"
VTT = "WEBVTT\n\n00:01.000 --> 00:02.500 align:start\n<v Ada><i>Ada</i> wrote.\n\n00:03.000 --> 00:04.000\n她写了信。\n"
SBV = "0:00:01.000,0:00:02.500\nAda wrote.\n\n0:00:03.000,0:00:04.000\n她写了信。\n"
ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,20

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Comment: 0,0:00:00.00,0:00:09.00,Default,,0,0,0,,nobody says this
Dialogue: 1,0:00:01.00,0:00:02.50,Default,,0,0,0,,{\\pos(4,5)\\b1}Ada{\\b0} wrote.
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,{\\blur3}Ada wrote.
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,{\\p1}m 0 0 l 100 0 100 100{\\p0}
Dialogue: 0,0:00:03.00,0:00:04.00,Default,,0,0,0,,她写了信。
"""
TTML = """<?xml version="1.0"?>
<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttp="http://www.w3.org/ns/ttml#parameter" ttp:frameRate="10">
<body><div begin="1s"><p begin="0s" dur="1500ms"><span>Ada</span>
 wrote.</p></div><div><p begin="00:00:03:00" end="00:00:04.000">她写<br/>了信。</p></div></body></tt>
"""
TWO = (Cue(1.0, 2.5, "Ada wrote."), Cue(3.0, 4.0, "她写了信。"))


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.srt", SRT), ("a.vtt", VTT), ("a.sbv", SBV), ("a.ass", ASS), ("a.ssa", ASS), ("a.txt", SRT)],
)
def test_every_format_gives_the_same_cues_without_styles(name, text):
    assert parse_subtitles(text, Path(name)).cues == TWO


def test_ttml_gives_paragraphs_by_clock_frames_and_offsets():
    assert parse_subtitles(TTML, Path("a.ttml")).cues == (TWO[0], Cue(3.0, 4.0, "她写\n了信。"))


def test_spans_of_ttml_with_times_of_their_own_are_cues_and_what_has_no_end_is_counted():
    spans = '<p><span begin="1s" end="2.5s">Ada wrote.</span><span begin="3s" end="4s">她写了信。</span></p>'
    file = f'<tt><body>{spans}<p begin="9s">And then?</p></body></tt>'
    found = parse_subtitles(file, Path("a.ttml"))
    assert (found.cues, found.problems) == (TWO, ("1 of its cues have impossible times",))


@pytest.mark.parametrize("encoding", ["utf-16", "gbk"])
def test_ttml_may_declare_its_encoding(tmp_path, encoding):
    declared = TTML.replace("?>", f' encoding="{encoding.upper()}"?>', 1).replace("了信", "了我们的信")
    (tmp_path / "a.ttml").write_bytes(declared.encode(encoding))
    assert read_subtitles(tmp_path / "a.ttml").cues[0] == TWO[0]


def test_times_of_words_are_no_times_of_cues():
    file = VTT.replace("wrote", "<00:00:01.500><c>wr</c><00:00:02.000><c>ote</c>")
    assert parse_subtitles(file, Path("a.vtt")).cues == TWO


def test_the_head_of_a_file_counts_not_its_suffix():
    assert parse_subtitles(VTT, Path("a.srt")).cues == TWO


def test_in_sami_a_cue_stays_until_the_next_or_nothing_is_shown():
    shown = ((1000, "Ada wrote."), (2500, "&nbsp;"), (3000, "她写了信。"), (4000, "&nbsp;"))
    syncs = "".join(f"<SYNC Start={ms}><P Class=A>{text}\n" for ms, text in shown)
    assert parse_subtitles(f"<SAMI><BODY>{syncs}</BODY></SAMI>", Path("a.smi")).cues == TWO


def test_marks_that_nobody_sees_are_dropped():
    assert plain("&lrm;\u202bAda\u202c \ufeffwrote\u200b. 👩\u200d💻") == "Ada wrote. 👩\u200d💻"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gbk"])
def test_a_file_in_another_encoding_is_read_and_the_encoding_named(tmp_path, encoding):
    (tmp_path / "a.srt").write_bytes((SRT + "\n3\n00:00:05,000 --> 00:00:06,000\n我们不知道。\n").encode(encoding))
    found = read_subtitles(tmp_path / "a.srt")
    assert (found.cues[:2], found.encoding) == (TWO, encoding)


def test_the_track_of_a_video_is_read_like_a_file(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 100, subtitles=[(1.0, 2.5, "<i>Ada</i> wrote."), (3.0, 4.0, "她写了信。")])
    assert read_track(clip, 0).cues == TWO


@pytest.mark.parametrize("rate", ["abc", "0", "nan", "1e9", "-5", "0.5.5", "9" * 5000])
def test_a_rate_that_is_none_is_the_usual_one(rate):
    usual = parse_subtitles(TTML.replace('ttp:frameRate="10"', ""), Path("a.ttml"))
    for name in ("frameRate", "tickRate"):
        text = TTML.replace('ttp:frameRate="10"', f'ttp:{name}="{rate}"')
        assert parse_subtitles(text, Path("a.ttml")) == usual


def test_ttml_nested_without_end_is_one_line():
    with pytest.raises(UserError, match=r"a\.ttml: is nested too deeply"):
        parse_subtitles(f"<tt>{'<div>' * 20_000}{'</div>' * 20_000}</tt>", Path("a.ttml"))


@pytest.mark.parametrize("end", ["9" * 400 + "s", "9" * 5000 + ":00:00", "999999999:00:00"])
def test_a_cue_at_no_time_of_a_film_is_counted(end):
    found = parse_subtitles(TTML.replace("00:00:04.000", end), Path("a.ttml"))
    assert found.cues == TWO[:1]


def test_braces_that_never_close_are_passed_over():
    text = SRT.replace("<i>Ada</i>", "{\\i1}{Ada{")
    assert [cue.text for cue in parse_subtitles(text, Path("a.srt")).cues] == ["Ada wrote.", "她写了信。"]


def test_windows_line_ends_are_line_ends():
    assert parse_subtitles(SRT.replace("\n", "\r\n"), Path("a.srt")).cues == TWO


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.srt", ""),
        ("a.vtt", "WEBVTT\n\n"),
        ("a.ass", "nothing"),
        ("a.ttml", "<tt><body/></tt>"),
        ("a.ttml", "<tt><body>"),
        ("a.ttml", '<!DOCTYPE tt [<!ENTITY a "b">]><tt><body><p begin="0s" end="1s">&a;</p></body></tt>'),
        ("a.srt", "just a text\n" * 5),
    ],
)
def test_a_file_without_subtitles_is_refused_in_one_line(name, text):
    with pytest.raises(UserError, match=r"^a\.\w+: ") as raised:
        parse_subtitles(text, Path(name))
    assert "\n" not in str(raised.value)


def test_timing_lines_that_cannot_be_read_are_counted_and_never_text():
    found = parse_subtitles(SRT + "\n3\n0:5 --> 00:00:09\nlost words\n", Path("a.srt"))
    assert found.cues == TWO
    assert found.problems == ("1 of its timing lines cannot be read",)


@given(
    st.sampled_from(
        (("a.srt", SRT), ("a.vtt", VTT), ("a.sbv", SBV), ("a.ass", ASS), ("a.ttml", TTML), ("a.smi", "<SAMI>"))
    ),
    st.lists(
        st.tuples(st.integers(0, 400), st.sampled_from(("", "\n", "-->", "<", "}", "9" * 30, ":", "\0", "她", "{\\")))
    ),
)
def test_a_damaged_file_gives_cues_or_one_line(file, damages):
    name, text = file
    for at, new in damages:
        text = text[:at] + new + text[at + 1 :]
    try:
        cues = parse_subtitles(text, Path(name)).cues
    except UserError:
        return
    assert all(a.end_s <= b.start_s for a, b in pairwise(cues))


# --- repetitions and overlaps -----------------------------------------------------------------------------------------


def test_a_cue_ends_where_the_next_begins():
    assert tidy([Cue(0, 5, "one"), Cue(3, 6, "two")]) == (Cue(0, 3, "one"), Cue(3, 6, "two"))


def test_cues_that_begin_together_become_one():
    assert tidy([Cue(0, 5, "one"), Cue(0, 6, "two")]) == (Cue(0, 6, "one\ntwo"),)


def test_thousands_that_begin_together_become_one():
    (one,) = tidy(Cue(0.0, 9.0, f"line {i}") for i in range(20_000))
    assert len(one.lines) == 20_000


def test_what_is_still_on_screen_is_not_repeated():
    assert tidy([Cue(0, 5, "one"), Cue(2, 7, "one")]) == (Cue(0, 7, "one"),)


def test_what_is_spoken_twice_stays_twice():
    assert tidy([Cue(0, 1, "No."), Cue(1, 2, "No.")]) == (Cue(0, 1, "No."), Cue(1, 2, "No."))


def test_rolling_captions_are_read_once():
    rolling = [Cue(0, 2, "a"), Cue(2, 4, "a\nb"), Cue(4, 4.01, "b"), Cue(4.01, 6, "b\nc"), Cue(6, 8, "c\nd")]
    assert [cue.text for cue in tidy(rolling)] == ["a", "b", "c", "d"]


def test_empty_cues_are_none():
    assert tidy([Cue(0, 1, "")]) == ()


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 9), st.sampled_from(("a", "b", "a\nb", "", "她"))), max_size=12
    )
)
def test_tidy_cues_do_not_overlap_and_lose_no_line(raw):
    cues = tidy(Cue(start, start + length, text) for start, length, text in raw)
    assert all(before.end_s <= after.start_s for before, after in pairwise(cues))
    assert all(cue.text for cue in cues)
    assert {line for cue in cues for line in cue.lines} == {
        line for _, _, text in raw if text for line in text.split("\n")
    }


# --- real files -------------------------------------------------------------------------------------------------------


def test_every_real_subtitle_file_is_read(shared_data):
    files = [p for p in (shared_data / "videos").rglob("*") if p.suffix in (".srt", ".vtt", ".ssa", ".sbv", ".ttml")]
    counts = {file.name: len(read_subtitles(file).cues) for file in files}
    assert counts["TOS-en.srt"] == counts["TOS-no.srt"] == 76
    assert (counts["data.sbv"], counts["data.ssa"], counts["data.srt"]) == (3, 3, 4)
    assert (counts["data.ttml"], counts["captions.en.vtt"]) == (10, 78)
