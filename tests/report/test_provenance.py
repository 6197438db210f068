"""Each file of a report says what it was made from, and how to make it again."""

from __future__ import annotations

import csv
import json
import shlex
import shutil

import pytest

from m3dllm.report import write_report
from tests.report.reading import reported


@pytest.fixture(scope="module")
def texts(runs, tmp_path_factory) -> dict[str, str]:
    return reported([runs / "best", runs / "singles0"], tmp_path_factory.mktemp("report"), baseline="singles0")


@pytest.fixture(scope="module")
def records(runs) -> dict[str, dict]:
    return {name: json.loads((runs / name / "run.json").read_text()) for name in ("best", "singles0")}


@pytest.mark.parametrize("name", ["tables/provenance.json", "provenance.json"])
def test_the_provenance_beside_csv_files_is_that_of_the_runs(texts, records, name):
    found = {run["run"]: run for run in json.loads(texts[name])["runs"]}
    assert found.keys() == records.keys()
    for run, record in records.items():
        assert found[run]["commit"] == record["git"]
        assert found[run]["versions"] == record["versions"]
        assert found[run]["sha256"] == record["corpus"]["sha256"]
        assert shlex.split(found[run]["command"] or "") == record["command"]


def test_its_command_makes_the_files_again(texts, runs):
    words = shlex.split(json.loads(texts["tables/provenance.json"])["command"])
    assert words == [
        *("m3dllm", "report", str(runs / "best"), str(runs / "singles0")),
        *("--baseline", "singles0", "--out", "DIR"),
    ]


def test_a_run_that_was_left_out_is_named_in_it(runs, tmp_path):
    texts = reported([runs / "best", tmp_path / "gone"], tmp_path / "out")
    assert [one["run"] for one in json.loads(texts["tables/provenance.json"])["skipped"]] == ["gone"]


def test_a_csv_file_begins_with_its_head(texts):
    tables = {name: text for name, text in texts.items() if name.endswith(".csv")}
    assert tables
    for name, text in tables.items():
        head, *lines = csv.reader(text.splitlines())
        assert all(len(line) == len(head) for line in lines), name
        assert not head[0].startswith("#"), name


def test_a_latex_table_says_commit_versions_data_and_command_in_comments(texts, records):
    record = records["best"]
    for name, text in texts.items():
        if name.endswith(".tex"):
            comments = "\n".join(line for line in text.splitlines() if line.startswith("% "))
            assert f"numpy {record['versions']['numpy']}" in comments
            assert f"test.jsonl {record['corpus']['sha256']['test.jsonl'][:12]}" in comments
            assert str(record["git"] or "of an installed package") in comments
            assert "m3dllm report " in comments


@pytest.mark.slow
def test_a_figure_says_the_command_that_makes_it_again(runs, tmp_path):
    write_report([runs / "best", runs / "singles0"], tmp_path, pages=False, resamples=50)
    for file in (tmp_path / "figures").glob("*.svg"):
        assert "Made by: m3dllm report " in file.read_text()


def test_the_same_runs_elsewhere_differ_in_their_paths_only(runs, tmp_path):
    moved = shutil.copytree(runs / "best", tmp_path / "best")
    here, there = (json.loads(reported([of], tmp_path / "out")["provenance.json"]) for of in (runs / "best", moved))
    assert here["runs"][0] | {"path": ""} == there["runs"][0] | {"path": ""}
