"""How sure a system is, on the page; and a page, scores and exports of only what is sure enough."""

from __future__ import annotations

import json

import pytest

from m3dllm import pipeline
from m3dllm.errors import UserError
from m3dllm.export import export
from m3dllm.report.terminal import run_table
from m3dllm.score import Settings
from m3dllm.scored import read_run
from m3dllm.types import Annotation, Chain, Mention, Prediction, Region, Relation
from m3dllm.viewer import write_pages
from m3dllm.wire import encode_prediction
from tests.viewer.documents import EXAMPLES, corpus, english, replay

GOLD = english().gold
ADA, BELA, ARLES = GOLD.chains


def sure(mention: Mention, *confidences: float) -> Mention:
    return Mention(mention.start, mention.end, mention.type, *confidences)


SAID = Annotation(
    (
        Chain("ada", (sure(ADA.mentions[0], 0.9), sure(ADA.mentions[1], 0.8, 0.3))),
        Chain("bela", (sure(BELA.mentions[0], 0.4),)),
        Chain("arles", (sure(ARLES.mentions[0], 1.0), sure(ARLES.mentions[1], 1.0, 1.0))),
    ),
    (Relation("ada", "arles", "PER-LOC_birth", 0.75), Relation("ada", "bela", "PER-PER_couple", 0.9)),
    (Region(0, GOLD.regions[0].box, "PER", "ada", 0.5),),
)
"""The gold of en-1, each part more or less sure."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sure")
    root = corpus(folder / "corpus")
    lines = [Prediction(e.document.id, SAID if e.document.id == "en-1" else Annotation()) for e in EXAMPLES]
    return replay(root, [json.loads(encode_prediction(line)) for line in lines], folder / "sure")


@pytest.fixture
def at(run):
    """The run scored at a threshold; as it was afterwards."""

    def scored(threshold):
        pipeline.score(run.path, settings=Settings(threshold=threshold))
        return run

    yield scored
    pipeline.score(run.path)


def test_the_page_dims_what_is_not_sure_and_shows_how_sure_it_is(browser, run, tmp_path):
    browser.open(write_pages([run], tmp_path / "page"))
    pieces = "[...document.querySelectorAll('.text .cell[data-side=sure] .piece')]"
    assert browser.run(f"{pieces}.map((p) => [p.textContent, p.title, Number(getComputedStyle(p).opacity)])") == [
        ["Ada King", "PER, confidence 0.90", 0.94],
        ["Bela", "PER, confidence 0.40", 0.64],
        ["Arles", "LOC, confidence 1.00", 1],
        ["Ada", "PER, confidence 0.80, link 0.30", 0.88],
        ["Arles", "LOC, confidence 1.00, link 1.00", 1],
    ]
    assert browser.texts("main table .sure-value") == [" 0.75", " 0.90"]
    assert browser.texts(".box.s0 .type") == ["PER 1 0.50"]
    gold = (
        "[...document.querySelectorAll('.text .cell[data-side=gold] .piece')].map((p) => getComputedStyle(p).opacity)"
    )
    assert set(browser.run(gold)) == {"1"}


def test_a_page_of_what_is_sure_enough_lacks_the_rest(browser, run, tmp_path):
    browser.open(write_pages([run], tmp_path / "page", threshold=0.6))
    tags = browser.texts('.text .tag[data-side="sure"]')
    assert [tag for tag in tags if not tag.startswith("−")] == ["1", "3", "4", "3"]
    assert browser.texts("main table .sure-value") == [" 0.75"]


def test_scores_at_a_threshold_are_those_of_what_is_left(at):
    before = {name: score.f1 for name, score in read_run(at(0).path).scores.languages["en"].end_to_end.tasks.items()}
    found = at(0.6).scores()["languages"]["en"]["end_to_end"]["tasks"]
    assert (found["entity"]["p_den"], found["entity"]["p_num"], found["entity"]["r_den"]) == (4, 4, 5)
    assert (found["relation"]["p_den"], found["relation"]["r_den"]) == (1, 2)
    assert found["grounding"]["p_den"] == 0
    assert found["chain"]["f1"] < before["chain"] == 1


def test_a_run_scored_at_a_threshold_says_so_and_is_read_so(at):
    run = at(0.6)
    assert "confidence at least 0.6" in run_table(run)
    found = read_run(run.path)
    (of,) = (p for p in found.predictions if p.document == "en-1" and p.given is None)
    assert len(of.annotation.relations) == 1
    assert found.of("en").errors["end_to_end"]["entity"].predictions == 4


def test_a_threshold_without_any_confidence_is_refused(tmp_path):
    root = corpus(tmp_path / "corpus")
    run = replay(root, root / "test.jsonl", tmp_path / "run")
    with pytest.raises(UserError, match="no prediction has a confidence"):
        pipeline.score(run.path, settings=Settings(threshold=0.5))
    with pytest.raises(UserError, match="no prediction has a confidence"):
        export("csv", run.path, tmp_path / "out", threshold=0.5)
    with pytest.raises(UserError, match="no prediction has a confidence"):
        write_pages([run], tmp_path / "page", threshold=0.5)


def test_an_export_of_what_is_sure_enough_lacks_the_rest(run, tmp_path):
    export("csv", run.path, tmp_path / "out", threshold=0.6)
    assert len((tmp_path / "out" / "mentions.csv").read_text().splitlines()) == 1 + 4
