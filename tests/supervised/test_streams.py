"""One stream and two against plain twins that go vector by vector."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from m3dllm.systems.streams.fusion import FRAMES, WORDS, OneStream, TwoStreams
from tests.supervised.test_fusion import add, attention, linear

HIDDEN = 8


def make(kind, *, layers=2):
    torch.manual_seed(0)
    streams = kind(HIDDEN, layers=layers, heads=2, dropout=0.0)
    for p in streams.parameters():
        p.data.normal_(std=0.4)
    return streams


def normed(layer, x):
    mean = sum(x) / len(x)
    spread = math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + layer.eps)
    return [(v - mean) / spread * w + b for v, w, b in zip(x, layer.weight.tolist(), layer.bias.tolist(), strict=True)]


def gelu(x):
    return [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x]


def layer_of(layer, rows, source=None, prefix=()):
    """A pre-norm layer over `rows`, which attend to themselves or to `source`, and to the prefix."""
    asked = [normed(layer.norm, row) for row in rows]
    seen = asked if source is None else [normed(layer.source_norm, row) for row in source]
    rows = [add(row, attention(layer.attention, a, seen, seen, prefix)) for row, a in zip(rows, asked, strict=True)]
    norm, into, _, out, _ = layer.feed_forward
    return [add(row, linear(out, gelu(linear(into, normed(norm, row))))) for row in rows]


def entered(streams, words, frames):
    """Frames projected and normed, then both with the embedding of their modality."""
    project, norm = streams.project
    frames = [normed(norm, linear(project, frame)) for frame in frames]
    kind = streams.modality.weight.tolist()
    return [add(word, kind[WORDS]) for word in words], [add(frame, kind[FRAMES]) for frame in frames]


def one_stream(streams, words, frames):
    words, frames = entered(streams, words, frames)
    both = words + frames
    for layer in streams.layers:
        both = layer_of(layer, both)
    return both[: len(words)], both[len(words) :]


def two_streams(streams, words, frames):
    words, frames = entered(streams, words, frames)
    for block in streams.blocks:
        seen, read = layer_of(block.from_frames, words, frames), layer_of(block.from_words, frames, words)
        words, frames = layer_of(block.words, seen), layer_of(block.frames, read)
    return words, frames


both_kinds = pytest.mark.parametrize(("kind", "twin"), [(OneStream, one_stream), (TwoStreams, two_streams)])


@both_kinds
def test_the_fusion_is_what_its_plain_twin_computes(kind, twin):
    streams = make(kind, layers=4)
    words, frames = torch.randn(2, 4, HIDDEN), torch.randn(2, 3, HIDDEN)
    word_mask = torch.tensor([[True] * 4, [True, True, False, False]])
    frame_mask = torch.tensor([[True, True, False], [True, True, True]])
    found = streams(words, word_mask, frames, frame_mask)
    for i in range(2):
        own = [part[i, mask[i]].tolist() for part, mask in ((words, word_mask), (frames, frame_mask))]
        for part, mask, expected in zip(found, (word_mask, frame_mask), twin(streams, *own), strict=True):
            torch.testing.assert_close(part[i, mask[i]], torch.tensor(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [OneStream, TwoStreams])
def test_a_blank_stands_for_the_modality_that_a_document_lacks(kind):
    streams = make(kind)
    words, seen = torch.randn(1, 4, HIDDEN), torch.ones(1, 4, dtype=torch.bool)
    none = torch.zeros(1, 0, dtype=torch.bool)
    found, no_frames = streams(words, seen, torch.zeros(1, 0, HIDDEN), none)
    blank = streams.modality.weight[FRAMES].expand(1, 1, -1)
    expected, _ = streams.fuse(words + streams.modality.weight[WORDS], seen, blank, torch.ones(1, 1, dtype=torch.bool))
    torch.testing.assert_close(found, expected)
    assert no_frames.shape == (1, 0, HIDDEN)


@pytest.mark.parametrize("kind", [OneStream, TwoStreams])
def test_every_parameter_learns(kind):
    streams = make(kind)
    words, frames = torch.randn(1, 4, HIDDEN), torch.randn(1, 3, HIDDEN)
    found = streams(words, torch.ones(1, 4, dtype=torch.bool), frames, torch.ones(1, 3, dtype=torch.bool))
    sum((part**2).sum() for part in found).backward()
    assert [name for name, p in streams.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_two_streams_have_twice_the_weights_of_one_at_the_same_depth():
    def size(kind):
        return sum(p.numel() for p in kind(768, layers=4, heads=12, dropout=0.1).parameters() if p.ndim > 1)

    layer = 4 * 768**2 + 2 * 768 * 3072
    extra = 768**2 + 2 * 768
    with torch.device("meta"):
        assert (size(OneStream), size(TwoStreams)) == (4 * layer + extra, 8 * layer + extra)


def test_heads_that_do_not_divide_the_width_are_one_line():
    from m3dllm.errors import UserError

    with pytest.raises(UserError, match="--attention-heads 3: does not divide the width of the states, 8"):
        OneStream(HIDDEN, layers=2, heads=3, dropout=0.0)


def test_no_dropout_is_of_torch_alone():
    from m3dllm.rng import Dropout

    drops = [part for part in make(TwoStreams).modules() if isinstance(part, nn.Dropout)]
    assert drops
    assert all(isinstance(part, Dropout) for part in drops)
