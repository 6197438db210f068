from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from m3dllm.score.matching import largest_matching
from tests.reference.metrics import most_pairs


@pytest.mark.parametrize(
    ("partners", "size"),
    [
        ([], 0),
        ([[]], 0),
        ([[0]], 1),
        ([[0], [0]], 1),
        ([[0, 1], [0]], 2),
        ([[0], [0, 1], [1, 2]], 3),
        ([[0, 1], [0, 1], [0, 1]], 2),
        ([[0, 1], [0], [1]], 2),
        ([[1], [0, 1], [0], [2, 0]], 3),
    ],
)
def test_as_many_pairs_as_possible(partners, size):
    assert largest_matching(partners) == size


@given(st.lists(st.lists(st.integers(0, 5), unique=True, max_size=6), max_size=6))
def test_no_other_matching_is_larger(partners):
    lefts = list(range(len(partners)))
    assert largest_matching(partners) == most_pairs(range(6), lefts, lambda right, left: right in partners[left])


def test_larger_graphs_agree_with_scipy():
    for seed in range(400):
        rng = random.Random(seed)
        n, m = rng.randint(2, 30), rng.randint(2, 30)
        partners = [[right for right in range(m) if rng.random() < 1.7 / m] for _ in range(n)]
        table = csr_array([[int(right in rights) for right in range(m)] for rights in partners])
        wanted = int((maximum_bipartite_matching(table, perm_type="column") >= 0).sum())
        assert largest_matching(partners) == wanted, seed


def test_a_long_augmenting_path_is_found():
    # Each vertex is first given the place that the one before it needs; the last one moves them all.
    n = 3000
    partners = [[i, i + 1] for i in range(n)] + [[0]]
    assert largest_matching(partners) == n + 1


def test_many_more_vertices_than_places_take_no_time():
    partners = [list(range(300)) for _ in range(1500)]
    started = time.process_time()
    assert largest_matching(partners) == 300
    assert time.process_time() - started < 10
