"""Equations 15 to 18: all pairs at once against loops over pairs."""

from __future__ import annotations

import numpy as np
import torch

from m3dllm.systems.supervised.data import MentionBatch
from m3dllm.systems.supervised.pairs import N_FEATURES
from m3dllm.systems.supervised.scorers import (
    Bilinear,
    ChainPairs,
    ChainScorer,
    MentionPairs,
    PatchScorer,
    RelationScorer,
    SlotScorer,
    Tagger,
    between_means,
    chain_means,
    closest_mentions,
    patch_centres,
    span_means,
)

WORDS = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(0))
FIRST = torch.tensor([[0, 3, 6], [2, 0, 0]])
LAST = torch.tensor([[1, 3, 7], [2, 0, 0]])
MENTIONS = MentionBatch(
    first=FIRST,
    last=LAST,
    type=torch.tensor([[0, 1, 0], [1, 0, 0]]),
    chain=torch.tensor([[0, 1, 0], [0, 2, 2]]),
    mask=torch.tensor([[True, True, True], [True, False, False]]),
    chain_type=torch.tensor([[0, 1], [1, 0]]),
    chain_mask=torch.tensor([[True, True], [True, False]]),
    pairs=torch.rand(2, 3, 3, N_FEATURES, generator=torch.Generator().manual_seed(1)),
)


def test_a_mention_is_the_average_of_its_words():
    found = span_means(WORDS, FIRST, LAST)
    torch.testing.assert_close(found[0, 0], WORDS[0, 0:2].mean(0))
    torch.testing.assert_close(found[0, 2], WORDS[0, 6:8].mean(0))
    torch.testing.assert_close(found[1, 0], WORDS[1, 2])


def test_a_chain_is_the_average_of_its_mentions():
    vectors = span_means(WORDS, FIRST, LAST)
    found = chain_means(vectors, MENTIONS)
    torch.testing.assert_close(found[0, 0], (vectors[0, 0] + vectors[0, 2]) / 2)
    torch.testing.assert_close(found[0, 1], vectors[0, 1])
    torch.testing.assert_close(found[1, 0], vectors[1, 0])
    assert (found[1, 1] == 0).all()


