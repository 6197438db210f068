"""Which chains a frame shows and what it says of two, against loops."""

from __future__ import annotations

import torch

from m3dllm.systems.supervised.aligned import Alignment, FrameRelations
from tests.supervised.test_heads import MENTIONS, WORDS

PATCHES = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(2))


def test_a_frame_shows_a_chain_as_surely_as_its_best_patch_and_mention_match():
    torch.manual_seed(0)
    align = Alignment(6, 5)
    found = align(WORDS, PATCHES, MENTIONS)
    assert found.shape == (2, 2, 3)
    for b, chain, members in ((0, 0, (0, 2)), (0, 1, (1,)), (1, 0, (0,))):
        for f in range(3):
            best = max(
                align.ask(WORDS[b, MENTIONS.first[b, m] : MENTIONS.last[b, m] + 1].mean(0))
                @ align.answer(PATCHES[b, f, p])
                for m in members
                for p in range(4)
            )
            torch.testing.assert_close(found[b, chain, f], best / 5**0.5 + align.bias)


def test_a_frame_speaks_of_two_chains_as_surely_as_it_shows_both():
    torch.manual_seed(0)
    says = FrameRelations(6, 5, 7)
    shows = torch.zeros(2, 2, 3)
    shows[0, 0, 1], shows[0, 1, 1] = 1.0, 0.5
    found = says(PATCHES, shows)
    alone = says(PATCHES[:1, 1:2], torch.ones(1, 2, 1))
    assert found.shape == (2, 2, 2, 7)
    torch.testing.assert_close(found[0, 0, 1], alone[0, 0, 1] / 2)
    assert not found[1].any()


def test_without_frames_nothing_is_said():
    assert not FrameRelations(6, 5, 7)(PATCHES[:, :0], torch.zeros(2, 2, 0)).any()
