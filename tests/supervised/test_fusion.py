"""Equations 8 to 12 against plain references written from section V-D."""

from __future__ import annotations

import math

import pytest
import torch

from m3dllm.systems.dffm.fusion import Fusion, Latent
from m3dllm.systems.supervised.layers import FrameVectors

LEVELS = ("low", "mid", "high")


def make(*, kind="ae", levels=LEVELS, hidden=12, size=8, heads=2, **weights):
    torch.manual_seed(0)
    fusion = Fusion(hidden, levels=levels, size=size, heads=heads, dropout=0.0, kind=kind, **weights)
    for p in fusion.parameters():
        p.data.normal_(std=0.3)
    return fusion


def linear(layer, x):
    out = [sum(w * v for w, v in zip(row, x, strict=True)) for row in layer.weight.tolist()]
    return out if layer.bias is None else [o + b for o, b in zip(out, layer.bias.tolist(), strict=True)]


def encoder(latent, x):
    return linear(latent.mean, [max(0.0, v) for v in linear(latent.down[0], x)])


def decoder(latent, z):
    return linear(latent.decode[2], [max(0.0, v) for v in linear(latent.decode[0], z)])


def attention(layer, asked, keys, values, prefix=()):
    """Multi-head attention of one vector over several, head by head. The prefix: projected (key, value) before them."""
    q = linear(layer.query, asked)
    ks = [k for k, _ in prefix] + [linear(layer.key, k) for k in keys]
    vs = [v for _, v in prefix] + [linear(layer.value, v) for v in values]
    size = len(q) // layer.heads
    mixed = []
    for h in range(layer.heads):
        part = slice(h * size, (h + 1) * size)
        scores = [sum(a * b for a, b in zip(q[part], k[part], strict=True)) / math.sqrt(size) for k in ks]
        weights = [math.exp(s - max(scores)) for s in scores]
        mixed += [sum(w * v[part][d] for w, v in zip(weights, vs, strict=True)) / sum(weights) for d in range(size)]
    return linear(layer.out, mixed)


def add(*vectors):
    return [sum(values) for values in zip(*vectors, strict=True)]


def feed_forward(layer, x):
    return linear(layer[3], [max(0.0, v) for v in linear(layer[0], x)])


def reference(fusion, asked, levels):
    """Eq. 8 to 11 for one document, word by word."""
    rows = []
    for word in asked:
        fused = linear(fusion.own, word)  # W^x H^x
        for name, source in levels.items():
            level = fusion.levels[name]
            q = encoder(level.latent, word)  # eq. 8
            keys = [encoder(level.latent, linear(level.key, v)) for v in source]
            values = [encoder(level.latent, linear(level.value, v)) for v in source]
            mixed = add(q, attention(level.attention, q, keys, values))  # eq. 9
            out = decoder(level.latent, add(mixed, feed_forward(level.feed_forward, mixed)))  # eq. 10
            fused = add(fused, linear(fusion.weights[name], out))  # eq. 11
        rows.append(fused)
    return torch.tensor(rows)


def test_fusion_is_equations_8_to_11():
    fusion = make()
    asked = torch.randn(1, 3, 12)
    source = {name: torch.randn(1, 5, 12) for name in LEVELS}
    found = fusion(asked, torch.ones(1, 3, dtype=torch.bool), source, torch.ones(1, 5, dtype=torch.bool))
    expected = reference(fusion, asked[0].tolist(), {name: level[0].tolist() for name, level in source.items()})
    torch.testing.assert_close(found.features[0], expected, atol=1e-4, rtol=1e-4)
    assert found.penalty == 0


def test_one_encoder_serves_q_k_and_v():
    level = make().levels["low"]
    assert sum(isinstance(part, Latent) for part in level.modules()) == 1


def test_an_ablated_level_is_not_there():
    fusion = make(levels=("mid",))
    asked, seen = torch.randn(1, 2, 12), torch.ones(1, 2, dtype=torch.bool)
    found = fusion(asked, seen, {"mid": asked, "low": None, "high": None}, seen)
    expected = reference(fusion, asked[0].tolist(), {"mid": asked[0].tolist()})
    torch.testing.assert_close(found.features[0], expected, atol=1e-4, rtol=1e-4)


def test_padding_of_the_source_changes_nothing():
    fusion = make()
    asked, seen = torch.randn(1, 3, 12), torch.ones(1, 3, dtype=torch.bool)
    source = {name: torch.randn(1, 6, 12) for name in LEVELS}
    mask = torch.tensor([[True] * 4 + [False] * 2])
    cut = {name: level[:, :4] for name, level in source.items()}
    padded = fusion(asked, seen, source, mask).features
    torch.testing.assert_close(padded, fusion(asked, seen, cut, mask[:, :4]).features)


@pytest.mark.parametrize("kind", ["ae", "vae"])
def test_every_parameter_learns(kind):
    fusion = make(kind=kind, kl=0.1, reconstruction=0.1)
    seen = torch.ones(1, 4, dtype=torch.bool)
    found = fusion(torch.randn(1, 4, 12), seen, {name: torch.randn(1, 4, 12) for name in LEVELS}, seen)
    ((found.features**2).sum() + found.penalty).backward()
    assert [name for name, p in fusion.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_fusion_begins_with_the_modality_itself():
    torch.manual_seed(0)
    fusion = Fusion(12, levels=LEVELS, size=8, heads=2, dropout=0.0)
    assert torch.equal(fusion.own.weight, torch.eye(12))


def test_the_variational_penalty_is_divergence_and_reconstruction():
    torch.manual_seed(0)
    latent = Latent(6, 4, kind="vae", kl=0.5, reconstruction=0.25).eval()
    x = torch.randn(2, 3, 6)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    code, penalty = latent(x, mask)
    expected = []
    for b, i in mask.nonzero().tolist():
        inner = latent.down(x[b, i])
        mean, log_variance = latent.mean(inner), latent.log_variance(inner)
        kl = [0.5 * (m**2 + math.exp(v) - 1 - v) for m, v in zip(mean.tolist(), log_variance.tolist(), strict=True)]
        error = ((x[b, i] - latent.decode(mean)) ** 2).mean().item()
        expected.append(0.5 * sum(kl) / 4 + 0.25 * error)
        torch.testing.assert_close(code[b, i], mean)
    assert penalty.item() == pytest.approx(sum(expected) / 3, rel=1e-4)


def test_a_variational_code_is_drawn_only_in_training():
    latent = Latent(6, 4, kind="vae", kl=1.0, reconstruction=1.0)
    x = torch.randn(1, 2, 6)
    assert not torch.equal(latent(x)[0], latent(x)[0])
    latent.eval()
    assert torch.equal(latent(x)[0], latent(x)[0])


def test_frames_are_the_average_of_their_patches_and_their_place():
    vectors = FrameVectors(4, max_frames=3)
    patches = torch.randn(1, 5, 2, 4)
    found = vectors(patches)
    for i, place in enumerate([0, 1, 2, 2, 2]):  # further frames share the last place
        expected = (patches[0, i, 0] + patches[0, i, 1]) / 2 + vectors.positions.weight[place]
        torch.testing.assert_close(found[0, i], expected)


def test_a_document_without_frames_has_no_frame_vectors():
    assert FrameVectors(4, max_frames=3)(torch.zeros(2, 0, 9, 4)).shape == (2, 0, 4)
