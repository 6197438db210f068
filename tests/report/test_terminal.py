"""The four-task table at the end of a run."""

from __future__ import annotations

import pytest

from m3dllm import pipeline
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment
from m3dllm.report import run_table, table
from m3dllm.runs import Run
from m3dllm.score import Settings, score
from m3dllm.score.heuristics import heuristic_baselines
from m3dllm.types import Annotation, Prediction
from tests.small import LABELS, example, small_corpus

GOLD = example("d", "[PER0 Ada] , [PER0 Ada] , [LOC1 Arles]", relations=[("c0", "c1", "PER-LOC_birth")], frames=1)


def test_the_table_shows_ratios_counts_average_and_heuristics():
    scores = score([GOLD], [Prediction("d", Annotation(GOLD.gold.chains[:1]))], labels=LABELS)
    beside = {("en", "end_to_end"): heuristic_baselines([GOLD], LABELS)}
    assert table(scores, beside).splitlines() == [
        "en · 1 document · end to end · modality available",
        "                P       R      F1  correct  predicted  gold",
        "entity     100.00   66.67   80.00        2          2     3",
        "chain      100.00   72.22   82.22",
        "  muc      100.00  100.00  100.00        1          1     1",
        "  b3       100.00   66.67   80.00        2          2     3",
        "  ceaf_e   100.00   50.00   66.67        1          1     2",
        "  ceaf_m   100.00   66.67   80.00        2          2     3",
        "  mean_m   100.00   77.78   86.67",
        "relation     0.00    0.00    0.00        0          0     1",
        "grounding    0.00    0.00    0.00        0          0     1",
        "average F1 40.56 (entity, chain, relation, grounding)",
        "heuristic baselines (F1, over predicted mentions and chains; frequencies of these documents):",
        "  chain: all singletons 48.89, same text 100.00, same last word 100.00",
        "  relation: most frequent type of each type pair 100.00",
        "  relation.undirected: most frequent type of each type pair 100.00",
        "  grounding: most frequent box 100.00",
    ]


def test_the_object_of_scores_json_will_do():
    scores = score([GOLD], [Prediction("d", GOLD.gold)])
    assert table(scores.to_wire()) == table(scores)


def test_what_is_absent_is_a_dash():
    empty = score([example("d", "nothing")], [Prediction("d", Annotation())])
    assert "entity     –  –   –        0          0     0" in table(empty)
    assert "average F1 – (of nothing)" in table(empty)


def test_unanswered_documents_are_named():
    assert "not answered: 1 (scored as empty)" in table(score([GOLD], []))


def test_both_protocols_are_shown_where_both_were_run():
    predictions = [Prediction("d", GOLD.gold, kind) for kind in (None, "mentions", "chains")]
    heads = [line for line in table(score([GOLD], predictions)).splitlines() if " · " in line]
    assert heads == [
        "en · 1 document · end to end · modality available",
        "en · 1 document · gold mentions and chains · modality available",
    ]


def test_variants_stand_under_their_task():
    shown = table(score([GOLD], [Prediction("d", GOLD.gold)], settings=Settings(variants=("undirected", "triple"))))
    assert "\n  undirected" in shown
    assert "\n  triple" in shown


def test_a_run_shows_its_heuristics_and_issues(tmp_path):
    run = pipeline.run(
        Experiment(
            system="majority",
            corpus=small_corpus(tmp_path / "corpus"),
            pairs="both",
            missing="text",
            out=tmp_path / "run",
        )
    )
    shown = run_table(run)
    assert (
        shown.count("heuristic baselines (F1, over predicted mentions and chains; frequencies of these documents):")
        == 2
    )
    assert shown.count("heuristic baselines (F1, over gold mentions and chains; frequencies of these documents):") == 2
    assert "issues (en): empty_document 3" in shown


def test_a_run_that_is_not_scored_says_how_to_score_it(tmp_path):
    run = pipeline.run(Experiment(system="majority", corpus=small_corpus(tmp_path / "corpus"), out=tmp_path / "run"))
    (run.path / "scores.json").unlink()
    with pytest.raises(UserError, match=r"has no scores\.json: make it with 'm3dllm score"):
        run_table(Run(run.path))


def test_a_system_that_saw_some_of_the_annotated_frames_is_marked():
    one = example("d", "[PER0 Ada] .", frames=4)
    said = table(score([one], [Prediction("d", one.gold, frames=(24, 72))], labels=LABELS))
    assert "grounding saw 2 of 4 annotated frames (50.00 %); regions in the others count as missed" in said