def test_the_words_between_two_mentions_are_averaged_whichever_comes_first():
    found = between_means(WORDS, (FIRST[:, :, None], LAST[:, :, None]), (FIRST[:, None], LAST[:, None]))
    torch.testing.assert_close(found[0, 0, 1], WORDS[0, 2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[0, 1, 2], WORDS[0, 4:6].mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[0, 2, 0], WORDS[0, 2:6].mean(0), atol=1e-5, rtol=1e-5)
    assert (found[0, 0, 0] == 0).all()


def test_a_bilinear_form_is_that_of_every_pair_alone():
    torch.manual_seed(0)
    form = Bilinear(6, 3)
    x, y = torch.randn(2, 4, 6), torch.randn(2, 5, 6)
    found = form(x, y)
    for b in range(2):
        for i in range(4):
            for j in range(5):
                expected = torch.stack([x[b, i] @ weight @ y[b, j] for weight in form.weight]) + form.bias
                torch.testing.assert_close(found[b, i, j], expected, atol=1e-5, rtol=1e-4)


def test_the_heads_of_the_paper_are_bilinear_forms_over_the_full_vectors():
    chains = ChainScorer(6, size=0, lexical=False, n_types=2, dropout=0.0)
    relations = RelationScorer(6, 5, size=0, lexical=False, n_types=2, dropout=0.0)
    assert sorted(name for name, _ in chains.named_parameters()) == ["bilinear.bias", "bilinear.weight"]
    vectors = span_means(WORDS, FIRST, LAST)
    torch.testing.assert_close(chains(WORDS, vectors, MENTIONS), chains.bilinear(vectors, vectors))
    of_chains = chain_means(vectors, MENTIONS)
    found = relations(WORDS, of_chains, MENTIONS)
    assert found.shape == (2, 2, 2, 5)
    torch.testing.assert_close(found, relations.bilinear(of_chains, of_chains))


def test_chains_are_read_off_texts_alone_where_training_leaves_the_vectors_out():
    torch.manual_seed(0)
    head = ChainScorer(6, size=4, lexical=True, n_types=2, dropout=0.0, text_alone=1.0).train()
    vectors = span_means(WORDS, FIRST, LAST)
    torch.testing.assert_close(head(WORDS, vectors, MENTIONS), head(WORDS + 1, vectors + 1, MENTIONS))
    head.eval()
    assert not torch.allclose(head(WORDS, vectors, MENTIONS), head(WORDS + 1, vectors + 1, MENTIONS))


def closest(chain: list[int], first: list[int], last: list[int], one: int, other: int) -> tuple[int, int]:
    """The plain twin of `closest_mentions` for one pair of chains."""
    pairs = [(i, j) for i, c in enumerate(chain) if c == one for j, d in enumerate(chain) if d == other]
    return min(pairs, key=lambda pair: (max(first[k] for k in pair) - min(last[k] for k in pair), pair))


def test_a_pair_of_chains_stands_for_its_closest_mentions():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n, n_chains = int(rng.integers(1, 9)), int(rng.integers(1, 4))
        chain = np.concatenate([np.arange(min(n, n_chains)), rng.integers(min(n, n_chains), size=max(n - n_chains, 0))])
        first = np.sort(rng.integers(40, size=n))
        last = first + rng.integers(4, size=n)
        batch = MentionBatch(
            *(torch.from_numpy(part)[None] for part in (first, last, np.zeros(n, dtype=np.int64), chain)),
            mask=torch.ones(1, n, dtype=torch.bool),
            chain_type=torch.zeros(1, int(chain.max()) + 1, dtype=torch.long),
            chain_mask=torch.ones(1, int(chain.max()) + 1, dtype=torch.bool),
            pairs=torch.zeros(1, n, n, N_FEATURES),
        )
        found = torch.stack(closest_mentions(batch), -1)[0].tolist()
        numbers = range(int(chain.max()) + 1)
        plain = [
            [list(closest(*(part.tolist() for part in (chain, first, last)), c, d)) for d in numbers] for c in numbers
        ]
        assert found == plain


def test_a_pair_of_chains_knows_which_is_which():
    torch.manual_seed(0)
    found = ChainPairs(6, 4, 2, 0.0, kinds=1)(WORDS, MENTIONS)
    assert found.shape == (2, 2, 2, 4)
    assert not torch.allclose(found[0, 0, 1], found[0, 1, 0])


def test_pairs_with_texts_give_each_document_what_it_gives_alone():
    torch.manual_seed(0)
    head = RelationScorer(6, 5, size=4, lexical=True, n_types=2, dropout=0.0)
    vectors = chain_means(span_means(WORDS, FIRST, LAST), MENTIONS)
    together = head(WORDS, vectors, MENTIONS)
    alone = MentionBatch(
        *(getattr(MENTIONS, name)[1:, :1] for name in ("first", "last", "type")),
        chain=torch.tensor([[0]]),
        mask=MENTIONS.mask[1:, :1],
        chain_type=MENTIONS.chain_type[1:, :1],
        chain_mask=MENTIONS.chain_mask[1:, :1],
        pairs=MENTIONS.pairs[1:, :1, :1],
    )
    torch.testing.assert_close(together[1, 0, 0], head(WORDS[1:], vectors[1:, :1], alone)[0, 0, 0])


def test_a_pair_of_mentions_knows_which_is_which():
    torch.manual_seed(0)
    found = MentionPairs(6, 4, 2, 0.0)(WORDS, MENTIONS)
    assert found.shape == (2, 3, 3, 4)
    assert not torch.allclose(found[0, 0, 1], found[0, 1, 0])


def test_every_word_has_a_score_for_every_tag():
    assert Tagger(6, 3, 0.1)(WORDS).shape == (2, 8, 7)


def test_a_frame_has_its_slots():
    head = SlotScorer(6, 2, 3)
    frames = torch.randn(1, 5, 6)
    types, boxes = head(torch.zeros(1, 5, 4, 6), frames)
    assert (types.shape, boxes.shape) == ((1, 5, 2, 4), (1, 5, 2, 4))
    torch.testing.assert_close(types[0, 3].flatten(), head.kind.weight @ frames[0, 3] + head.kind.bias)
    torch.testing.assert_close(boxes[0, 3].flatten(), (head.box.weight @ frames[0, 3] + head.box.bias).sigmoid())


def test_patches_lie_row_by_row():
    assert patch_centres(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


def test_a_patch_places_its_box_near_itself():
    torch.manual_seed(0)
    head = PatchScorer(6, 4, 2)
    types, boxes = head(100 * torch.randn(1, 3, 16, 6), torch.randn(1, 3, 6))
    assert types.shape == (1, 3, 16, 3)
    assert ((boxes[..., :2] - patch_centres(4)).abs() <= 2 / 4 + 1e-6).all()
    assert (boxes[..., 2:] >= 0).all()
    assert (boxes[..., 2:] <= 1).all()


def test_a_patch_shows_nothing_before_it_has_learned():
    types, _ = PatchScorer(6, 4, 2)(torch.randn(1, 3, 16, 6), torch.randn(1, 3, 6))
    assert (types.argmax(-1) == 2).all()
