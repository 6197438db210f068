"""Texts that try to be something else: whatever a document or a model says is shown as text."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.runs import Run
from m3dllm.types import Annotation, Chain, Document, Example, Mention, Relation
from m3dllm.viewer import write_pages
from tests.viewer.documents import corpus, replay

TAG = "<img src=x onerror=alert(1)>"
SCRIPT = "</script><script>window.owned = true</script><!--"
CONTROLS = "a\x00b\x1b[31mc\u202ed\u2028e\u2029f\ufeffg"
LONG = 1_000_000
TYPES = (TAG, "__proto__", "constructor", "$data ${1}")


def hostile() -> Example:
    """A document whose every string is an attack, with relations of every type."""
    text = f"{SCRIPT} {TAG} {CONTROLS} 😀 end"
    at = text.index(TAG)
    end = len(text)
    chains = [Chain("<b>", (Mention(0, len(SCRIPT), TYPES[1]),)), Chain("__proto__", (Mention(at, at + 4, TYPES[0]),))]
    chains += [Chain("constructor", (Mention(end - 5, end - 4, TYPES[2]), Mention(end - 3, end, TYPES[2])))]
    relations = [Relation("<b>", "__proto__", kind) for kind in TYPES]
    document = Document("x<id>&'y", "en", text, f"{TAG}{SCRIPT}", "<group>")
    return Example(document, Annotation(tuple(chains), tuple(relations)))


def million() -> Example:
    text = "x" * 30 + " <i>word</i> 字\u0301" * (LONG // 15)
    return Example(Document("long", "en", text), Annotation((Chain("c", (Mention(31, 42, TAG),)),)))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A system that answers with markup, and once with a million characters."""
    folder = tmp_path_factory.mktemp("hostile")
    relations = tuple(RelationLabel(name, SCRIPT) for name in TYPES)
    labels = LabelSet(tuple(Label(name, TAG) for name in TYPES), relations, (Label(TAG),))
    root = corpus(folder / "corpus", (hostile(), million()), labels)
    lines: list[dict[str, Any]] = [
        {"format": 1, "document": hostile().document.id, "given": None, "payload": f"{SCRIPT}{TAG}{CONTROLS}"},
        {"format": 1, "document": "long", "given": None, "payload": SCRIPT * (LONG // len(SCRIPT))},
    ]
    return replay(root, lines, folder / "<b>run")


@pytest.fixture(scope="module", params=[False, True], ids=["folder", "one file"])
def page(request, run, tmp_path_factory) -> Path:
    return write_pages([run], tmp_path_factory.mktemp("page"), embed=request.param)


def harmless(browser) -> bool:
    """Nothing ran, and nothing became an element of what was text."""
    made = "main img:not([loading]), main i:not([class]), main script, main b > b"
    script = """!window.owned && !document.querySelector(arguments[0])
        && document.querySelectorAll("script:not([type]):not([src])").length === 1"""
    return bool(browser.run(script, made))


def test_a_hostile_document_is_shown_as_text(browser, page):
    browser.open(page, document=hostile().document.id)
    assert harmless(browser)
    text = "".join(browser.texts('.text .cell[data-side="gold"]'))
    assert "<img2 src=x onerror=alert(1)>" in text  # the number of the mention that ends there
    assert SCRIPT in text
    assert "a\u2400b\u241b[31mc\ufffdd" in text
    assert browser.texts("main h1")[0].startswith(TAG)
    assert {TAG, "__proto__", "constructor"} <= set(browser.texts("main tr[data-r] .link"))


def test_a_hostile_answer_is_shown_as_text(browser, page):
    browser.open(page, document=hostile().document.id)
    browser.click(".answer")
    assert browser.texts("#dialog pre")[0].startswith(f"{SCRIPT}{TAG}a\u2400b")
    assert harmless(browser)


def test_offsets_are_code_points(browser, page):
    browser.open(page, document=hostile().document.id, select=3)
    assert browser.texts('.text .cell[data-side="gold"] .piece.lit') == ["😀", "end"]


def test_a_million_characters_are_shown_a_step_at_a_time(browser, page):
    browser.open(page, document="long")
    shown = browser.run("document.querySelector('.text').textContent.length")
    assert 20_000 < shown < 200_000
    browser.click(".text .more")
    assert browser.run("document.querySelector('.text').textContent.length") > shown
    browser.click(".answer")
    assert browser.run("document.querySelector('#dialog pre').textContent.length") < 30_000
    assert harmless(browser)


def test_an_id_never_becomes_a_path(run, tmp_path):
    copy = tmp_path / "a" / "run"
    shutil.copytree(run.path, copy)
    for file in copy.glob("*.jsonl"):
        file.write_bytes(file.read_bytes().replace(hostile().document.id.encode(), b"../../../outside"))
    write_pages([Run(copy)], tmp_path / "b" / "page")
    assert all(re.fullmatch(r"[0-9]{5}\.js", p.name) for p in (tmp_path / "b" / "page" / "documents").iterdir())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["page"]


def test_the_policy_lets_no_other_script_run(browser, page):
    browser.open(page)
    browser.run("""(() => {
        const made = document.createElement("div");
        made.innerHTML = "<img src=x onerror='window.owned = true'>";
        document.body.append(made);
        return true;
    })()""")
    browser.run("new Promise((done) => setTimeout(done, 200))")
    assert not browser.run("window.owned")
    assert any("Content Security Policy" in message for message in browser.errors())
