"""Which prediction is scored for which task, on which documents."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from m3dllm.corpora.m3d import read_m3d
from m3dllm.errors import UserError
from m3dllm.score import Ratio, Scores, Settings, TaskScores, count_errors, score, variants
from m3dllm.score.corpus import Answers, Golds
from m3dllm.types import PRF, Annotation, Box, Document, Example, Frame, Prediction, Region
from tests.score.letters import region, said
from tests.strategies import LABELS, scored

TEXT = "x" * 200
BOX = (0.0, 0.0, 1.0, 1.0)
GOLD = said("ab c", [("ab", "c", "r")], [region(0, *BOX)])


def example(name: str = "d", *, lang: str = "en", gold: Annotation = GOLD, text: str = TEXT, frames: int = 1):
    stills = tuple(Frame(24 * i, f"{i}.jpg", 64, 48, annotated=True) for i in range(frames))
    return Example(Document(name, lang, text, frames=stills), gold)


def f1(scores: TaskScores) -> dict[str, float | None]:
    return {name: score.f1 for name, score in scores.tasks.items()}


def test_gold_against_itself_is_one_in_every_task():
    found = score([example()], [Prediction("d", GOLD)]).languages["en"].end_to_end
    assert f1(found) == {
        "entity": 1,
        "chain": 1,
        "chain.muc": 1,
        "chain.b3": 1,
        "chain.ceaf_e": 1,
        "chain.ceaf_m": 1,
        "chain.mean_m": 1,
        "relation": 1,
        "grounding": 1,
    }
    assert found.average_f1 == 1
    assert found.average_of == ("entity", "chain", "relation", "grounding")


def test_the_chain_score_is_the_mean_of_three():
    # gold {ab}{c}, pred {a}{bc}: MUC 0; B3 P = R = (1 + 1/2 + 1/2) / 3; CEAF-e (2/3 + 2/3) / 2; CEAF-m 2/3.
    found = score([example()], [Prediction("d", said("a bc"))]).languages["en"].end_to_end.tasks
    assert [found[f"chain.{name}"].f1 for name in ("muc", "b3", "ceaf_e", "ceaf_m")] == [0, 2 / 3, 2 / 3, 2 / 3]
    assert found["chain"].f1 == pytest.approx(4 / 9, abs=1e-12)
    assert found["chain.mean_m"].f1 == pytest.approx(4 / 9, abs=1e-12)


def test_precision_and_recall_of_a_chain_score_are_means_too():
    found = score([example()], [Prediction("d", said("ab"))]).languages["en"].end_to_end.tasks
    # MUC 1 and 1, B3 1 and 2/3, CEAF-e 1 and 1/2.
    assert found["chain"].precision == 1
    assert found["chain"].recall == pytest.approx((1 + 2 / 3 + 1 / 2) / 3, abs=1e-12)
    assert found["chain"].f1 == pytest.approx((1 + 0.8 + 2 / 3) / 3, abs=1e-12)
    assert found["chain.mean_m"].f1 == pytest.approx((1 + 0.8 + 0.8) / 3, abs=1e-12)  # CEAF-m: 1 and 2/3


def test_muc_over_nothing_counts_zero_in_the_mean():
    single = said("a b")
    found = score([example(gold=single)], [Prediction("d", single)]).languages["en"].end_to_end.tasks
    assert found["chain.muc"].f1 is None
    assert found["chain"] == Ratio(2 / 3, 2 / 3, 2 / 3)


def test_a_chain_score_over_nothing_is_absent():
    found = score([example(gold=Annotation())], [Prediction("d", Annotation())]).languages["en"].end_to_end
    assert found.tasks["chain"] == Ratio(None, None, None)
    assert (found.average_f1, found.average_of) == (None, ())


def test_counts_are_added_before_they_are_divided():
    golds = [example("d", gold=said("a b c")), example("e", gold=said("a"))]
    found = score(golds, [Prediction("d", said("a")), Prediction("e", said("a"))]).languages["en"].end_to_end
    assert found.tasks["entity"] == PRF(2, 2, 2, 4)


def test_languages_are_scored_apart():
    golds = [example("d"), example("e", lang="zh"), example("f", lang="zh")]
    found = score(golds, [Prediction("d", GOLD)]).languages
    assert {lang: scores.documents for lang, scores in found.items()} == {"en": 1, "zh": 2}
    assert (found["en"].end_to_end.average_f1, found["zh"].end_to_end.average_f1) == (1, 0)


def test_a_document_without_a_prediction_counts_as_an_empty_one():
    found = score([example("d"), example("e")], [Prediction("e", GOLD)])
    assert found.unanswered == ("d",)
    assert found.languages["en"].unanswered == 1
    assert found.languages["en"].end_to_end.tasks["entity"] == PRF(3, 3, 3, 6)


@given(case=scored(), data=st.data())
def test_a_document_has_the_predictions_that_a_dict_of_all_would_tell(case, data):
    golds, predictions = Golds(case[0]), data.draw(st.permutations(case[1]))
    twin = {(prediction.document, prediction.given): prediction for prediction in predictions}
    answers = Answers(golds, predictions)
    found = {(gold.document, given): p for gold in golds for given, p in answers.of(gold).predictions.items()}
    assert (found, len(answers)) == (twin, len(twin))


def test_a_prediction_of_an_unknown_document_is_refused():
    with pytest.raises(UserError, match="prediction of 'x', which is not a document of the gold"):
        score([example()], [Prediction("x", GOLD)])


def test_a_second_prediction_of_a_document_is_refused():
    with pytest.raises(UserError, match="document 'd' has two predictions with gold chains given"):
        score([example()], [Prediction("d", GOLD, "chains"), Prediction("d", GOLD, "chains")])


def test_a_gold_document_that_stands_twice_is_refused():
    with pytest.raises(UserError, match="gold document 'd' appears twice"):
        score([example(), example()], [])


def test_no_gold_at_all_is_refused():
    with pytest.raises(UserError, match="nothing to score"):
        score([], [])


# --- protocols --------------------------------------------------------------------------------------------------------


def test_with_gold_pairs_each_task_is_scored_from_its_own_pass():
    empty = Annotation()
    predictions = [
        Prediction("d", said("ab c", regions=[region(0, *BOX)])),
        Prediction("d", GOLD, "mentions"),
        Prediction("d", empty, "chains"),
    ]
    found = score([example()], predictions).languages["en"]
    assert [found.end_to_end.tasks[t].f1 for t in ("entity", "chain", "relation", "grounding")] == [1, 1, 0, 1]
    assert [found.gold_pairs.tasks[t].f1 for t in ("entity", "chain", "relation", "grounding")] == [1, 1, 0, 1]
    predictions = [Prediction("d", empty), Prediction("d", said("ac b"), "mentions"), Prediction("d", GOLD, "chains")]
    found = score([example()], predictions).languages["en"]
    assert [found.end_to_end.tasks[t].f1 for t in ("entity", "chain", "relation", "grounding")] == [0, 0, 0, 0]
    assert found.gold_pairs.tasks["entity"].f1 == 0
    assert 0 < found.gold_pairs.tasks["chain"].f1 < 1
    assert found.gold_pairs.tasks["relation"].f1 == 1


def test_without_passes_given_gold_there_are_no_gold_pairs():
    assert score([example()], [Prediction("d", GOLD)]).languages["en"].gold_pairs is None


def test_a_pass_that_was_not_made_leaves_its_task_out():
    found = score([example()], [Prediction("d", GOLD), Prediction("d", GOLD, "mentions")]).languages["en"].gold_pairs
    assert "relation" not in found.tasks
    assert found.average_of == ("entity", "chain", "grounding")


def test_a_language_without_passes_given_gold_has_no_gold_pairs():
    golds = [example("d"), example("e", lang="zh")]
    found = score(golds, [Prediction("d", GOLD), Prediction("d", GOLD, "mentions"), Prediction("e", GOLD)]).languages
    assert found["en"].gold_pairs is not None
    assert found["zh"].gold_pairs is None


def test_a_document_that_lacks_a_pass_of_its_language_is_unanswered():
    predictions = [Prediction("d", GOLD), Prediction("e", GOLD), Prediction("d", GOLD, "mentions")]
    found = score([example("d"), example("e")], predictions)
    assert found.unanswered == ("e",)
    assert found.languages["en"].gold_pairs.tasks["chain.muc"] == PRF(1, 1, 1, 2)


# --- modalities -------------------------------------------------------------------------------------------------------

SEEN = Annotation(regions=(Region(0, Box(*BOX), "PER"),))


def test_a_document_without_text_counts_in_no_text_task():
    found = score([example(text="", gold=SEEN)], [Prediction("d", GOLD)])
    assert f1(found.languages["en"].end_to_end)["entity"] is None
    assert found.languages["en"].end_to_end.average_of == ("grounding",)
    assert set(found.per_document[0].tasks) == {"grounding"}
    assert found.per_document[0].subset == "no_text"


def test_a_document_without_frames_counts_in_no_grounding():
    found = score([example(frames=0, gold=said("a"))], [Prediction("d", GOLD)])
    assert "grounding" not in found.per_document[0].tasks
    assert found.languages["en"].end_to_end.tasks["grounding"].f1 is None
    assert found.per_document[0].subset == "no_video"


def test_a_hidden_modality_is_left_out_of_what_is_available():
    golds = [example("d"), example("e"), example("f")]
    predictions = [Prediction(gold.document.id, Annotation()) for gold in golds]
    found = score(golds, predictions, subsets={"d": "full", "e": "no_text", "f": "no_video"})
    tasks = found.languages["en"].end_to_end.tasks
    assert (tasks["entity"].r_den, tasks["relation"].r_den, tasks["grounding"].r_den) == (6, 2, 2)
    assert [row.subset for row in found.per_document] == ["full", "no_text", "no_video"]


def test_all_counts_every_document():
    golds = [example("d"), example("e"), example("f")]
    subsets = {"d": "full", "e": "no_text", "f": "no_video"}
    found = score(golds, [], settings=Settings(modality="all"), subsets=subsets).languages["en"].end_to_end.tasks
    assert (found["entity"].r_den, found["relation"].r_den, found["grounding"].r_den) == (9, 3, 3)


def test_the_subsets_can_be_scored_each():
    golds = [example("d"), example("e"), example("f")]
    subsets = {"d": "full", "e": "no_text", "f": "no_video"}
    predictions = [Prediction("d", GOLD), Prediction("e", Annotation()), Prediction("f", GOLD)]
    found = score(golds, predictions, settings=Settings(modality="all"), subsets=subsets)
    assert [found.subset("en", s).tasks["entity"].f1 for s in ("full", "no_text", "no_video")] == [1, 0, 1]


def test_an_empty_document_counts_nowhere_under_available():
    found = score([example(text="", frames=0, gold=Annotation())], [Prediction("d", GOLD)])
    assert found.per_document[0].tasks == {}
    assert found.languages["en"].end_to_end.average_f1 is None


def test_regions_predicted_in_frames_without_annotation_are_counted_apart():
    frames = (Frame(0, "0.jpg", 64, 48, annotated=True), Frame(24, "24.jpg", 64, 48))
    gold = Example(Document("d", "zh", "文", frames=frames), Annotation(regions=(region(0, *BOX),)))
    pred = Annotation(regions=(region(0, *BOX), region(24, *BOX), region(99, *BOX)))
    found = score([gold], [Prediction("d", pred)]).languages["zh"]
    assert found.end_to_end.tasks["grounding"] == PRF(1, 1, 1, 1)
    assert found.regions_unannotated == 2


# --- settings ---------------------------------------------------------------------------------------------------------


def test_a_task_that_the_system_does_not_answer_is_absent():
    found = score([example()], [Prediction("d", GOLD)], settings=Settings(tasks=("entity", "chain")))
    assert found.languages["en"].end_to_end.average_of == ("entity", "chain")
    assert "relation" not in found.languages["en"].end_to_end.tasks


def test_symmetric_types_come_from_the_label_set():
    gold = example(gold=said("a b", [("a", "b", "PER-PER_couple")]))
    pred = Prediction("d", said("a b", [("b", "a", "PER-PER_couple")]))
    assert score([gold], [pred]).languages["en"].end_to_end.tasks["relation"].f1 == 0
    assert score([gold], [pred], labels=LABELS).languages["en"].end_to_end.tasks["relation"].f1 == 1


def test_variants_stand_behind_the_tasks_they_vary():
    settings = Settings(variants=(*variants(), "iou=0.3"))
    found = score([example()], [Prediction("d", GOLD)], settings=settings).languages["en"].end_to_end
    assert list(found.tasks)[-3:] == ["grounding", "grounding.iou_0.3", "triple"]
    assert found.tasks["chain.no_singletons"].f1 == found.tasks["triple"].f1 == 1
    assert found.tasks["chain.released"].f1 == pytest.approx((1 + 1 + 0.8) / 3, abs=1e-12)
    assert found.average_of == ("entity", "chain", "relation", "grounding")


def test_triples_count_where_text_and_frames_were_there():
    golds = [example("d"), example("e", frames=0, gold=said("a"))]
    predictions = [Prediction("d", GOLD), Prediction("e", GOLD)]
    found = score(golds, predictions, settings=Settings(variants=("triple",)))
    assert found.languages["en"].end_to_end.tasks["triple"] == PRF(3, 3, 3, 3)


@pytest.mark.slow
def test_the_development_sets_of_m3d_are_scored_in_well_under_a_second(shared_data):
    imported = read_m3d(shared_data / "m3d")
    golds = list(imported.splits["dev"])
    predictions = [Prediction(gold.document.id, gold.gold) for gold in golds]
    found = score(golds, predictions, labels=imported.labels)
    started = time.process_time()
    assert score(golds, predictions, labels=imported.labels) == found
    assert time.process_time() - started < 5
    assert {lang: scores.documents for lang, scores in found.languages.items()} == {"en": 205, "zh": 203}
    assert all(scores.end_to_end.average_f1 == 1 for scores in found.languages.values())


# --- properties -------------------------------------------------------------------------------------------------------


@effort(max_examples=25)
@given(scored())
def test_the_order_of_documents_and_predictions_changes_no_digit(case):
    golds, predictions = case
    settings = Settings(variants=(*variants(), "iou=0.3"))
    found = score(golds, predictions, labels=LABELS, settings=settings)
    order = random.Random(len(predictions))
    golds, predictions = order.sample(golds, len(golds)), order.sample(predictions, len(predictions))
    again = score(golds, predictions, labels=LABELS, settings=settings)
    assert again.to_wire() == found.to_wire()
    assert sorted(map(repr, again.rows())) == sorted(map(repr, found.rows()))


@effort(max_examples=25)
@given(scored())
def test_the_documents_add_up_to_the_corpus(case):
    found = score(*case, settings=Settings(modality="all"))
    for lang, scores in found.languages.items():
        rows = found.documents(lang)
        assert len(rows) == scores.documents
        for name, counts in scores.end_to_end.tasks.items():
            if isinstance(counts, PRF):
                assert PRF.sum(row.tasks[name] for row in rows) == counts


@effort(max_examples=25)
@given(scored())
def test_errors_are_counted_over_the_same_predictions(case):
    golds, predictions = case
    found, errors = score(golds, predictions, labels=LABELS), count_errors(golds, predictions, labels=LABELS)
    assert errors.keys() == found.languages.keys()
    for lang, of_pairs in errors.items():
        for pairs, of_task in of_pairs.items():
            tasks = getattr(found.languages[lang], pairs).tasks
            for task, counts in of_task.items():
                if task != "chain":
                    assert (counts.correct, counts.predictions) == (tasks[task].p_num, tasks[task].p_den)


def test_where_systems_say_what_they_saw_the_share_of_annotated_frames_is_kept():
    three = [example(name, frames=4) for name in "abc"]
    said_so = [
        Prediction("a", GOLD, frames=(0, 24, 48, 7)),
        Prediction("a", GOLD, "chains", frames=()),
        Prediction("b", GOLD),
    ]
    found = score(three, said_so)  # of "a" three of four, of "b" all, of "c" no answer
    of = found.languages["en"]
    assert (of.frames_annotated, of.frames_shown) == (12, 7)
    assert found.to_wire()["languages"]["en"]["gold_frames"] == {"annotated": 12, "shown": 7}
    assert Scores.from_wire(found.to_wire()).languages == found.languages


def test_where_no_system_says_what_it_saw_nothing_is_said():
    found = score([example()], [Prediction("d", GOLD)])
    assert found.languages["en"].frames_shown is None
    assert "gold_frames" not in found.to_wire()["languages"]["en"]


def test_frames_of_documents_on_which_grounding_does_not_count_are_not_counted():
    shown = [Prediction("a", GOLD, frames=(0,)), Prediction("b", GOLD, frames=())]
    found = score([example("a"), example("b")], shown, subsets={"b": "no_video"}).languages["en"]
    assert (found.frames_annotated, found.frames_shown) == (1, 1)
    text_only = score([example("a")], shown[:1], settings=Settings(tasks=("entity",))).languages["en"]
    assert text_only.frames_shown is None
