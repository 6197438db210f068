"""The pages of the documentation: generated ones are current, examples are read, every issue has its cure."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from m3dllm.corpora.check import check
from m3dllm.normalize import CODES, normalize
from m3dllm.types import RawOutput
from m3dllm.wire import decode_example, decode_labels, decode_prediction

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
FILES = (REFERENCE / "files.md").read_text(encoding="utf-8")
LABELS, LINE, ANSWER, PREDICTION = re.findall(r"```json\n(.*?)```", FILES, flags=re.DOTALL)


@pytest.mark.parametrize("page", ["commands", "systems"])
def test_the_generated_pages_are_those_of_the_program(page):
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs/make_reference.py")
    make_reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_reference)
    made = getattr(make_reference, page)()
    assert made == (REFERENCE / f"{page}.md").read_text(encoding="utf-8"), "run: python docs/make_reference.py"


def test_every_issue_has_its_cause_and_cure():
    page = (REFERENCE / "issues.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \| \S.* \| \S.* \|$", page, flags=re.MULTILINE) == list(CODES)


def test_the_example_of_a_corpus_has_no_problem(tmp_path):
    from PIL import Image

    (tmp_path / "frames/film-1").mkdir(parents=True)
    Image.new("RGB", (640, 360)).save(tmp_path / "frames/film-1/24.jpg")
    (tmp_path / "labels.json").write_text(LABELS, encoding="utf-8")
    (tmp_path / "train.jsonl").write_text(json.dumps(json.loads(LINE)), encoding="utf-8")
    assert check(tmp_path).problems == []


def test_the_example_of_an_answer_is_the_gold_of_the_example():
    example = decode_example(LINE)
    prediction = normalize(example.document, RawOutput("film-1", payload=ANSWER), decode_labels(LABELS))
    assert (prediction.annotation, prediction.issues) == (example.gold, ())


def test_the_example_of_a_prediction_is_one():
    assert decode_prediction(PREDICTION).issues[0].code == "text_not_found"


def test_the_chinese_readme_has_the_same_sections_and_code():
    def parts(name: str) -> list[str]:
        text = (ROOT / name).read_text(encoding="utf-8")
        blocks = re.findall(r"^```.*?^```", text, flags=re.DOTALL | re.MULTILINE)
        lines = [line.split(" # ")[0].rstrip() for block in blocks for line in block.splitlines()]
        return [*lines, f"{len(re.findall('^## ', text, flags=re.MULTILINE))} sections"]

    assert parts("README.zh.md") == parts("README.md")


@pytest.mark.parametrize(
    ("chinese", "english"),
    [("tutorial", "tutorial"), ("report", "how-to/report"), ("import", "how-to/annotations")],
)
def test_a_chinese_page_has_the_commands_of_the_english_one(chinese, english):
    """Which are tested there."""

    def shown(page: str) -> list[str]:
        text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
        return re.findall(r"^m3dllm .*$", text, flags=re.MULTILINE)

    assert shown(f"zh/{chinese}") == shown(english)
