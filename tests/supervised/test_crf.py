from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m3dllm.systems.supervised.crf import CRF, bio_tags
from m3dllm.systems.supervised.data import spans_of_tags
from m3dllm.systems.supervised.decoding import TagRow
from tests.supervised.sizes import LargestTensor


def make(n_types=2, *, seed=0):
    torch.manual_seed(seed)
    crf = CRF(n_types)
    for p in crf.parameters():
        p.data.normal_()
    return crf


@torch.no_grad()
def path_score(crf, emissions, path):
    """The score of one path of one sequence, word by word."""
    score = crf.start[path[0]] + crf.start_penalty[path[0]] + emissions[0, path[0]]
    for i in range(1, len(path)):
        a, b = path[i - 1], path[i]
        score = score + crf.transitions[a, b] + crf.penalty[a, b] + emissions[i, b]
    return float(score + crf.end[path[-1]])


def every_path(crf, emissions):
    n = emissions.shape[1]
    return {path: path_score(crf, emissions, path) for path in itertools.product(range(n), repeat=len(emissions))}


def test_tags_are_o_and_a_pair_a_type():
    assert bio_tags(["PER", "LOC"]) == ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(0, 10_000), st.integers(1, 2))
def test_partition_and_best_path_are_those_of_enumeration(words, seed, n_types):
    crf = make(n_types, seed=seed)
    emissions = torch.randn(words, 1 + 2 * n_types)
    paths = every_path(crf, emissions)
    total = math.log(sum(math.exp(score) for score in paths.values()))
    mask = torch.ones(1, words, dtype=torch.bool)
    assert crf.log_partition(emissions[None], mask)[0].item() == pytest.approx(total, abs=1e-4)
    assert tuple(crf.decode(emissions[None], mask)[0].tolist()) == max(paths, key=paths.get)


def mention_probability(crf, emissions, mention):
    """The summed probability of all paths with exactly that mention (first word, last word, type)."""
    paths = every_path(crf, emissions)
    total = sum(math.exp(score) for score in paths.values())
    those = [math.exp(score) for path, score in paths.items() if mention in spans_of_tags(np.array(path))]
    return sum(those) / total


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(0, 10_000), st.integers(1, 2))
def test_the_probability_of_a_mention_is_that_of_all_paths_that_have_it(words, seed, n_types):
    crf = make(n_types, seed=seed)
    emissions = torch.randn(words, 1 + 2 * n_types)
    mask = torch.ones(1, words, dtype=torch.bool)
    tags = crf.decode(emissions[None], mask)
    row = TagRow(tags[0].numpy(), *(part[0].numpy() for part in crf.marginals(emissions[None], tags, mask)))
    for first, last, kind in spans_of_tags(tags[0].numpy()):
        expected = mention_probability(crf, emissions, (first, last, kind))
        assert row.mention(first, last) == pytest.approx(expected, abs=1e-5)


def test_the_marginals_of_a_sequence_among_others_are_those_it_has_alone():
    crf = make()
    emissions, lengths = torch.randn(4, 7, 5), [7, 4, 0, 1]
    mask = torch.arange(7)[None] < torch.tensor(lengths)[:, None]
    tags = crf.decode(emissions, mask)
    together = crf.marginals(emissions, tags, mask)
    for i, n in enumerate(lengths):
        alone = crf.marginals(emissions[i : i + 1, :n], tags[i : i + 1, :n], mask[i : i + 1, :n])
        for part, own in zip(together, alone, strict=True):
            torch.testing.assert_close(part[i, :n], own[0])
            assert (part[i, n:] == 0).all()


def test_marginals_of_scores_far_apart_are_probabilities():
    crf = make()
    mask = torch.ones(2, 300, dtype=torch.bool)
    for scale in (30, 1000):
        emissions = scale * torch.randn(2, 300, 5)
        for part in crf.marginals(emissions, crf.decode(emissions, mask), mask):
            assert ((part >= 0) & (part <= 1)).all()


