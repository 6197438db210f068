from __future__ import annotations

import hashlib
import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm import media
from m3dllm.errors import UserError
from m3dllm.media import Notes, probe, stills, track_events
from m3dllm.sampling import DisplayedFrame, Sampling, chosen
from tests.clips import picture, shown_number, write_clip

av = pytest.importorskip("av", reason="needs av (the extra video)")

UNEVEN = [40 * i + (1500 if i > 20 else 0) + 7 * (i % 3) for i in range(50)]
"""Times in milliseconds, with a pause of a second and a half after frame 20."""


def taken(path: Path, sampling: Sampling, **options: object) -> list[tuple[int, float]]:
    """(number, time) of each frame; each shows the number that it is said to have."""
    found = list(stills(path, sampling, **options))
    assert [still.number for still in found] == [shown_number(still.image) for still in found]
    return [(still.number, round(still.time_s, 3)) for still in found]


def by_ffmpeg(path: Path, name: str, arguments: str) -> list[int]:
    """The numbers that the frames show which a filter of ffmpeg lets through, repetitions once."""
    graph = av.filter.Graph()
    numbers: list[int] = []
    with av.open(str(path)) as container:
        source = graph.add_buffer(template=container.streams.video[0])
        chain, sink = graph.add(name, arguments), graph.add("buffersink")
        source.link_to(chain)
        chain.link_to(sink)
        graph.configure()

        def pull() -> None:
            while True:
                try:
                    numbers.append(shown_number(graph.pull().to_image()))
                except (av.error.BlockingIOError, av.error.EOFError):
                    return

        begin = round(Fraction(container.start_time, 1_000_000) / container.streams.video[0].time_base)
        for frame in container.decode(video=0):
            frame.pts -= begin  # as the program ffmpeg does
            graph.push(frame)
            pull()
        graph.push(None)
        pull()
    return list(dict.fromkeys(numbers))


# --- which frames -----------------------------------------------------------------------------------------------------


def test_every_24th_frame_is_taken_with_its_number_and_time(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 60)
    assert taken(clip, Sampling(every=24)) == [(0, 0.0), (24, 1.0), (48, 2.0)]


@pytest.mark.parametrize("ticks", [(), UNEVEN], ids=["steady", "uneven"])
@pytest.mark.parametrize("fps", ["2", "0.5", "23.976", "7/2", "100"])
def test_frames_a_second_are_those_of_the_filter_fps(tmp_path, ticks, fps):
    clip = write_clip(tmp_path / "clip.mkv", 50, ticks=ticks)
    numbers = [number for number, _ in taken(clip, Sampling(fps=Fraction(fps)))]
    assert numbers == by_ffmpeg(clip, "fps", fps)


@pytest.mark.parametrize("every", [1, 7, 24, 100])
def test_every_so_many_are_those_of_the_filter_select(tmp_path, every):
    clip = write_clip(tmp_path / "clip.mkv", 50, ticks=UNEVEN)
    numbers = [number for number, _ in taken(clip, Sampling(every=every))]
    assert numbers == by_ffmpeg(clip, "select", rf"not(mod(n\,{every}))")


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.avi", "mpeg4"), ("a.ts", "libx264"), ("a.ts", "mpeg2video"), ("a.mov", "mpeg4"), ("a.webm", "libvpx")],
)
def test_containers_and_codecs_number_frames_alike(tmp_path, name, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"this ffmpeg has no {codec}")
    clip = write_clip(tmp_path / name, 50, codec=codec, options={"b": "2000000"})
    assert [number for number, _ in taken(clip, Sampling(every=24))] == [0, 24, 48]
    assert [number for number, _ in taken(clip, Sampling(fps=Fraction(2)))] == by_ffmpeg(clip, "fps", "2")


