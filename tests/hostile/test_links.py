"""Links and special files: a corpus cannot show what lies outside it, and nothing waits for a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from m3dllm.corpora.check import check
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.native import load_corpus, write_corpus
from m3dllm.errors import UserError
from m3dllm.files import check_free, read_bytes, sha256_file, write_atomic
from tests.small import LABELS, example, png

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def corpus(tmp_path) -> Path:
    """One document with two frames."""
    one = example("a", "[PER0 Ada] wrote .", frames=2)
    images = {frame.path: png() for frame in one.document.frames}
    write_corpus(tmp_path / "corpus", Imported(LABELS, {"test": [one]}, images))
    return tmp_path / "corpus"


def link_file(corpus: Path, outside: Path) -> None:
    (outside / "0.png").write_bytes(png())
    frame = corpus / "frames/a/0.png"
    frame.unlink()
    frame.symlink_to(outside / "0.png")


def link_folder(corpus: Path, outside: Path) -> None:
    (corpus / "frames/a").rename(outside / "a")
    (corpus / "frames/a").symlink_to(outside / "a")


def link_to_link(corpus: Path, outside: Path) -> None:
    link_folder(corpus, outside)
    (corpus / "frames/b").symlink_to(corpus / "frames/a")
    text = (corpus / "test.jsonl").read_text()
    (corpus / "test.jsonl").write_text(text.replace("frames/a/", "frames/b/"))


@pytest.mark.parametrize("link", [link_file, link_folder, link_to_link])
def test_a_linked_frame_leads_out_of_a_corpus_only_where_it_may(link, corpus, tmp_path):
    (tmp_path / "outside").mkdir()
    link(corpus, tmp_path / "outside")
    with pytest.raises(UserError, match=r"test\.jsonl:1.*frames\[0\]\.path.*outside the corpus.*--linked-frames"):
        load_corpus(corpus)
    assert "link to a file outside the corpus" in str(check(corpus).problems[0])
    assert load_corpus(corpus, linked_frames=True)["test"]
    assert not check(corpus, linked_frames=True).problems


def test_links_within_a_corpus_and_a_corpus_that_is_a_link_are_ordinary(corpus, tmp_path):
    frame = corpus / "frames/a/0.png"
    frame.rename(corpus / "frames/kept.png")
    frame.symlink_to(corpus / "frames/kept.png")
    (tmp_path / "linked").symlink_to(corpus)
    for path in (corpus, tmp_path / "linked"):
        assert load_corpus(path)["test"]
        assert not check(path).problems


def test_a_linked_frame_is_no_traceback_on_the_command_line(corpus, tmp_path):
    (tmp_path / "outside").mkdir()
    link_file(corpus, tmp_path / "outside")
    answers = corpus / "test.jsonl"
    words = ["run", "--system", "replay", "--answers", answers, "--corpus", corpus, "--out", tmp_path / "run"]
    command = [sys.executable, "-m", "m3dllm", *map(str, words)]
    refused = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    allowed = subprocess.run([*command, "--linked-frames"], capture_output=True, text=True, cwd=ROOT)
    assert allowed.returncode == 0, allowed.stderr


# --- pipes and devices ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_bytes, sha256_file])
def test_a_pipe_or_a_device_is_refused_at_once(read, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(UserError, match="it is a pipe or a device"):
            read(path)


def test_a_device_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(UserError, match="expected a file to write"):
            write_atomic(path, "x")


@pytest.mark.parametrize("name", ["labels.json", "test.jsonl", "frames/a/0.png"])
def test_a_corpus_with_a_pipe_in_it_is_refused_and_not_waited_for(name, corpus):
    (corpus / name).unlink()
    os.mkfifo(corpus / name)
    for verb in (["check"], ["run", "--system", "majority", "--corpus"]):
        command = [sys.executable, "-m", "m3dllm", *verb, str(corpus)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


# --- links that lead nowhere ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [("report", "loop"), ("view", "loop"), ("view", "corpus", "--out", "loop")])
def test_a_link_to_itself_is_one_line(verb, corpus, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    command = [sys.executable, "-m", "m3dllm", *verb]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "loop: Too many levels of symbolic links" in done.stderr


def test_a_new_folder_does_not_take_the_place_of_a_link_to_nothing(tmp_path):
    (tmp_path / "out").symlink_to("nowhere")
    with pytest.raises(UserError, match="out: is a link to nothing: choose another folder"):
        check_free(tmp_path / "out")
