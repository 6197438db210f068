"""Runs that a report leaves out, and says so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from m3dllm import pipeline
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment
from m3dllm.report import write_report
from m3dllm.scored import read_run
from tests.report.reading import edit, reported, rows, table_rows
from tests.small import small_corpus


def left_out(paths, out: Path) -> dict[str, str]:
    return {row["run"]: row["why"] for row in rows(reported(paths, out)["skipped.csv"])}


@pytest.mark.parametrize("status", ["running", "incomplete"])
def test_an_unfinished_run_is_named_and_left_out(runs, copied, tmp_path, status):
    edit(copied, "run.json", status=status)
    text = reported([runs / "best", copied], tmp_path / "out")["report.md"]
    assert f"- broken: is {status}: run its command again to finish it" in text
    assert not table_rows(text, "broken")


@pytest.mark.parametrize(
    "name", ["run.json", "documents.jsonl", "predictions.jsonl", "scores.json", "per_document.jsonl"]
)
def test_a_run_without_one_of_its_files_is_named_and_left_out(runs, copied, tmp_path, name):
    (copied / name).unlink()
    assert f"has no {name}" in left_out([runs / "best", copied], tmp_path / "out")["broken"]


@pytest.mark.parametrize("name", ["run.json", "scores.json"])
def test_a_run_of_another_format_is_named_and_left_out(runs, copied, tmp_path, name):
    edit(copied, name, format=0)
    assert "is format 0" in left_out([runs / "best", copied], tmp_path / "out")["broken"]


def test_scores_that_the_documents_do_not_add_up_to_are_left_out(runs, copied, tmp_path):
    lines = (copied / "per_document.jsonl").read_text().splitlines()
    row = json.loads(lines[0])
    row["tasks"]["entity"]["p_num"] += 1
    (copied / "per_document.jsonl").write_text("\n".join([json.dumps(row), *lines[1:]]) + "\n")
    why = left_out([runs / "best", copied], tmp_path / "out")["broken"]
    assert re.match(r"scores\.json: does not agree with per_document\.jsonl in entity", why)


def test_scores_of_other_documents_are_left_out(runs, copied, tmp_path):
    lines = (copied / "per_document.jsonl").read_text().splitlines()
    name = json.loads(lines[0])["document"]
    kept = [line for line in lines if json.loads(line)["document"] != name]
    (copied / "per_document.jsonl").write_text("\n".join(kept))
    assert f"lacks document '{name}'" in left_out([runs / "best", copied], tmp_path / "out")["broken"]


def test_a_folder_that_is_no_run_is_named(runs, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "has no run.json" in left_out([runs / "best", tmp_path / "empty"], tmp_path / "out")["empty"]
    assert "does not exist" in left_out([runs / "best", tmp_path / "gone"], tmp_path / "out")["gone"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["run.json", "documents.jsonl", "predictions.jsonl", "scores.json", "per_document.jsonl"]
)
def test_a_run_cut_off_anywhere_is_read_or_refused_in_one_line(copied, name):
    whole = (copied / name).read_bytes()
    for k in range(40):
        (copied / name).write_bytes(whole[: len(whole) * k // 40])
        _, why = read_or_refuse(copied)
        assert "\n" not in why


def read_or_refuse(run: Path) -> tuple[bool, str]:
    try:
        return bool(read_run(run)), ""
    except UserError as error:
        return False, str(error)


def test_no_run_to_report_is_an_error_that_says_why(copied, tmp_path):
    (copied / "scores.json").write_text("{")
    with pytest.raises(UserError, match=r"no run to report: broken: scores\.json: not valid JSON"):
        write_report([copied], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_run_at_all_is_an_error(tmp_path):
    with pytest.raises(UserError, match="name at least one run directory"):
        write_report([], tmp_path / "out")


def test_a_report_is_not_written_into_a_run(copied):
    with pytest.raises(UserError, match="which a report must not change"):
        write_report([copied], copied / "report")
    assert not (copied / "report").exists()


def test_a_run_in_which_nothing_can_be_scored_has_a_report(tmp_path):
    corpus = small_corpus(tmp_path / "corpus")
    empty = {"id": "empty", "lang": "en", "text": "", "gold": {"chains": [], "relations": [], "regions": []}}
    (corpus / "test.jsonl").write_text(json.dumps(empty) + "\n", encoding="utf-8")
    done = pipeline.run(Experiment(system="majority", corpus=str(corpus), out=str(tmp_path / "run")))
    write_report(done.path, tmp_path / "report")
    text = (tmp_path / "report/report.txt").read_text(encoding="utf-8")
    assert text == "corpus, test, English · end to end\nnothing to score in these documents\n"