def test_at_a_time_the_frame_on_screen_is_taken_once(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", 50, ticks=UNEVEN)
    assert taken(clip, Sampling(at_s=(1.55, 0.1, 0.11, 1.5, 100.0))) == [(2, 0.094), (20, 0.814), (49, 3.467)]


def test_no_times_ask_for_no_frame(tmp_path):
    assert taken(write_clip(tmp_path / "clip.mkv", 3), Sampling(at_s=())) == []


@given(st.lists(st.integers(1, 500), min_size=1, max_size=30), st.integers(1, 400))
def test_a_slot_is_filled_by_the_last_frame_that_rounds_to_it_or_before(gaps, hundredths):
    """The slow twin: every slot by itself. Gaps are of 1/1000 s, the last one how long the last frame is shown."""
    fps = Fraction(hundredths, 100)
    times = [sum(gaps[:i]) for i in range(len(gaps) + 1)]
    rounded = [math.floor(Fraction(t, 1000) * fps + Fraction(1, 2)) for t in times]
    wanted = {max(i for i in range(len(gaps)) if rounded[i] <= slot) for slot in range(rounded[0], rounded[-1])}
    frames = [DisplayedFrame(time, gap, None) for time, gap in zip(times, gaps, strict=False)]
    found = [number for number, _ in chosen(frames, Sampling(fps=fps), Fraction(1, 1000))]
    assert found == (sorted(wanted) or [len(gaps) - 1])


@pytest.mark.parametrize(
    "options",
    [{"g": "250", "bf": "3"}, {"g": "60", "x264-params": "open-gop=1:bframes=3:b-adapt=0"}, {"intra-refresh": "1"}],
    ids=["long groups", "open groups", "gradual refresh"],
)
@pytest.mark.parametrize(
    "sampling", [Sampling(every=24), Sampling(at_s=(0.2, 5.03, 11.9, 12.0)), Sampling(fps=Fraction(1, 4))], ids=str
)
def test_frames_decoded_alone_are_those_decoded_with_all_others(tmp_path, monkeypatch, options, sampling):
    clip = write_clip(tmp_path / "clip.mkv", 300, options=options)
    few = [(still.number, still.time_s, still.image.tobytes()) for still in stills(clip, sampling)]
    monkeypatch.setattr(media, "ONE_PACKET_A_FRAME", frozenset())
    assert few == [(still.number, still.time_s, still.image.tobytes()) for still in stills(clip, sampling)]


def test_what_nothing_wanted_depends_on_is_not_decoded(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", 300, options={"g": "50", "bf": "0", "sc_threshold": "0"})
    with media._opened(clip) as container:
        packets = media._listed(container, container.streams.video[0])
    needed = media._needed(packets, {packets.pts[210]})
    assert [i for i, need in enumerate(needed) if need] == list(range(200, 211))


# --- how they look ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", [90, 180, -90])
def test_a_clip_that_says_it_is_turned_comes_upright(tmp_path, turn):
    from PIL import Image

    quarters = turn // 90
    image = next(iter(stills(write_clip(tmp_path / "clip.mp4", 3, turn=turn), Sampling(every=3)))).image
    expected = Image.fromarray(picture(0)).rotate(90 * quarters, expand=True)
    assert image.size == expected.size
    assert abs(sum(image.convert("L").tobytes()) - sum(expected.convert("L").tobytes())) < 3 * 48 * 80
    assert abs(image.getpixel((image.width // 2, image.height // 2))[0] - 0) < 30
    edge = {90: (4, 40), 180: (40, 44), -90: (44, 40)}[turn]  # where the grey band has gone
    assert abs(image.getpixel(edge)[0] - 128) < 30


def test_pixels_come_square(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 3, aspect=Fraction(2))
    assert next(iter(stills(clip, Sampling(every=3)))).image.size == (160, 48)


def test_large_frames_are_made_smaller_and_small_ones_stay(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 3)
    sizes = [next(iter(stills(clip, Sampling(every=3), longest_side=side))).image.size for side in (40, 1000)]
    assert sizes == [(40, 24), (80, 48)]


def test_a_frame_that_differs_too_little_from_the_last_one_kept_is_passed_over(tmp_path):
    images = [picture(0)] * 10 + [picture(3)] * 10
    clip, notes = write_clip(tmp_path / "clip.mp4", 20, images=images), Notes()
    assert [s.number for s in stills(clip, Sampling(every=5), least_change=0.1, notes=notes)] == [0, 10]
    assert notes.similar == 2


# --- what is wrong with a file ----------------------------------------------------------------------------------------


def test_a_truncated_file_gives_the_frames_that_it_has_and_says_where_it_ends(tmp_path):
    whole = write_clip(tmp_path / "whole.mkv", 240)
    cut, notes = tmp_path / "cut.mkv", Notes()
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    numbers = [number for number, _ in taken(cut, Sampling(every=24), notes=notes)]
    assert numbers[:3] == [0, 24, 48]
    assert len(numbers) < 10
    assert "truncated" in " ".join(notes.problems)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("cut.mp4", None, "truncated"),
        ("empty.mp4", b"", "is an empty file"),
        ("text.mp4", b"no video at all\n" * 50, "cannot be read as a video"),
        ("folder", ..., "is a folder"),
        ("absent.mp4", ..., "does not exist"),
    ],
)
def test_a_file_that_is_no_video_is_refused_in_one_line(tmp_path, name, content, says):
    (tmp_path / "folder").mkdir()
    file = tmp_path / name
    if content is None:
        content = write_clip(tmp_path / "whole.mp4", 50).read_bytes()[:2000]
    if content is not ...:
        file.write_bytes(content)
    with pytest.raises(UserError, match=says) as raised:
        list(stills(file, Sampling(every=24)))
    assert str(raised.value).startswith(str(file))
    assert "\n" not in str(raised.value)


def test_sound_alone_has_no_frames(tmp_path):
    clip = write_clip(tmp_path / "sound.mkv", 0, sound_s=1)
    assert probe(clip).codec == ""
    assert probe(clip).has_sound
    with pytest.raises(UserError, match="contains only sound"):
        list(stills(clip, Sampling(every=24)))


def test_damage_within_the_file_loses_only_what_it_hits(tmp_path):
    clip, notes = write_clip(tmp_path / "clip.mp4", 240), Notes()
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    clip.write_bytes(data)
    numbers = [still.number for still in stills(clip, Sampling(every=24), notes=notes)]
    assert len(numbers) >= 9
    assert "damaged packet" in " ".join(notes.problems)


# --- subtitle tracks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_a_subtitle_track_is_listed_and_read(tmp_path, name):
    lines = [(0.5, 1.5, "Ada Lovelace wrote."), (2.0, 3.0, "她写了信。")]
    clip = write_clip(tmp_path / name, 80, subtitles=lines)
    assert [(t.number, t.language, t.text) for t in probe(clip).tracks] == [(0, "eng", True)]
    assert list(track_events(clip, 0)) == lines


def test_a_track_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", 10, subtitles=[(0, 1, "Hello.")])
    with pytest.raises(UserError, match=r"has no subtitle track 3; its subtitle tracks are 0 \(eng, srt\)"):
        list(track_events(clip, 3))


# --- real clips -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampling", "count", "expected"),
    [
        (Sampling(every=24), 300, "8453135fadd8883125bb23a60866bd6d808077272cc9678e5c33a24e0ad7bcd0"),
        (Sampling(fps=Fraction(1, 2)), 150, "f7f695ab7d0dc5749c9b598c2df32e66edc6bd1da380d84a37f67cd29773d17d"),
    ],
    ids=["select", "fps"],
)
def test_the_frames_of_a_clip_that_shows_its_time_are_those_of_ffmpeg(shared_data, sampling, count, expected):
    """By the pixels: `ffmpeg -i movie_300.mp4 -an -vf FILTER -vsync 0 -f framemd5 -`, FILTER being
    select='not(mod(n,24))' or fps=0.5; the hash is of its last column, a line a frame."""
    notes = Notes()
    frames = media._frames(shared_data / "videos/wpt/media/movie_300.mp4", sampling, notes)
    found = [hashlib.md5(frame.to_ndarray().tobytes()).hexdigest() for _, _, frame, _ in frames]
    assert len(found) == count
    assert hashlib.sha256("".join(f"{one}\n" for one in found).encode()).hexdigest() == expected
    assert notes == Notes(frames=7200, end_s=300.0)


def test_every_real_clip_gives_every_24th_frame(shared_data):
    counts = {
        clip.name: len(list(stills(clip, Sampling(every=24))))
        for clip in sorted((shared_data / "videos").rglob("*.m[pk][4v]"))
        if clip.name not in ("movie_300.mp4", "one-by-one-person-detection.mp4")
    }
    assert counts == {
        "bigbuckbunny.mp4": 6,
        "bikes.mp4": 11,
        "book.mkv": 5,
        "brother.mkv": 3,
        "carphone_pristine.mp4": 5,
        "counting.mp4": 13,
        "flipping_a_pancake.mkv": 13,
        "nasa_13013.mp4": 17,
        "sister.mkv": 4,
        "test.mp4": 8,
        "walk.mkv": 4,
    }


def test_the_track_of_a_real_clip_names_people_and_places(shared_data):
    events = list(track_events(shared_data / "videos/torchcodec/test/resources/nasa_13013.mp4", 0))
    assert [events[2][0], events[2][2]] == [8.35, "at NASA’s Goddard Space Flight Center in Greenbelt, Maryland."]
