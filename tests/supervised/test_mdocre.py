"""Sentences and the frames shown meanwhile; the hierarchy, the gate and the contrast against plain twins."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from m3dllm.systems.mdocre.fusion import Contrast, GatedStates, Hierarchy, MentionGate, TextGuided
from m3dllm.systems.mdocre.sentences import LONGEST, Sentences, cut, far, sentences_of
from m3dllm.systems.supervised.data import Inputs, MentionBatch
from m3dllm.tokens import tokenize
from m3dllm.types import Document, Frame, Segment
from tests.supervised.documents import four
from tests.supervised.test_features import batch_of, subwords_of
from tests.supervised.test_fusion import add, attention, linear
from tests.supervised.test_streams import gelu, normed

HIDDEN = 8


def inputs_of(text, *, frames=(), segments=(), lang="en"):
    stills = tuple(Frame(index, f"{index}.png", 4, 4) for index in frames)
    document = Document("d", lang, text, frames=stills, segments=segments)
    words = tokenize(document)
    return Inputs(document, words, subwords_of([], []), stills)


def random(module):
    torch.manual_seed(0)
    for p in module.parameters():
        p.data.normal_(std=0.4)
    return module.eval()


# --- sentences --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lang", "lengths"),
    [
        ("Ada came . She saw three ships ! Then", "en", [3, 5, 1]),
        ("她来了。她看见了船！", "zh", [4, 6]),
        ("no mark at all", "en", [4]),
        (". .", "en", [1, 1]),
        ("𝔸da came . 𝔸da left", "en", [3, 2]),
    ],
)
def test_a_sentence_ends_behind_a_mark_that_is_a_word(text, lang, lengths):
    first, length = cut(inputs_of(text, lang=lang))
    assert length.tolist() == lengths
    assert first.tolist() == [sum(lengths[:i]) for i in range(len(lengths))]


def test_a_long_sentence_is_cut():
    _, length = cut(inputs_of("word " * (2 * LONGEST + 5) + ". end"))
    assert length.tolist() == [LONGEST, LONGEST, 6, 1]


def test_times_are_shares_of_the_clip_by_place_where_nothing_else_is_known():
    one = inputs_of("a b . c d .", frames=(0, 50, 100))
    np.testing.assert_allclose(far(one, *cut(one)), [[0, 0, 0.5], [0.5, 0, 0]])


def test_times_are_those_of_the_segments_where_there_are_any():
    said = (Segment(0, 5, 0.0, 2.0), Segment(6, 11, 9.0, 10.0))
    one = inputs_of("a b . c d .", frames=(0, 50, 100), segments=said)
    np.testing.assert_allclose(far(one, *cut(one)), [[0, 0, 0.1], [0.9, 0.4, 0]], atol=1e-9)


def test_a_sentence_sees_what_is_shown_meanwhile_and_the_nearest():
    text = " ".join(f"w{i} ." for i in range(10))
    one = inputs_of(text, frames=tuple(range(0, 101, 10)))
    found = sentences_of(replace(batch_of([]), inputs=(one,), word_mask=torch.ones(1, 20, dtype=torch.bool),
                                 frame_mask=torch.ones(1, 11, dtype=torch.bool)))  # fmt: skip
    assert found.matching[0].nonzero()[:, 0].tolist() == [0, 1, 2]
    assert found.frames[0].nonzero()[:, 0].tolist() == [0, 1, 2, 3]
    assert found.frames[5].nonzero()[:, 0].tolist() == [4, 5, 6, 7]


# --- twins ------------------------------------------------------------------------------------------------------------


def mean(rows):
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def sigmoid(x):
    return [1 / (1 + math.exp(-v)) for v in x]


def times(a, b):
    return [v * w for v, w in zip(a, b, strict=True)]


def guided(layer, text, frames):
    """`TextGuided` of one sentence, vector by vector."""
    condition = linear(layer.condition, mean(text))
    prefix = [attention(layer.pool, add(row, condition), frames, frames) for row in layer.prefix.tolist()]
    out = []
    for word in text:
        seen = attention(layer.look, word, frames, frames)
        gate = sigmoid(linear(layer.gate, word + seen))
        mixed = normed(layer.norms[0], add(word, attention(layer.mix, word, text + prefix, text + prefix)))
        joined = normed(layer.norms[1], add(mixed, times(gate, seen)))
        into, _, back, _ = layer.feed_forward
        out.append(normed(layer.norms[2], add(joined, linear(back, gelu(linear(into, joined))))))
    return out


def test_a_text_guided_layer_is_its_plain_twin():
    layer = random(TextGuided(HIDDEN, heads=2, prefix=3, dropout=0.0))
    text, frames = torch.randn(1, 4, HIDDEN), torch.randn(1, 3, HIDDEN)
    mask, seen = torch.tensor([[True, True, True, False]]), torch.tensor([[True, True, False]])
    found = layer(text, mask, frames, seen)[0, :3]
    expected = guided(layer, text[0, :3].tolist(), frames[0, :2].tolist())
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-4, rtol=1e-4)


CUT = Sentences(
    document=torch.tensor([0, 0, 1]),
    place=torch.tensor([0, 1, 0]),
    words=torch.tensor([[0, 1, 2], [3, 4, 3], [0, 1, 0]]),
    mask=torch.tensor([[True, True, True], [True, True, False], [True, True, False]]),
    frames=torch.tensor([[True, True, False], [False, True, True], [True, True, False]]),
    matching=torch.tensor([[True, False, False], [False, True, True], [True, False, False]]),
)
"""A document of two sentences and three frames, and one of one sentence and two frames."""
WORD_MASK = torch.tensor([[True] * 5, [True, True, False, False, False]])
FRAME_MASK = torch.tensor([[True] * 3, [True, True, False]])


def test_the_hierarchy_is_its_plain_twin():
    layer = random(Hierarchy(HIDDEN, heads=2, prefix=2, dropout=0.0))
    words, frames = torch.randn(2, 5, HIDDEN), torch.randn(2, 3, HIDDEN)
    found_words, found_frames = layer(words, WORD_MASK, frames, FRAME_MASK, CUT)
    for d in range(2):
        shown = frames[d, FRAME_MASK[d]].tolist()
        local = []
        for s in (CUT.document == d).nonzero()[:, 0].tolist():
            own = words[d, CUT.words[s][CUT.mask[s]]].tolist()
            local.append(guided(layer.local, own, frames[d, CUT.frames[s]].tolist()))
        whole = guided(layer.whole, [mean(sentence) for sentence in local], shown)
        out = [
            normed(layer.word_norm, add(word, linear(layer.back, vector)))
            for sentence, vector in zip(local, whole, strict=True)
            for word in sentence
        ]
        seen = [normed(layer.frame_norm, add(frame, attention(layer.read, frame, out, out))) for frame in shown]
        torch.testing.assert_close(found_words[d, WORD_MASK[d]], torch.tensor(out), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found_frames[d, FRAME_MASK[d]], torch.tensor(seen), atol=1e-4, rtol=1e-4)


def test_the_contrast_is_the_share_of_the_matching_frames():
    contrast = random(Contrast(HIDDEN))
    words, frames = torch.randn(2, 5, HIDDEN), torch.randn(2, 3, HIDDEN)
    documents = []
    for d in range(2):
        costs = []
        for s in (CUT.document == d).nonzero()[:, 0].tolist():
            text = contrast.of_text(words[d, CUT.words[s][CUT.mask[s]]].mean(0))
            match = [
                math.exp(torch.cosine_similarity(text, contrast.of_frames(frame), dim=0).item() / 0.07)
                for frame in frames[d, FRAME_MASK[d]]
            ]
            own = [m for m, counts in zip(match, CUT.matching[s].tolist(), strict=False) if counts]
            costs.append(-math.log(sum(own) / sum(match)))
        documents.append(sum(costs) / len(costs))
    found = contrast(words, frames, FRAME_MASK, CUT).item()
    assert found == pytest.approx(sum(documents) / 2, rel=1e-4)


def test_a_batch_in_which_no_document_has_frames_costs_the_contrast_nothing():
    cut = replace(CUT, frames=CUT.frames[:, :0], matching=CUT.matching[:, :0])
    found = random(Contrast(HIDDEN))(torch.randn(2, 5, HIDDEN), torch.randn(2, 0, HIDDEN), FRAME_MASK[:, :0], cut)
    assert found.item() == 0


def test_mentions_and_chains_come_out_of_the_gate():
    gate = random(MentionGate(HIDDEN, 2, 0.0))
    words, frames = torch.randn(1, 5, HIDDEN), torch.randn(1, 3, HIDDEN)
    mentions = MentionBatch(
        first=torch.tensor([[0, 2, 4]]),
        last=torch.tensor([[1, 2, 4]]),
        type=torch.zeros(1, 3, dtype=torch.long),
        chain=torch.tensor([[0, 1, 0]]),
        mask=torch.ones(1, 3, dtype=torch.bool),
        chain_type=torch.zeros(1, 2, dtype=torch.long),
        chain_mask=torch.ones(1, 2, dtype=torch.bool),
        pairs=torch.zeros(1, 3, 3, 1),
    )
    known = torch.ones(1, 3, dtype=torch.bool)
    states = GatedStates(words, known, frames, frames, known, gate=gate, looked_at=frames, look_mask=known)
    said = [mean(words[0, a : b + 1].tolist()) for a, b in ((0, 1), (2, 2), (4, 4))]
    shown = frames[0].tolist()
    seen = [attention(gate.look, one, shown, shown) for one in said]

    def gated(h, v):
        share = sigmoid(linear(gate.gate, h + v))
        return add(times(share, h), times([1 - s for s in share], linear(gate.seen, v)))

    found = states.mention_vectors(mentions)[0]
    torch.testing.assert_close(found, torch.tensor([gated(*both) for both in zip(said, seen, strict=True)]))
    into, _, out = gate.choose
    scores = [math.exp(linear(out, gelu(linear(into, said[m] + seen[m])))[0]) for m in (0, 2)]
    share = [score / sum(scores) for score in scores]
    first = [[sum(a * v for a, v in zip(share, pair, strict=True)) for pair in zip(*two, strict=True)]
             for two in ((said[0], said[2]), (seen[0], seen[2]))]  # fmt: skip
    expected = torch.tensor([gated(*first), gated(said[1], seen[1])])
    torch.testing.assert_close(states.chain_vectors(mentions)[0], expected, atol=1e-5, rtol=1e-4)


def test_a_document_without_text_is_one_sentence_of_the_blank(tmp_path):
    examples = four(tmp_path)
    found = sentences_of(batch_of(examples[2:3]))
    assert (found.words.tolist(), found.mask.tolist()) == ([[0]], [[True]])
    assert found.frames.tolist() == [[True, True]]
    assert found.matching.tolist() == [[False, False]]
