"""What a test reads of a report, and how it changes a run."""

from __future__ import annotations

import csv
import json
import re
from fractions import Fraction
from pathlib import Path

from m3dllm.files import sha256_file
from m3dllm.report import write_report

MADE: dict[object, dict[str, str]] = {}


def reported(paths, out: Path, *, fresh: bool = False, **more) -> dict[str, str]:
    """The text files of the report, by name; the rows behind it by their sheet. Made once, unless `fresh`."""
    key = tuple(map(str, paths)), tuple(more.items())
    if fresh or key not in MADE:
        page = write_report(paths, out, resamples=200, **({"pages": False, "figures": False} | more))
        assert page == out / "report.html"
        files = [file for file in out.rglob("*") if file.suffix in (".md", ".html", ".csv", ".tex", ".svg", ".json")]
        MADE[key] = {file.relative_to(out).as_posix().removeprefix("data/"): file.read_text() for file in files}
    return MADE[key]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def section(text: str, head: str) -> str:
    """The part of the report under a heading, to the next one of its level or above."""
    level = len(head) - len(head.lstrip("#"))
    found = re.search(rf"^{re.escape(head)}\n(.*?)(?=^#{{1,{level}}} |\Z)", text, flags=re.M | re.S)
    assert found, head
    return found[1]


def table_rows(text: str, first: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith(f"| {first} |")
    ]


def main_table(texts: dict[str, str], name: str) -> dict[str, dict[str, str]]:
    """The rows of a main table by their system."""
    return {row["system"]: row for row in rows(texts[f"tables/corpus-test-{name}-scores.csv"])}


def change(run: Path, lang: str, pairs: str, task: str, share: float) -> None:
    """Let the run have found only a share of the task's gold, as its files say: predictions are not looked at again."""
    lines = [json.loads(line) for line in (run / "per_document.jsonl").read_text().splitlines()]
    sums = [Fraction(0)] * 4
    for row in lines:
        if (row["lang"], row["pairs"]) == (lang, pairs) and task in row["tasks"]:
            counts = row["tasks"][task]
            p_num, p_den, r_num, r_den = (counts[key] for key in ("p_num", "p_den", "r_num", "r_den"))
            counts |= {"p_num": p_num * share, "p_den": p_den * share, "r_num": r_num * share}
            sums = [
                a + Fraction(b) for a, b in zip(sums, (p_num * share, p_den * share, r_num * share, r_den), strict=True)
            ]
    scores = json.loads((run / "scores.json").read_text())
    p_num, p_den, r_num, r_den = map(float, sums)
    counts = {"p_num": p_num, "p_den": p_den, "r_num": r_num, "r_den": r_den}
    p, r = p_num / p_den, r_num / r_den
    ratios = {"precision": p, "recall": r, "f1": 2 * p * r / (p + r)}
    scores["languages"][lang][pairs]["tasks"][task] = ratios | counts
    (run / "per_document.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    (run / "scores.json").write_text(json.dumps(scores))
    summary = json.loads((run / "summary.json").read_text())
    summary["made_of"] |= {name: sha256_file(run / name) for name in ("per_document.jsonl", "scores.json")}
    (run / "summary.json").write_text(json.dumps(summary))


def edit(run: Path, name: str, **changes) -> None:
    value = json.loads((run / name).read_text())
    (run / name).write_text(json.dumps(value | changes))
