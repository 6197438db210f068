"""The files of a page: where they lie, what they may hold, and how large they may be."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest

from m3dllm import viewer as pages
from m3dllm.errors import UserError
from m3dllm.runs import Run
from m3dllm.viewer import write_pages
from m3dllm.viewer.html import json_for_html
from m3dllm.viewer.index import characters_searched


def files(folder) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_documents_share_files_up_to_a_size(runs, page, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "FILE_BYTES", 9_000)
    several = files(write_pages(runs, tmp_path).parent)
    (whole,) = (data for name, data in files(page.parent).items() if name.startswith("documents/"))
    parts = {name: data for name, data in several.items() if name.startswith("documents/")}
    assert len(parts) > 1
    assert b"".join(parts.values()) == whole
    for name, data in parts.items():
        assert data.startswith(b"m3dllm.add(%d," % int(name.removeprefix("documents/").removesuffix(".js")))
        assert len(data) <= 9_000 or data.count(b"\n") == 1


def test_the_more_documents_the_less_of_each_text_is_searched():
    assert [characters_searched(n) for n in (0, 1000, 100_000, 10_000_000)] == [20_000, 20_000, 200, 100]


def test_pictures_that_are_the_same_share_a_thumbnail(page):
    names = list(files(page.parent))
    assert len([name for name in names if name.startswith("thumbs/")]) == 1  # all frames are one picture


def test_the_same_runs_give_the_same_bytes(runs, page, tmp_path):
    assert files(write_pages(runs, tmp_path).parent) == files(page.parent)


def test_one_file_holds_everything(runs, tmp_path):
    write_pages(runs, tmp_path, embed=True)
    assert list(files(tmp_path)) == ["index.html"]
    assert b'id="document-4"' in (tmp_path / "index.html").read_bytes()


def test_one_file_that_would_be_too_large_is_refused(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "EMBED_LIMIT", 1000)
    with pytest.raises(UserError, match=r"index\.html: would be larger than 0 MB with 1 document in it: omit --embed"):
        write_pages(runs, tmp_path, embed=True)
    assert not files(tmp_path)


def test_a_page_lies_in_no_run(runs):
    with pytest.raises(UserError, match="is inside the run"):
        write_pages(runs, runs[0].path / "page")


def test_a_broken_run_is_left_out_by_name(runs, tmp_path, caplog):
    broken = shutil.copytree(runs[1].path, tmp_path / "broken")
    (broken / "predictions.jsonl").unlink()
    write_pages([runs[0], Run(broken)], tmp_path / "out")
    assert "skipped: broken: has no predictions.jsonl" in caplog.text


def test_json_in_the_page_ends_no_script():
    value = {"text": "</script><!--  ", "ok": "<b>&"}
    written = json_for_html(value)
    assert not re.search(rb"[<>\xe2]", written)
    assert json.loads(written) == value


def test_view_prints_the_path_of_the_page(runs, tmp_path):
    command = [sys.executable, "-m", "m3dllm", "view", str(runs[0].path), "--no-gold", "--out", str(tmp_path / "v")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"Open: {(tmp_path / 'v' / 'index.html').as_uri()}\n"


def test_view_of_no_run_is_one_line(tmp_path):
    done = subprocess.run([sys.executable, "-m", "m3dllm", "view", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(r"m3dllm: no run to report: .*has no run\.json: is it a run directory\?\n", done.stderr)