def test_many_types_need_no_more_memory_than_their_matrices():
    crf = make(40)
    emissions, mask = torch.randn(1, 33, 81), torch.ones(1, 33, dtype=torch.bool)
    with LargestTensor() as largest:
        path = crf.decode(emissions, mask)[0].tolist()
    assert largest.numbers <= 1 << 20 < 16 * 81**3
    best = crf.start + crf.start_penalty + emissions[0, 0]
    for i in range(1, 33):  # word by word
        best = (best[:, None] + crf.transitions + crf.penalty).amax(0) + emissions[0, i]
    assert path_score(crf, emissions[0], path) == pytest.approx((best + crf.end).max().item(), rel=1e-5)


def test_the_loss_is_minus_the_log_probability_of_the_path():
    crf = make()
    emissions, path = torch.randn(4, 5), (1, 2, 0, 3)
    paths = every_path(crf, emissions)
    expected = math.log(sum(math.exp(score) for score in paths.values())) - paths[path]
    mask = torch.ones(1, 4, dtype=torch.bool)
    assert crf.nll(emissions[None], torch.tensor([path]), mask)[0].item() == pytest.approx(expected, abs=1e-4)


def test_a_sequence_among_others_gives_what_it_gives_alone():
    crf = make()
    emissions, tags = torch.randn(3, 7, 5), torch.randint(0, 2, (3, 7))
    lengths = [7, 4, 0]
    mask = torch.arange(7)[None] < torch.tensor(lengths)[:, None]
    together, paths = crf.nll(emissions, tags, mask), crf.decode(emissions, mask)
    for i, n in enumerate(lengths[:2]):
        alone = torch.ones(1, n, dtype=torch.bool)
        one, own = emissions[i : i + 1, :n], tags[i : i + 1, :n]
        torch.testing.assert_close(together[i], crf.nll(one, own, alone)[0])
        assert paths[i, :n].tolist() == crf.decode(one, alone)[0].tolist()
    assert together[2] == 0
    assert paths[2].tolist() == [0] * 7


def test_no_words_at_all_cost_nothing():
    crf = make()
    nothing = torch.zeros(2, 0, 5)
    mask = torch.zeros(2, 0, dtype=torch.bool)
    assert crf.nll(nothing, mask.long(), mask).tolist() == [0, 0]
    assert crf.decode(nothing, mask).shape == (2, 0)


def test_the_inside_of_a_mention_follows_only_its_own_type():
    crf = make()
    emissions = torch.zeros(1, 3, 5)
    emissions[0, 0, 2] = emissions[0, 1, 1] = emissions[0, 2, 4] = 50.0  # asks for I-0, B-0, I-1
    path = crf.decode(emissions, torch.ones(1, 3, dtype=torch.bool))[0].tolist()
    assert path[0] != 2
    assert (path[1], path[2]) != (1, 4)


def test_the_partition_and_the_best_path_are_those_of_pytorch_crf():
    torchcrf = pytest.importorskip("torchcrf")
    crf = make()
    oracle = torchcrf.CRF(5, batch_first=True)
    oracle.transitions.data = (crf.transitions + crf.penalty).detach()
    oracle.start_transitions.data = (crf.start + crf.start_penalty).detach()
    oracle.end_transitions.data = crf.end.detach()
    emissions, mask = torch.randn(4, 9, 5), torch.arange(9)[None] < torch.tensor([[9], [5], [1], [8]])
    tags = crf.decode(emissions, mask)
    assert [row[:n].tolist() for row, n in zip(tags, mask.sum(1), strict=True)] == oracle.decode(emissions, mask)
    expected = -oracle(emissions, tags, mask, reduction="none")
    torch.testing.assert_close(crf.nll(emissions, tags, mask), expected, atol=1e-4, rtol=1e-4)


def test_gradients_are_finite_and_reach_every_parameter():
    crf = make()
    emissions = torch.randn(2, 6, 5, requires_grad=True)
    tags = torch.tensor([[0, 1, 2, 0, 3, 4], [1, 2, 0, 0, 0, 0]])
    mask = torch.arange(6)[None] < torch.tensor([[6], [3]])
    crf.nll(emissions, tags, mask).sum().backward()
    for gradient in (emissions.grad, *(p.grad for p in crf.parameters())):
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0
    assert (emissions.grad[1, 3:] == 0).all()
