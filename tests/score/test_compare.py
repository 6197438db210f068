from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest

from m3dllm.errors import UserError
from m3dllm.score import DocumentScore, holm, paired_bootstrap
from m3dllm.types import PRF
from tests.reference import bootstrap as slow


def run(
    seed: int, n: int = 12, *, skill: float = 0.6, groups: int = 5, tasks=("entity", "relation")
) -> list[DocumentScore]:
    """The counts of `n` documents in `groups` groups, of a system that finds each thing with probability `skill`."""
    rng, sizes = random.Random(seed), random.Random(99)
    rows = []
    for i in range(n):
        counts = {}
        for name in tasks:
            gold = sizes.randint(0, 6)
            tp, wrong = sum(rng.random() < skill for _ in range(gold)), rng.randint(0, 2)
            counts[name] = PRF(tp, tp + wrong, tp, gold)
        rows.append(DocumentScore(f"d{i}", "en", f"g{i % groups}" if groups else "", "full", "end_to_end", counts))
    return rows


CHAIN = ("chain.muc", "chain.b3", "chain.ceaf_e", "chain.ceaf_m")


@pytest.mark.parametrize("groups", [5, 0])
def test_the_bootstrap_agrees_with_its_slow_twin(groups):
    tasks = ("entity", *CHAIN, "relation", "grounding")
    one, other = run(1, groups=groups, tasks=tasks), run(2, skill=0.8, groups=groups, tasks=tasks)
    found = paired_bootstrap([one], [other], resamples=400, seed=3)
    assert set(found) == {*tasks, "chain", "chain.mean_m", "average"}
    for name, difference in found.items():
        wanted = slow.differences(one, other, name=name, resamples=400, seed=3)
        assert difference.resamples == len(wanted)
        assert (difference.low, difference.high) == pytest.approx(slow.interval(wanted), abs=1e-9)
        assert difference.p == pytest.approx(slow.p_value(wanted))


def test_resamples_in_which_a_score_is_over_nothing_are_left_out():
    rows = [DocumentScore(f"d{i}", "en", "", "full", "end_to_end", {"entity": PRF()}) for i in range(3)]
    rows[0] = replace(rows[0], tasks={"entity": PRF(1, 2, 1, 1)})
    found = paired_bootstrap([rows], [rows], resamples=500)["entity"]
    assert found.resamples == len(slow.differences(rows, rows, name="entity", resamples=500, seed=0)) < 500


def test_a_system_does_not_differ_from_itself():
    for difference in paired_bootstrap([run(1)], [run(1)]).values():
        assert (difference.difference, difference.low, difference.high, difference.p) == (0, 0, 0, 1)


def test_a_much_better_system_differs():
    found = paired_bootstrap([run(1, 60, skill=0.3)], [run(2, 60, skill=0.9)])["entity"]
    assert 0 < found.low < found.difference < found.high
    assert found.p < 0.01


def test_exchanging_the_systems_turns_the_sign():
    one, other = run(1), run(2, skill=0.8)
    forth, back = paired_bootstrap([one], [other]), paired_bootstrap([other], [one])
    for name, found in forth.items():
        assert back[name].difference == -found.difference
        assert (back[name].low, back[name].high) == pytest.approx((-found.high, -found.low), abs=1e-9)
        assert back[name].p == found.p


def test_equal_seeds_give_equal_results_and_others_do_not():
    one, other = run(1), run(2)
    assert paired_bootstrap([one], [other], seed=1) == paired_bootstrap([one], [other], seed=1)
    assert paired_bootstrap([one], [other], seed=1) != paired_bootstrap([one], [other], seed=2)


def test_the_order_of_the_documents_does_not_matter():
    one, other = run(1), run(2)
    again = paired_bootstrap([one[::-1]], [random.Random(0).sample(other, len(other))])
    for name, found in paired_bootstrap([one], [other]).items():
        assert (again[name].low, again[name].high, again[name].p) == pytest.approx(
            (found.low, found.high, found.p), abs=1e-9
        )


