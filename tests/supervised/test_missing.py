"""Equations 13 and 14 against a plain reference written from section V-E."""

from __future__ import annotations

import torch

from m3dllm.systems.dffm.missing import Blank, Construction

LEVELS = ("low", "mid", "high")


def convolve(layer, rows):
    """A convolution over three neighbours with zeros outside, then ReLU; row by row."""
    out = []
    for i in range(len(rows)):
        total = layer.bias.clone()
        for k in range(3):
            if 0 <= i + k - 1 < len(rows):
                total = total + layer.weight[:, :, k] @ rows[i + k - 1]
        out.append(total.clamp(min=0))
    return torch.stack(out)


def make():
    torch.manual_seed(0)
    return Construction(6, levels=LEVELS, prompt_length=2)


def test_construction_is_equations_13_and_14():
    construction = make()
    x = torch.randn(1, 5, 6)
    levels, mask = construction(x, torch.ones(1, 5, dtype=torch.bool))
    for name in LEVELS:
        joined = torch.cat([construction.prompts[name], convolve(construction.shared, x[0])])  # eq. 13
        expected = convolve(construction.own[name], joined)  # eq. 14
        torch.testing.assert_close(levels[name][0], expected, atol=1e-5, rtol=1e-5)
        assert levels[name].shape == (1, 2 + 5, 6)
    assert mask.tolist() == [[True] * 7]


def test_padding_changes_nothing():
    construction = make()
    x = torch.randn(1, 6, 6)
    mask = torch.tensor([[True] * 4 + [False] * 2])
    padded, known = construction(x, mask)
    cut, _ = construction(x[:, :4], mask[:, :4])
    assert known.tolist() == [[True] * 6 + [False] * 2]
    for name in LEVELS:
        torch.testing.assert_close(padded[name][:, :6], cut[name])


def test_every_parameter_learns():
    construction = make()
    levels, _ = construction(torch.randn(1, 5, 6), torch.ones(1, 5, dtype=torch.bool))
    sum(level.sum() for level in levels.values()).backward()
    assert [name for name, p in construction.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_the_ablation_fills_with_nothing():
    levels, mask = Blank(levels=LEVELS)(torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool))
    assert all(torch.equal(levels[name], torch.zeros(2, 1, 6)) for name in LEVELS)
    assert mask.tolist() == [[True], [True]]
