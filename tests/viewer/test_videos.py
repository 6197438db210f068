"""Videos on the page: where their files lie, and what the player does in a real browser."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from m3dllm.runs import Run
from m3dllm.types import Video
from m3dllm.videos import put_video
from m3dllm.viewer import write_pages
from tests.viewer.documents import chinese, corpus, english, replay

FILM = Path(__file__).parents[2] / "examples" / "film.en.mp4"


def filmed(folder: Path, film: Path = FILM, path: str = "videos/film.mp4", more: int = 0) -> Run:
    """A run over an English document with segments and frames of a film, and over a Chinese one without a video.

    The frames are at 0 s and 6 s, and so many `more` from 7 s on, ten a second.
    """
    document = english().document
    frames = tuple(replace(frame, time_s=frame.index / 4) for frame in document.frames)
    frames += tuple(replace(frames[0], index=100 + n, time_s=7 + n / 10, annotated=False) for n in range(more))
    document = replace(document, frames=frames, video=Video(path, 0.0, 57.75))
    examples = (replace(english(), document=document), chinese())
    root = corpus(folder / "corpus", examples, videos={path: film})
    return replay(root, root / "test.jsonl", folder / "run")


def video_of(page: Path) -> dict[str, object] | None:
    """What the page knows of the video of its first document."""
    line = (page.parent / "documents/00000.js").read_text(encoding="utf-8").splitlines()[0]
    return json.loads(line.split(",", 1)[1].removesuffix(");"))["video"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return filmed(tmp_path_factory.mktemp("filmed"))


@pytest.fixture
def watched(browser, run, tmp_path):
    """The page of the English document, its video loaded."""
    browser.open(write_pages([run], tmp_path / "page"), document="en-1")
    browser.wait("document.querySelector('video').readyState >= 2")
    return browser


def now(browser) -> list[str]:
    """The time of the video, what of the time line is lit, and the time in the text."""
    browser.wait("!document.querySelector('video').seeking")
    return browser.run("""[document.querySelector("video").currentTime.toFixed(1),
        ...[...document.querySelectorAll(".track .now")].map((mark) => mark.title),
        ...[...document.querySelectorAll(".text .gutter.now")].map((gutter) => gutter.textContent)]""")


def moved(browser, seconds: float) -> None:
    browser.wait(f"Math.abs(document.querySelector('video').currentTime - {seconds}) < 0.1")


# --- files ---


def test_a_page_has_a_hard_link_of_the_video_a_copy_or_none(run, tmp_path):
    film = run.path.parent / "corpus/videos/film.mp4"
    made = {how: write_pages([run], tmp_path / how, videos=how) for how in ("link", "copy", "none")}
    files = {how: [*(tmp_path / how).rglob("*.mp4")] for how in made}
    assert {how: [file.name for file in found] for how, found in files.items()} == {
        "link": ["0000.mp4"],
        "copy": ["0000.mp4"],
        "none": [],
    }
    assert files["link"][0].samefile(film)
    assert not files["copy"][0].samefile(film)
    assert video_of(made["link"]) == {"start_s": 0.0, "end_s": 57.75, "src": "videos/0000.mp4"}
    assert video_of(made["none"]) is None


def test_a_page_of_one_file_has_no_video(run, tmp_path):
    write_pages([run], tmp_path, embed=True)
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["index.html"]


def test_a_page_that_is_written_again_has_the_videos_of_its_runs_only(run, runs, tmp_path):
    write_pages([run], tmp_path)
    write_pages(runs, tmp_path)
    assert not [*tmp_path.rglob("*.mp4")]


def test_a_video_on_another_disk_is_not_copied_unasked(tmp_path):
    disk = Path("/dev/shm")
    if not os.access(disk, os.W_OK) or disk.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second disk at /dev/shm")
    target = disk / f"m3dllm-{os.getpid()}.mp4"
    try:
        why = put_video(FILM, target, "link")
        assert why == "it is on another disk: --videos copy makes a copy of 0 MB"
        assert not target.exists()
        assert put_video(FILM, target, "copy") is None
        assert target.read_bytes() == FILM.read_bytes()
    finally:
        target.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../../secret.mp4", "its path leads out of the corpus"),
        ("videos/link.mp4", "it is not in a corpus"),
        ("labels.json", "browsers play no .json"),
        ("videos/gone.mp4", "the file is gone"),
    ],
)
def test_a_run_brings_no_other_file_into_the_page(tmp_path, path, why):
    run = filmed(tmp_path)
    (tmp_path / "secret.mp4").write_bytes(b"mine")
    (tmp_path / "corpus/videos/link.mp4").symlink_to(tmp_path / "secret.mp4")
    documents = run.path / "documents.jsonl"
    documents.write_bytes(documents.read_bytes().replace(b"videos/film.mp4", path.encode()))
    page = write_pages([run], tmp_path / "page")
    assert video_of(page) == {"start_s": 0.0, "end_s": 57.75, "gone": why}
    assert not (tmp_path / "page/videos").exists()


# --- in the browser ---


def test_a_click_on_a_segment_goes_there_and_lights_what_is_said_and_shown(watched):
    assert now(watched) == ["0.0", "0:00: frame 0"]
    watched.click(".track .segment")
    moved(watched, 4.0)
    assert now(watched) == ["4.0", "0:04 to 0:09", "0:00: frame 0", "0:04"]
    assert watched.run("document.querySelector('.text .cell.now').textContent.startsWith('Ada King')")


def test_a_click_on_a_frame_of_the_time_line_goes_there(watched):
    watched.click(".track .frame", 1)
    moved(watched, 6.0)
    assert now(watched) == ["6.0", "0:04 to 0:09", "0:06: frame 24", "0:04"]
    assert watched.run("document.querySelector('.strip li.now figcaption').textContent.startsWith('24')")
    assert not watched.run("document.getElementById('dialog').open")


def test_what_is_lit_follows_the_video_while_it_plays(watched):
    watched.run("document.querySelector('video').currentTime = 9.2")
    watched.wait("document.querySelector('.track .segment.now')")
    watched.press("v")
    watched.wait("!document.querySelector('.track .segment.now')")
    watched.press("v")
    assert watched.run("document.querySelector('video').paused && document.querySelector('video').currentTime > 9.5")


def test_requested_frames_follow_too(browser, tmp_path):
    browser.open(write_pages([filmed(tmp_path, more=310)], tmp_path / "page"), document="en-1")
    browser.wait("document.querySelector('video').readyState >= 2")
    browser.click(".strip .more")
    browser.run("document.querySelector('video').currentTime = 37.95")
    browser.wait("document.querySelector('.strip li.now')?.textContent.startsWith('409')")


def test_keys_and_times_in_the_text_go_through_the_video(watched):
    watched.press(".")
    moved(watched, 4.0)
    watched.driver.execute_script("document.querySelector('.text .at').focus()")
    watched.press(",")
    watched.press("Enter")
    moved(watched, 4.0)
    assert watched.run("document.activeElement.tagName") == "VIDEO"
    watched.press("Right")  # is the video's own key there
    assert watched.document() == "en-1"


def test_the_text_is_there_as_captions(watched):
    script = "[...document.querySelector('video').textTracks[0].cues].map((cue) => [cue.startTime, cue.text])"
    assert watched.run(script) == [[4.0, "Ada King met Bela in Arles ."], [65.0, "Ada liked Arles ."]]


def test_the_video_keeps_its_time_when_a_column_is_chosen(watched):
    watched.click(".track .frame", 1)
    moved(watched, 6.0)
    watched.click(".chip")
    assert now(watched)[0] == "6.0"


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_bars_those_who_cannot_see_or_point(watched, width):
    watched.resize(width, 900)
    assert watched.barriers() == []


def test_a_document_without_a_video_has_no_player(watched, tmp_path):
    watched.open(tmp_path / "page/index.html", document="zh-1")
    assert not watched.all("video, .playhead, .at, .player")


def test_a_video_that_cannot_be_decoded_leaves_the_frames_and_one_line(browser, tmp_path):
    (tmp_path / "broken.webm").write_bytes(b"no film" * 100)
    run = filmed(tmp_path, tmp_path / "broken.webm", "videos/film.webm")
    browser.open(write_pages([run], tmp_path / "page"), document="en-1")
    browser.wait("!document.querySelector('video')")
    said = "The video cannot be played: this browser cannot decode it. The frames show what it shows."
    assert browser.texts("section[aria-label=Time] > .note")[0] == said
    browser.click(".track .frame", 1)
    assert browser.run("document.getElementById('dialog-title').textContent") == "Frame 24"
