"""What killed processes and former commands leave: cleared by the next command on that place, and nothing else is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from m3dllm import pipeline
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.native import write_corpus
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment
from m3dllm.files import clear_abandoned, new_folder
from m3dllm.report import write_report
from m3dllm.runs import Run
from m3dllm.viewer import write_pages
from tests.small import LABELS, example, png, small_corpus


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    here = tmp_path_factory.mktemp("run")
    corpus = small_corpus(here / "corpus")
    return pipeline.run(Experiment(system="majority", corpus=corpus, out=here / "run")).path


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob(".*") if path.name != ".lock"}


def test_the_leftovers_of_the_dead_go_and_all_else_stays(dead, tmp_path):
    for name in (f".x.json.{dead}.tmp", f".{'a' * 64}.jpg.{dead}.139872.tmp"):
        (tmp_path / name).write_text("half")
    for name in (f".c.{dead}.abcdefgh", ".c.a1b2_c3d"):
        (tmp_path / name / "frames").mkdir(parents=True)
    kept = {f".x.json.{os.getppid()}.tmp", ".hidden", ".vimrc.swp", ".config.settings", ".note.txt", "x.json"}
    for name in kept - {".config.settings"}:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".config.settings").mkdir()
    clear_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_only_the_leftovers_of_one_name_go_where_one_is_named(dead, tmp_path):
    for name in (f".c.{dead}.abcdefgh", f".other.{dead}.abcdefgh"):
        (tmp_path / name).mkdir()
    with new_folder(tmp_path / "c") as new:
        (new / "x").write_text("x")
    assert {path.name for path in tmp_path.iterdir()} == {"c", f".other.{dead}.abcdefgh"}


def test_every_verb_on_a_run_clears_what_a_killed_one_left_in_it(dead, run):
    for verb in (pipeline.normalize, pipeline.score):
        (run / f".scores.json.{dead}.tmp").write_text("half")
        verb(run)
        assert not left(run)


def test_reports_and_pages_clear_what_killed_ones_left(dead, run, tmp_path):
    for folder in ("", "tables", "figures", "data"):
        (tmp_path / "report" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "report" / folder / f".x.{dead}.tmp").write_text("half")
    write_report([run], tmp_path / "report", figures=False)
    assert not left(tmp_path / "report")
    (tmp_path / "view/documents").mkdir(parents=True)
    (tmp_path / f"view/documents/.00001-a.js.{dead}.tmp").write_text("half")
    write_pages([Run(run)], tmp_path / "view")
    assert not left(tmp_path / "view")


def test_an_import_that_was_killed_after_its_last_step_is_found_finished(tmp_path):
    def imported() -> Imported:
        one = example("a", "[PER0 Ada] wrote .", frames=1)
        return Imported(LABELS, {"dev": [one]}, {one.document.frames[0].path: png()})

    write_corpus(tmp_path / "c", imported())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*")}
    write_corpus(tmp_path / "c", imported())
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*")} == before
    for change in (lambda c: (c / "mine.txt").write_text("mine"), lambda c: (c / "frames/a/0.png").write_bytes(png(8))):
        change(tmp_path / "c")
        with pytest.raises(UserError, match="already exists"):
            write_corpus(tmp_path / "c", imported())
        (tmp_path / "c/mine.txt").unlink(missing_ok=True)


# --- pages of former runs ---------------------------------------------------------------------------------------------


def test_a_page_without_gold_in_a_used_folder_leaves_no_gold(run, tmp_path):
    write_pages([Run(run)], tmp_path / "used")
    (tmp_path / "used/mine.txt").write_text("mine")
    write_pages([Run(run)], tmp_path / "fresh", gold=False)
    write_pages([Run(run)], tmp_path / "used", gold=False)
    (tmp_path / "used/mine.txt").unlink()
    files = {p.relative_to(tmp_path / "fresh"): p.read_bytes() for p in (tmp_path / "fresh").rglob("*") if p.is_file()}
    used = {p.relative_to(tmp_path / "used"): p.read_bytes() for p in (tmp_path / "used").rglob("*") if p.is_file()}
    assert used == files


def test_a_page_of_one_file_in_a_used_folder_leaves_no_other(run, tmp_path):
    write_pages([Run(run)], tmp_path)
    write_pages([Run(run)], tmp_path, embed=True)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["index.html"]


def test_a_report_without_pages_leaves_none_of_a_former_one(run, tmp_path):
    write_report([run], tmp_path, figures=False, pages=True)
    assert list(tmp_path.glob("documents/*"))
    write_report([run], tmp_path, figures=False, pages=False)
    assert not [path for path in (tmp_path / "documents").rglob("*") if path.is_file()]
