"""The hierarchical prefix against a plain twin; what its options switch off."""

from __future__ import annotations

import math

import pytest
import torch

from m3dllm.systems.i2srm.fusion import PrefixedWords
from tests.supervised.documents import four
from tests.supervised.test_fusion import add, linear
from tests.supervised.test_streams import layer_of
from tests.supervised.test_systems import SMALL, model_of

HIDDEN, LEVELS = 8, 3


def make(*, grid=4):
    torch.manual_seed(0)
    words = PrefixedWords(HIDDEN, grid=grid, n_levels=LEVELS, layers=2, size=5, heads=2, dropout=0.0)
    for p in words.parameters():
        p.data.normal_(std=0.4)
    return words


def mean(rows):
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def cells_of(patches, grid):
    """The patches of a frame, row by row, averaged in each quarter of it."""
    half = grid // 2
    return [
        mean([patches[y * grid + x] for y in range(down, down + half) for x in range(right, right + half)])
        for down in (0, half)
        for right in (0, half)
    ]


def prefix_of(module, gate, frames):
    """A key and a value for each cell of each frame: the levels' guides, weighed by the frame's gate."""
    into, _, back = module.guide
    found = []
    for cells in frames:
        guides = []  # of each cell the levels' keys and values
        for cell in cells:
            row = linear(back, [math.tanh(v) for v in linear(into, cell)])
            guides.append([row[k * 2 * HIDDEN : (k + 1) * 2 * HIDDEN] for k in range(LEVELS)])
        scores = linear(gate, [v for levels in guides for v in mean(levels)])
        weights = [math.exp(v if v > 0 else 0.01 * v) for v in scores]
        for levels in guides:
            both = add(*([w / sum(weights) * v for v in level] for w, level in zip(weights, levels, strict=True)))
            found.append((both[:HIDDEN], both[HIDDEN:]))
    return found


def twin(module, words, frames):
    for gate, layer in zip(module.gates, module.layers, strict=True):
        words = layer_of(layer, words, prefix=prefix_of(module, gate, frames))
    return torch.tensor(words)


def test_the_words_of_each_layer_attend_to_the_levels_of_the_frames_weighed_by_its_gate():
    module = make()
    words, levels = torch.randn(2, 4, HIDDEN), torch.randn(2, 3, 16, LEVELS * HIDDEN)
    word_mask = torch.tensor([[True] * 4, [True, True, True, False]])
    frame_mask = torch.tensor([[True] * 3, [True, True, False]])
    found = module(words, word_mask, levels, frame_mask)
    for d, (n, m) in enumerate(((4, 3), (3, 2))):
        frames = [cells_of(frame, 4) for frame in levels[d, :m].tolist()]
        torch.testing.assert_close(found[d, :n], twin(module, words[d, :n].tolist(), frames), atol=1e-4, rtol=1e-4)


def test_a_blank_stands_for_frames_that_are_missing():
    module = make()
    words = torch.randn(1, 3, HIDDEN)
    found = module(words, torch.ones(1, 3).bool(), torch.zeros(1, 0, 16, LEVELS * HIDDEN), torch.ones(1, 0).bool())
    blank = module.no_frames.unflatten(0, (4, -1)).tolist()
    torch.testing.assert_close(found[0], twin(module, words[0].tolist(), [blank]), atol=1e-4, rtol=1e-4)


def test_an_encoder_of_one_patch_has_one_cell():
    module = make(grid=1)
    words, levels = torch.randn(1, 3, HIDDEN), torch.randn(1, 2, 1, LEVELS * HIDDEN)
    found = module(words, torch.ones(1, 3).bool(), levels, torch.ones(1, 2).bool())
    torch.testing.assert_close(found[0], twin(module, words[0].tolist(), levels[0].tolist()), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("prefix", "changes"), [(True, True), (False, False)])
def test_frames_change_words_only_by_the_prefix(tmp_path, prefix, changes):
    examples = four(tmp_path)[:1]
    model = model_of("i2srm", examples, **SMALL, prefix=prefix).eval()
    one = model.inputs(examples[0].document)
    with torch.no_grad():
        seen, unseen = (model.encode(model.batch([inputs])).words for inputs in (one, one.without_frames()))
    assert torch.allclose(seen, unseen, atol=1e-5) is not changes


@pytest.mark.parametrize(("aux_loss", "names"), [(None, {"kl-prior", "attn-mixup"}), ((), set())])
def test_its_two_losses_are_its_default_and_can_be_switched_off(tmp_path, aux_loss, names):
    options = SMALL if aux_loss is None else SMALL | {"aux_loss": aux_loss}
    assert set(model_of("i2srm", four(tmp_path), **options).auxiliary) == names