def test_documents_of_one_group_are_drawn_together():
    # One group of all documents leaves nothing to chance; alone, the documents differ.
    one, other = run(1, groups=1), run(2, groups=1)
    together = paired_bootstrap([one], [other])["entity"]
    assert together.low == together.high == pytest.approx(together.difference)
    alone = paired_bootstrap([run(1, groups=0)], [run(2, groups=0)])["entity"]
    assert alone.low < alone.high


def test_the_runs_of_a_system_are_averaged_by_document():
    def one(tp: int) -> list[DocumentScore]:
        return [DocumentScore("d", "en", "", "full", "end_to_end", {"entity": PRF(tp, 4, tp, 4)})]

    found = paired_bootstrap([one(1)], [one(2), one(4)])["entity"]
    assert (found.reference, found.other) == (0.25, 0.75)


def test_only_scores_that_both_systems_have_are_compared():
    found = paired_bootstrap([run(1)], [run(2, tasks=("entity",))])
    assert set(found) == {"entity", "average"}


def test_a_score_over_nothing_is_not_compared():
    rows = [DocumentScore("d", "en", "", "full", "end_to_end", {"entity": PRF(1, 1, 1, 1), "grounding": PRF()})]
    assert set(paired_bootstrap([rows], [rows])) == {"entity", "average"}


def test_muc_over_nothing_counts_zero_in_the_mean():
    counts = {name: PRF(1, 1, 1, 1) for name in CHAIN} | {"chain.muc": PRF()}
    rows = [DocumentScore("d", "en", "", "full", "end_to_end", counts)]
    assert paired_bootstrap([rows], [rows])["chain"].reference == pytest.approx(2 / 3)


def test_documents_on_which_a_task_does_not_count_add_nothing():
    rows = [
        DocumentScore("d", "en", "", "full", "end_to_end", {"entity": PRF(1, 1, 1, 2)}),
        DocumentScore("e", "en", "", "no_text", "end_to_end", {}),
    ]
    assert paired_bootstrap([rows], [rows])["entity"].reference == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("reference", "other", "message"),
    [
        ([run(1)], [run(2, 11)], "differ in 1, such as 'd11'"),
        ([run(1)], [run(2) + run(2)[:1]], "name one twice"),
        ([run(1)], [[replace(row, lang="zh") for row in run(2)]], "several languages or protocols"),
        ([run(1)], [[replace(row, pairs="gold_pairs") for row in run(2)]], "several languages or protocols"),
        ([], [run(2)], "each system needs a run"),
        ([[]], [[]], "the runs need documents"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(reference, other, message):
    with pytest.raises(UserError, match=message):
        paired_bootstrap(reference, other)


def test_many_groups_are_drawn_in_parts_of_bounded_size():
    one, other = run(1, 3000, groups=0), run(2, 3000, groups=0)
    found = paired_bootstrap([one], [other], resamples=2000)["entity"]
    assert found.resamples == 2000
    assert found.low < found.difference < found.high


@pytest.mark.slow
def test_ten_thousand_resamples_of_two_hundred_documents_take_about_a_second():
    tasks = ("entity", *CHAIN, "relation", "grounding")
    one, other = run(1, 205, groups=0, tasks=tasks), run(2, 205, groups=0, tasks=tasks)
    paired_bootstrap([one], [other], resamples=100)
    started = time.perf_counter()
    paired_bootstrap([one], [other])
    assert time.perf_counter() - started < 5


def test_the_p_values_of_no_difference_are_spread_evenly():
    # Two runs of one system: about one comparison in ten is below 0.1.
    below = 0
    for seed in range(200):
        one, other = run(2 * seed, 40, groups=0), run(2 * seed + 1, 40, groups=0)
        below += paired_bootstrap([one], [other], resamples=400)["entity"].p < 0.1
    assert 5 <= below <= 45


def test_holm_multiplies_the_smallest_most_and_never_falls():
    # Holm 1979: 0.01 * 3, max(0.03, 0.02 * 2), max(0.04, 0.03 * 1).
    assert holm([0.02, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])


def test_holm_leaves_a_single_value_and_stops_at_one():
    assert holm([0.04]) == [0.04]
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []
