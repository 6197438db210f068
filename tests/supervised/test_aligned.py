"""Which chains a frame shows and what it says of two, against loops."""

from __future__ import annotations

import math

import torch

from m3dllm.systems.supervised.alignment import Alignment, ContextAttention, FrameRelations, shown, with_frames
from tests.supervised.sizes import LargestTensor
from tests.supervised.test_heads import FIRST, LAST, MENTIONS

PATCHES = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(2))
WORD_MASK = torch.tensor([[True] * 8, [True] * 4 + [False] * 4])
NAMED = ({0, 1, 3, 6, 7}, {2})
"""The words of mentions."""
HIDDEN, SIZE = 8, 5
WIDE = torch.randn(2, 8, HIDDEN, generator=torch.Generator().manual_seed(3))
PATCHES_WIDE = torch.randn(2, 3, 4, HIDDEN, generator=torch.Generator().manual_seed(4))


def test_the_words_near_a_mention_that_name_nobody_say_how_it_looks():
    torch.manual_seed(0)
    looks = ContextAttention(HIDDEN)
    found = looks(WIDE, WORD_MASK, MENTIONS)
    for b, m in ((0, 0), (0, 1), (0, 2), (1, 0)):
        first, last = int(FIRST[b, m]), int(LAST[b, m])
        asked = looks.query(WIDE[b, first : last + 1].mean(0)).unflatten(0, (4, -1))
        free = [w for w in range(int(WORD_MASK[b].sum())) if w not in NAMED[b]]
        mixed = []
        for head, slope in enumerate(looks.slopes):
            scores = []
            for w in free:
                key = looks.key(WIDE[b, w]).unflatten(0, (4, -1))[head]
                far = max(first - w, w - last, 0)
                scores.append(asked[head] @ key / key.numel() ** 0.5 - slope * far)
            values = looks.value(WIDE[b, free]).unflatten(1, (4, -1))[:, head]
            mixed.append(torch.stack(scores).softmax(0) @ values)
        torch.testing.assert_close(found[b, m], torch.cat(mixed), atol=1e-5, rtol=1e-5)


def test_a_patch_matches_a_chain_as_well_as_its_best_mention():
    torch.manual_seed(0)
    align = Alignment(HIDDEN, SIZE, 2, 0.0)
    found = align(WIDE, WORD_MASK, PATCHES_WIDE, MENTIONS)
    assert found.shape == (2, 3, 4, 3)
    looks = align.context(WIDE, WORD_MASK, MENTIONS)
    for b, chain, members in ((0, 0, (0, 2)), (0, 1, (1,)), (1, 0, (0,))):
        for f in range(3):
            for p in range(4):
                best = max(
                    align.query(looks[b, m]) @ align.key(PATCHES_WIDE[b, f, p])
                    + align.types.weight[MENTIONS.type[b, m]] @ align.key(PATCHES_WIDE[b, f, p])
                    for m in members
                )
                torch.testing.assert_close(found[b, f, p, chain], best / SIZE**0.5, atol=1e-5, rtol=1e-5)
    assert (found[1, :, :, 1] < -1000).all()  # the second document has one chain


def test_a_frame_shows_a_chain_as_surely_as_its_surest_patch():
    logits = torch.zeros(1, 2, 2, 3)  # two frames, two patches, two chains
    logits[0, 1, 0, 1] = 9.0
    found = shown(logits)
    assert found.shape == (1, 2, 2)
    assert found[0, 1, 1] > 0.99
    torch.testing.assert_close(found[0, 0], torch.full((2,), 1 / 3))
    assert shown(torch.zeros(1, 0, 4, 3)).shape == (1, 2, 0)


def test_a_frame_adds_its_odds_for_two_chains_as_far_as_it_shows_both():
    logits = torch.full((1, 2, 2, 2), -1.0)
    says = torch.tensor([[[2.0, -9.0]]])
    shows = torch.tensor([[[0.5], [0.8]]])
    found = with_frames(logits, says, shows)
    assert math.isclose(float(found[0, 0, 1, 0].exp()), math.exp(-1.0) + 0.4 * math.exp(2.0), rel_tol=1e-5)
    assert math.isclose(float(found[0, 0, 1, 1].exp()), math.exp(-1.0) + 0.4 * math.exp(-9.0), rel_tol=1e-5)


def test_a_frame_that_shows_one_of_two_says_nothing_of_them():
    logits = torch.zeros(1, 2, 2, 2)
    found = with_frames(logits, torch.full((1, 1, 2), 3.0), torch.tensor([[[1.0], [0.0]]]))
    torch.testing.assert_close(found[0, 0, 1], logits[0, 0, 1], atol=1e-4, rtol=0)


def test_pairs_frames_and_types_do_not_stand_in_memory_together():
    torch.manual_seed(0)
    logits, says, shows = torch.randn(1, 9, 9, 12), 30 * torch.randn(1, 20, 12), torch.rand(1, 9, 20)
    with LargestTensor() as largest:
        found = with_frames(logits, says, shows)
    assert largest.numbers <= 9 * 9 * 20
    both = shows[:, :, None, :, None].log() + shows[:, None, :, :, None].log()
    expected = torch.cat([both + says[:, None, None], logits[:, :, :, None]], 3).logsumexp(3)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_no_frame_and_the_class_for_none_are_left_as_they_are():
    logits = torch.randn(1, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    assert with_frames(logits, torch.zeros(1, 0, 2), torch.zeros(1, 2, 0)) is logits
    found = with_frames(logits, torch.full((1, 1, 2), 3.0), torch.ones(1, 2, 1))
    assert torch.equal(found[..., 2], logits[..., 2])


def test_what_a_frame_says_is_read_off_its_patches_in_any_order():
    torch.manual_seed(0)
    says = FrameRelations(6, SIZE, 7, 0.0)
    found = says(PATCHES)
    assert found.shape == (2, 3, 7)
    torch.testing.assert_close(found, says(PATCHES[:, :, [3, 1, 0, 2]]))
