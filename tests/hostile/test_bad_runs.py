"""One bad run in a report is skipped by name, whatever is broken in it; names from outside break no page or table."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from m3dllm import pipeline
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment
from m3dllm.report import write_report
from m3dllm.runs import Run
from m3dllm.viewer import write_pages
from tests.small import small_corpus


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    here = tmp_path_factory.mktemp("runs")
    corpus = small_corpus(here / "corpus")
    for name in ("good", "bad"):
        options = {"chain_rule": "same_text" if name == "good" else "singletons"}
        pipeline.run(Experiment(system="majority", corpus=corpus, out=here / name, options=options))
    return here / "good", here / "bad"


def in_json(name: str, change: Callable[[dict], None]) -> Callable[[Path], None]:
    """Changes a JSON file of a run, or the first line of a JSON Lines file."""

    def damage(run: Path) -> None:
        first, *rest = (run / name).read_text().split("\n") if name.endswith("l") else [(run / name).read_text()]
        value = json.loads(first)
        change(value)
        (run / name).write_text("\n".join([json.dumps(value), *rest]))

    return damage


def put(name: str, text: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_text(text) and None


def put_bytes(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes(data) and None


def make_folder(name: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    return damage


def make_pipe(name: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (run / name).unlink()
        os.mkfifo(run / name)

    return damage


def without_gold(run: Path) -> None:
    """Documents of which the scores say something else."""
    rows = [json.loads(line) for line in (run / "documents.jsonl").read_text().splitlines()]
    gold = {"chains": [], "relations": [], "regions": []}
    (run / "documents.jsonl").write_text("".join(json.dumps(row | {"gold": gold}) + "\n" for row in rows))


def without_answers(run: Path) -> None:
    """Predictions of which the scores say something else."""
    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    nothing = {"chains": [], "relations": [], "regions": []}
    (run / "predictions.jsonl").write_text("".join(json.dumps(row | {"annotation": nothing}) + "\n" for row in rows))


FILES = ("run.json", "documents.jsonl", "raw.jsonl", "predictions.jsonl", "scores.json", "per_document.jsonl")
DEEP = "[" * 100_000
HUGE = 10**400
FAR_OUT = [{"id": "c", "mentions": [{"start": 0, "end": HUGE, "type": "PER"}]}]
DAMAGES = {
    **{f"{name} is a folder": make_folder(name) for name in FILES},
    **{f"{name} is a pipe": make_pipe(name) for name in FILES if name != "raw.jsonl"},
    **{f"{name} is empty": put(name, "") for name in FILES if name != "raw.jsonl"},
    **{f"{name} is deep": put(name, DEEP + "\n") for name in FILES},
    **{f"{name} has half a character": put(name, '"\\ud800"\n') for name in FILES},
    **{
        f"{name} is no UTF-8": lambda run, name=name: (run / name).write_bytes(b"\xff\xfe\x00{}\n") and None
        for name in FILES
    },
    "seconds of a step 1e300": in_json("run.json", lambda row: row["seconds"].update(predict=1e300)),
    "seconds of a step -1": in_json("run.json", lambda row: row["seconds"].update(predict=-1)),
    "seconds of a step huge": in_json("run.json", lambda row: row["seconds"].update(predict=HUGE)),
    "memory 1e300": in_json("run.json", lambda row: row["memory_mb"].update(predict=1e300)),
    "tally 1e300": in_json("run.json", lambda row: row.update(tally={"gpu_memory_mb": 1e300})),
    "seconds of an answer 1e300": in_json("raw.jsonl", lambda row: row.update(seconds=1e300)),
    "tokens of an answer huge": in_json("raw.jsonl", lambda row: row.update(tokens_in=HUGE)),
    "tokens of an answer negative": in_json("raw.jsonl", lambda row: row.update(tokens_in=-5)),
    "seconds of a turn 1e300": in_json(
        "raw.jsonl", lambda row: row.update(turns=[{"stage": "a", "seconds": 1e300, "tokens_out": 1}])
    ),
    "a count 1e308": in_json("per_document.jsonl", lambda row: row["tasks"]["entity"].update(p_num=1e308, p_den=1e308)),
    "a count huge": in_json("per_document.jsonl", lambda row: row["tasks"]["entity"].update(p_num=HUGE)),
    "a mention far out": in_json(
        "predictions.jsonl",
        lambda row: row["annotation"].update(
            chains=[{"id": "c", "mentions": [{"start": 0, "end": HUGE, "type": "PER"}]}]
        ),
    ),
    "a system without a name": in_json("run.json", lambda row: row.update(system="")),
    "scores of other documents": without_gold,
    "scores of other predictions": without_answers,
    "half a character in a type": put(
        "predictions.jsonl",
        '{"document":"test-0","annotation":{"chains":[],"relations":[],'
        '"regions":[{"frame":0,"box":[null,0,1,1],"type":"\\ud800","chain":null}]}}\n',
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_run_with_anything_broken_in_it_is_left_out_by_name(damage, runs, tmp_path):
    good, whole = runs
    bad = shutil.copytree(whole, tmp_path / "bad")
    damage(bad)
    write_report([good, bad], tmp_path / "report", figures=False, pages=False)
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert "Skipped runs" in page
    assert re.search(r"<dt[^>]*>bad</dt>|<b>bad</b>|>bad<", page)
    assert len(page) < 1_000_000
    write_pages([Run(good), Run(bad)], tmp_path / "view")
    with pytest.raises(UserError, match="no run to report: bad: "):
        write_report([bad], tmp_path / "alone", figures=False, pages=False)


def test_a_whole_run_is_not_left_out(runs, tmp_path):
    write_report(list(runs), tmp_path, figures=False, pages=False)
    assert "Skipped runs" not in (tmp_path / "report.html").read_text(encoding="utf-8")


# --- names from outside -----------------------------------------------------------------------------------------------

NAME = "=1+1\x1b[31m\x07\x0b\x0c\u202e\x7f<script>alert(1)</script>\"'&\\end{tabular}%"


@pytest.fixture(scope="module")
def hostile(runs, tmp_path_factory) -> Path:
    """A report of a run whose corpus and split have names that would do something in every form."""
    here = tmp_path_factory.mktemp("hostile")
    copies = [shutil.copytree(run, here / name) for run, name in zip(runs, ("=cmd|x", "-b\x1b[1m"), strict=True)]
    for run in copies:
        in_json("run.json", lambda row: row["corpus"].update(name=NAME))(run)
        in_json("run.json", lambda row: row.update(summary=NAME, notes=[NAME], device=NAME, command=["=", NAME]))(run)
    write_report(copies, here / "report")
    return here / "report"


def test_figures_are_xml_whatever_the_names_are(hostile):
    figures = list(hostile.glob("figures/*.svg"))
    assert figures
    for figure in figures:
        ElementTree.fromstring(figure.read_text(encoding="utf-8"))


def test_tables_have_no_control_characters_and_no_command_of_a_name(hostile):
    for table in hostile.glob("tables/*.tex"):
        text = table.read_text(encoding="utf-8")
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", text)
        body = "\n".join(line for line in text.split("\n") if not line.startswith("%"))
        assert body.count(r"\end{tabular}") == 1


def test_cells_of_csv_files_are_no_formulas(hostile):
    import csv

    files = [*hostile.glob("tables/*.csv"), *hostile.glob("data/*.csv")]
    assert files
    cells = [
        cell
        for file in files
        for row in csv.reader(file.read_text(encoding="utf-8").splitlines())
        for cell in row
        if not re.fullmatch(r"-?[0-9.e+-]+", cell)
    ]
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r")]
    assert any("=1+1" in cell for cell in cells)


def test_the_page_runs_its_own_program_only(hostile):
    page = (hostile / "report.html").read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts}
    assert len(scripts) == 1
    assert set(rules["script-src"].split()) == hashes
    assert rules["default-src"] == "'none'"
    assert not re.search(r"<[^>]+\son\w+\s*=", page)
    assert "javascript:" not in page
