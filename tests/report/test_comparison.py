"""Comparing systems: against the best, against a named baseline, and how often chance is taken for a difference."""

from __future__ import annotations

import random

import numpy as np
import pytest

from m3dllm.score import DocumentScore, holm, paired_bootstrap
from m3dllm.types import PRF
from tests.reference import bootstrap as slow

DOCUMENTS = 205


def system(rng: random.Random, gold: list[int], *, skill: float) -> list[DocumentScore]:
    """The counts of a system that finds each of `gold` things of a document with probability `skill`."""
    rows = []
    for i, n in enumerate(gold):
        tp = sum(rng.random() < skill for _ in range(n))
        wrong = sum(rng.random() < 1 - skill for _ in range(n))
        rows.append(DocumentScore(f"d{i}", "en", "", "full", "end_to_end", {"entity": PRF(tp, tp + wrong, tp, n)}))
    return rows


def declared(pairs: int, *, gap: float, seed: int = 0, resamples: int = 1000) -> int:
    """Of so many pairs of systems that differ by `gap` in skill, how many are declared different at 5 %."""
    rng = random.Random(seed)
    gold = [rng.randint(5, 25) for _ in range(DOCUMENTS)]
    found = 0
    for i in range(pairs):
        one, other = system(rng, gold, skill=0.7), system(rng, gold, skill=0.7 + gap)
        found += paired_bootstrap([one], [other], resamples=resamples, seed=i)["entity"].p < 0.05
    return found


def test_equal_systems_are_declared_different_about_once_in_twenty():
    assert 1 <= declared(100, gap=0.0) <= 12


def test_a_known_gap_is_found():
    assert declared(10, gap=0.05) == 10


def test_intervals_are_those_of_an_independent_computation():
    rng = random.Random(1)
    gold = [rng.randint(0, 9) for _ in range(30)]
    one, other = system(rng, gold, skill=0.6), system(rng, gold, skill=0.7)
    found = paired_bootstrap([one], [other], resamples=300, seed=5)["entity"]
    differences = slow.differences(one, other, name="entity", resamples=300, seed=5)
    assert (found.low, found.high) == pytest.approx(slow.interval(differences), abs=1e-9)
    assert found.p == pytest.approx(slow.p_value(differences))


def test_the_correction_is_that_of_holm_step_by_step():
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.random(6).round(2).tolist()
        order, worst, wanted = np.argsort(p, kind="stable"), 0.0, [0.0] * 6
        for k, i in enumerate(order):
            worst = max(worst, min(1.0, (6 - k) * p[i]))
            wanted[i] = worst
        assert holm(p) == pytest.approx(wanted)
