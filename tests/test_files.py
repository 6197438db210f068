"""Bytes on disk: whole or not at all, and never outside the folder they belong to."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.errors import UserError
from m3dllm.files import clear_leftovers, decode_text, file_name, inside, natural, new_folder, read_text, write_atomic


def test_a_file_is_replaced_whole(tmp_path):
    write_atomic(tmp_path / "a" / "x.json", "old")
    write_atomic(tmp_path / "a" / "x.json", "新")
    assert read_text(tmp_path / "a" / "x.json") == "新"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["x.json"]


def test_a_folder_that_fails_half_way_leaves_nothing(tmp_path):
    def fail_half_way() -> None:
        with new_folder(tmp_path / "corpus") as new:
            (new / "train.jsonl").write_text("{}")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_not_written_over(tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(UserError, match="already exists"), new_folder(tmp_path):
        pass
    assert (tmp_path / "kept.txt").read_text() == "mine"


def test_what_a_kill_leaves_of_files_and_folders_is_cleared(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / ".model.x3f").mkdir()
    (tmp_path / ".model.x3f" / "part").write_text("")
    (tmp_path / ".model.safetensors.17.tmp").write_text("")
    (tmp_path / "training.safetensors").write_text("")
    clear_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "training.safetensors"]


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file.*cannot be written: "):
        write_atomic(tmp_path / "file" / "x.json", "text")


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path):
    write_atomic(tmp_path / "x.json", "old")
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, -1))\n"
        "from pathlib import Path; from m3dllm.errors import UserError; from m3dllm.files import write_atomic\n"
        f"try: write_atomic(Path({str(tmp_path / 'x.json')!r}), 'new' * 1000)\n"
        "except UserError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "x.json: cannot be written" in done.stdout, done.stderr
    assert (tmp_path / "x.json").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_byte_order_mark_is_dropped():
    assert decode_text(b"\xef\xbb\xbfAda", None) == "Ada"


def test_a_wrong_byte_is_named_with_its_line(tmp_path):
    (tmp_path / "a.txt").write_bytes("苏珊\n".encode() + b"caf\xe9\n")
    with pytest.raises(UserError, match=r"a\.txt:2: byte 0xe9 is not UTF-8"):
        read_text(tmp_path / "a.txt")


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "", "a\0b", "..\\x"])
def test_a_path_that_leads_out_is_refused(tmp_path, path):
    with pytest.raises(ValueError, match="leads out"):
        inside(tmp_path, path)


@given(st.text(min_size=1))
def test_any_id_becomes_one_safe_name(text):
    name = file_name(text)
    assert 0 < len(name.encode()) <= 255
    assert "/" not in name
    assert not name.startswith(".")


@given(st.lists(st.text(min_size=1), unique=True, min_size=2, max_size=5))
def test_different_ids_become_different_names(ids):
    assert len({file_name(text) for text in ids}) == len(ids)


@pytest.mark.parametrize("text", ["video_57_17", "en-dev-3", "9005.zh"])
def test_an_ordinary_id_stays_as_it_is(text):
    assert file_name(text) == text


def test_numbers_in_names_count_by_their_value():
    names = ["clip-10", "clip-2", "a", "clip-2b", "clip-2-11", "clip-2-9"]
    assert sorted(names, key=natural) == ["a", "clip-2", "clip-2-9", "clip-2-11", "clip-2b", "clip-10"]
