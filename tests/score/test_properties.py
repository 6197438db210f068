"""What holds of every metric, on crowded random documents."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from m3dllm.score import Settings, variants
from m3dllm.score.document import count
from m3dllm.score.errors import errors_of
from m3dllm.types import PRF, TASKS, Annotation
from tests.reference import metrics as slow
from tests.strategies import SYMMETRIC, annotations, grid_boxes, shuffled

EVERYTHING = Settings(variants=(*variants(), "iou=0.3", "iou=0"))
ORDER_MATTERS = {"relation.released"}
SIDES_DIFFER = {"chain.released.muc", "chain.released.b3", "chain.released.ceaf_m", "relation.released"}

few = settings(max_examples=40)


def counts(gold: Annotation, pred: Annotation, frames: frozenset[int] | None = None) -> dict[str, PRF]:
    preds = dict.fromkeys(TASKS, pred)
    return count(gold, preds, frames=frames, symmetric=SYMMETRIC, settings=EVERYTHING)


@settings(max_examples=80)
@given(annotations(box=grid_boxes(), named=True), annotations(box=grid_boxes(), named=True))
def test_the_scorer_agrees_with_its_slow_twin(gold, pred):
    agree(gold, pred)


@pytest.mark.slow
@settings(max_examples=1000)
@given(annotations(box=grid_boxes(), named=True), annotations(box=grid_boxes(), named=True))
def test_the_scorer_agrees_with_its_slow_twin_on_a_thousand_documents(gold, pred):
    agree(gold, pred)


def agree(gold: Annotation, pred: Annotation) -> None:
    frames = frozenset({0})
    ours, theirs = slow.chains_of(gold), slow.chains_of(pred)
    larger = slow.larger(ours), slow.larger(theirs)
    everything = {r.type for r in (*gold.relations, *pred.relations)}
    expected = {
        "entity": slow.entity(gold, pred),
        "chain.muc": slow.muc(ours, theirs),
        "chain.b3": slow.b3(ours, theirs),
        "chain.ceaf_e": slow.ceaf_e(ours, theirs),
        "chain.ceaf_m": slow.ceaf_m(ours, theirs),
        "chain.no_singletons.muc": slow.muc(*larger),
        "chain.no_singletons.b3": slow.b3(*larger),
        "chain.no_singletons.ceaf_e": slow.ceaf_e(*larger),
        "chain.released.muc": slow.released_muc(ours, theirs),
        "chain.released.b3": slow.released_b3(ours, theirs),
        "chain.released.ceaf_m": slow.ceaf_m(ours, slow.larger(theirs)),
        "relation": slow.relation(gold, pred, frames, SYMMETRIC),
        "relation.any_match": slow.any_match(gold, pred, frames, SYMMETRIC),
        "relation.undirected": slow.relation(gold, pred, frames, everything),
        "relation.exact_chains": slow.exact_chains(gold, pred, frames, SYMMETRIC),
        "relation.released": slow.released_relation(gold, pred, frames),
        "grounding": slow.grounding(gold, pred, frames),
        "grounding.iou_0.3": slow.grounding(gold, pred, frames, 0.3),
        "grounding.iou_0": slow.grounding(gold, pred, frames, 0.0),
        "triple": slow.triple(gold, pred, frames),
    }
    found = counts(gold, pred, frames)
    assert found.keys() == expected.keys()
    for name, prf in found.items():
        wanted = tuple(map(float, expected[name]))
        got = (prf.p_num, prf.p_den, prf.r_num, prf.r_den)
        assert all(abs(a - b) < 1e-12 for a, b in zip(got, wanted, strict=True)), (name, got, wanted)


@few
@given(st.data())
def test_order_and_names_change_no_digit(data):
    gold, pred = (data.draw(annotations(disjoint=True, named=True)) for _ in range(2))
    again = counts(data.draw(shuffled(gold)), data.draw(shuffled(pred)))
    for name, prf in counts(gold, pred).items():
        assert name in ORDER_MATTERS or again[name] == prf, name


@few
@given(annotations(named=True), annotations(named=True))
def test_exchanging_gold_and_prediction_exchanges_precision_and_recall(gold, pred):
    turned = counts(pred, gold)
    for name, prf in counts(gold, pred).items():
        assert name in SIDES_DIFFER or turned[name].swapped == prf, name


@few
@given(annotations(box=grid_boxes(10), named=True))
def test_gold_against_itself_is_perfect_where_it_is_defined(gold):
    for name, prf in counts(gold, gold).items():
        if name not in SIDES_DIFFER:
            assert prf.f1 in (None, 1.0), name


@few
@given(annotations(named=True))
def test_an_empty_prediction_is_zero_where_gold_is_not_empty(gold):
    for name, prf in counts(gold, Annotation()).items():
        if name != "chain.released.b3":  # it looks at nothing but common mentions
            assert prf.f1 == (0 if prf.r_den else None), name


@few
@given(annotations(named=True), annotations(named=True))
def test_ratios_are_between_zero_and_one(gold, pred):
    for prf in counts(gold, pred).values():
        assert all(ratio is None or 0 <= ratio <= 1 for ratio in (prf.precision, prf.recall, prf.f1))


@few
@given(annotations(named=True), annotations(named=True))
def test_more_lenient_rules_find_no_less(gold, pred):
    found = counts(gold, pred)
    assert found["relation.exact_chains"].p_num <= found["relation"].p_num <= found["relation.any_match"].p_num
    assert found["grounding"].p_num <= found["grounding.iou_0.3"].p_num <= found["grounding.iou_0"].p_num
    assert found["triple"].p_num <= found["entity"].p_num


@few
@given(annotations(named=True), annotations(named=True), annotations(named=True))
def test_counts_add_up_in_any_order(a, b, c):
    parts = [counts(a, b), counts(b, c), counts(c, a)]
    for name in parts[0]:
        assert PRF.sum(p[name] for p in parts) == PRF.sum(p[name] for p in reversed(parts))


@few
@given(annotations(named=True), annotations(named=True))
def test_error_classes_add_up_to_what_is_wrong(gold, pred):
    found = counts(gold, pred, frozenset({0}))
    for task in TASKS:
        errors = errors_of(task, gold, pred, frames=frozenset({0}), symmetric=SYMMETRIC)
        assert errors.correct + sum(errors.classes.values()) == errors.predictions
        assert min(errors.classes.values()) >= 0
        if task != "chain":
            assert (errors.correct, errors.predictions) == (found[task].p_num, found[task].p_den)


@few
@given(st.data())
def test_error_classes_do_not_depend_on_order(data):
    gold, pred = (data.draw(annotations(disjoint=True, named=True)) for _ in range(2))
    turned = data.draw(shuffled(gold)), data.draw(shuffled(pred))
    for task in TASKS:
        assert errors_of(task, gold, pred, symmetric=SYMMETRIC) == errors_of(task, *turned, symmetric=SYMMETRIC)


@few
@given(annotations(named=True))
def test_gold_against_itself_has_no_errors(gold):
    assume(all(region.box.is_legal for region in gold.regions))
    for task in TASKS:
        assert not any(errors_of(task, gold, gold, symmetric=SYMMETRIC).classes.values())
