"""Relations with regions, from documents to scores."""

from __future__ import annotations

import pytest

from m3dllm import pipeline, session
from m3dllm.score import Settings, score
from m3dllm.types import Prediction
from tests.holding import CUP, ELSEWHERE, EXAMPLES, LABELS, corpus, said


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("holding") / "corpus")


def test_replayed_gold_is_correct_in_every_pass_and_language(root, tmp_path):
    languages = said(root, EXAMPLES, tmp_path / "right", pairs="both").scores()["languages"]
    found = [
        languages[lang][pairs]["tasks"]["relation"]["f1"]
        for lang in languages
        for pairs in ("end_to_end", "gold_pairs")
    ]
    assert found == [1, 1, 1, 1]


def test_a_relation_with_a_region_elsewhere_is_false(root, tmp_path):
    english = said(root, ELSEWHERE, tmp_path / "wrong").scores()["languages"]["en"]["end_to_end"]["tasks"]
    assert (english["relation"]["p_num"], english["relation"]["p_den"]) == (1, 2)


def test_with_the_chains_every_region_that_has_an_id_is_given_without_its_chain(root, tmp_path, monkeypatch):
    seen, real = [], session.make_system

    def listening(work, *, checkpoint):
        system = real(work, checkpoint=checkpoint)
        predict = system.predict
        system.predict = lambda documents: seen.extend(documents) or predict(documents)
        return system

    monkeypatch.setattr(pipeline, "make_system", listening)
    said(root, EXAMPLES, tmp_path / "run", pairs="gold")
    given = {(d.id, d.given.kind): d.given.regions for d in seen if d.given}
    assert [(r.id, r.type, r.chain) for r in given["en-1", "chains"]] == [("r0", "cup", None), ("r1", "cup", None)]
    assert given["en-1", "chains"][0].box == CUP
    assert given["en-1", "mentions"] == ()


def test_where_the_frames_are_hidden_relations_with_regions_do_not_count():
    predictions = [Prediction(example.document.id, example.gold) for example in EXAMPLES]
    hidden = {example.document.id: "no_video" for example in EXAMPLES}
    found = score(EXAMPLES, predictions, labels=LABELS, subsets=hidden)
    assert found.languages["en"].end_to_end.tasks["relation"].r_den == 1
    everything = score(EXAMPLES, predictions, labels=LABELS, subsets=hidden, settings=Settings(modality="all"))
    assert everything.languages["en"].end_to_end.tasks["relation"].r_den == 2
