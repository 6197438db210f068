"""The gated attention in both forms, the rows it looks at and the shifted labels, against plain twins."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from m3dllm.systems.generative.boxes import Candidate
from m3dllm.systems.generative.codec import Slots
from m3dllm.systems.generative.queries import Encoded, Query, QueryBatch
from m3dllm.systems.generative.rows import cover, rows_of
from m3dllm.systems.generative.seq2seq import IGNORED, shifted, text_loss
from m3dllm.systems.umie.fusion import CodeGate, PaperGate
from m3dllm.types import Box

WIDTH, HEADS = 8, 2


def random(module):
    torch.manual_seed(0)
    for p in module.parameters():
        p.data.normal_(std=0.4)
    return module.eval()


def mean(vectors):
    return [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def leaky(x):
    return x if x > 0 else 0.01 * x


def softmax(scores):
    exponents = [math.exp(score - max(scores)) for score in scores]
    return [one / sum(exponents) for one in exponents]


def mixed(weights, vectors):
    return [sum(w * v[k] for w, v in zip(weights, vectors, strict=True)) for k in range(len(vectors[0]))]


def linear(layer, x):
    weight = layer.weight.tolist()
    bias = layer.bias.tolist() if layer.bias is not None else [0.0] * len(weight)
    return [dot(row, x) + b for row, b in zip(weight, bias, strict=True)]


def normed(layer, x):
    middle = sum(x) / len(x)
    spread = math.sqrt(sum((v - middle) ** 2 for v in x) / len(x) + layer.eps)
    pairs = zip(x, layer.weight.tolist(), layer.bias.tolist(), strict=True)
    return [(v - middle) / spread * w + b for v, w, b in pairs]


def paper_twin(text, rows):
    """Eq. 6 to 8, place by place."""
    gate = leaky(dot(mean(rows), mean(text)))
    out = []
    for h in text:
        seen = mixed(softmax([dot(h, row) / math.sqrt(WIDTH) for row in rows]), rows)
        out.append([a + gate * b for a, b in zip(h, seen, strict=True)])
    return out, gate


def code_twin(module, text, rows):
    """A layer of cross-attention with its feed-forward; the cosine of two projected means."""

    def projected(maps, vectors):
        found = mean([linear(maps[1], linear(maps[0], v)) for v in vectors])
        norm = math.sqrt(dot(found, found))
        return [v / norm for v in found]

    gate = leaky(leaky(dot(projected(module.text, text), projected(module.rows, rows)) * math.exp(0.5)))
    layer, size, out = module.look, WIDTH // HEADS, []
    source = [normed(layer.source_norm, row) for row in rows]
    keys, values = ([linear(part, row) for row in source] for part in (layer.attention.key, layer.attention.value))
    for h in text:
        query, heads = linear(layer.attention.query, normed(layer.norm, h)), []
        for k in range(0, WIDTH, size):
            part = slice(k, k + size)
            weights = softmax([dot(query[part], key[part]) / math.sqrt(size) for key in keys])
            heads += mixed(weights, [value[part] for value in values])
        x = [a + b for a, b in zip(h, linear(layer.attention.out, heads), strict=True)]
        norm, first, _, second, _ = layer.feed_forward
        inner = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in linear(first, normed(norm, x))]
        seen = [a + b for a, b in zip(x, linear(second, inner), strict=True)]
        out.append([a + gate * b for a, b in zip(h, seen, strict=True)])
    return out, gate


@pytest.mark.parametrize("form", ["paper", "code"])
@pytest.mark.parametrize("n_rows", [1, 3])
def test_the_gate_is_its_equations(form, n_rows):
    module = random(PaperGate() if form == "paper" else CodeGate(WIDTH, HEADS, 0.0))
    torch.manual_seed(1)
    text, rows = torch.randn(2, 4, WIDTH), torch.randn(2, 3, WIDTH)
    text_mask, row_mask = torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool)
    text_mask[1, 2:], row_mask[1, n_rows:] = False, False
    with torch.no_grad():
        found, gates = module(text, text_mask, rows, row_mask)
    for i, (n, m) in enumerate(((4, 3), (2, n_rows))):
        own = text[i, :n].tolist(), rows[i, :m].tolist()
        expected, gate = paper_twin(*own) if form == "paper" else code_twin(module, *own)
        torch.testing.assert_close(found[i, :n], torch.tensor(expected), atol=1e-5, rtol=1e-4)
        assert float(gates[i]) == pytest.approx(gate, rel=1e-4)


def test_the_gate_of_the_code_is_bounded():
    module = random(CodeGate(WIDTH, HEADS, 0.0))
    for scale in (1e-3, 1.0, 1e3):
        text, rows = scale * torch.randn(9, 4, WIDTH), torch.randn(9, 3, WIDTH)
        mask = torch.ones(9, 4, dtype=torch.bool)
        _, gates = module(text, mask, rows, mask[:, :3])
        assert (gates <= math.exp(0.5)).all()
        assert (gates >= -1e-4 * math.exp(0.5)).all()


# --- rows -------------------------------------------------------------------------------------------------------------


def cover_twin(box, grid):
    """The share of a box's area in each patch, by a fine raster."""
    fine = 400
    counts = [0] * grid**2
    for i in range(fine):
        for j in range(fine):
            x, y = (j + 0.5) / fine, (i + 0.5) / fine
            if box.x0 <= x < box.x1 and box.y0 <= y < box.y1:
                counts[int(y * grid) * grid + int(x * grid)] += 1
    return [count / sum(counts) for count in counts]


@pytest.mark.parametrize("box", [Box(0, 0, 1, 1), Box(0.1, 0.2, 0.35, 0.9), Box(0.5, 0.5, 0.75, 1.0)])
def test_a_candidate_is_made_of_the_patches_it_covers_as_far_as_it_does(box):
    found = cover(torch.tensor([list(box)]), 4)[0]
    torch.testing.assert_close(found, torch.tensor(cover_twin(box, 4)), atol=0.02, rtol=0.05)


def query(frames, *candidates):
    return Encoded(Query("entity", "", frames, candidates), (1,), (1,), Slots())


def batch_of(*queries):
    none = torch.zeros(len(queries), 1, dtype=torch.long)
    return QueryBatch(queries, torch.arange(len(queries)), none, none.bool(), none)


def test_rows_are_frames_then_candidates_and_one_of_zeros_where_there_is_neither():
    torch.manual_seed(0)
    scene = torch.randn(2, 2, 4, WIDTH)
    left = Candidate(1, Box(0, 0, 0.5, 1))
    rows = rows_of(batch_of(query((0, 1), left), query(())), scene)
    assert rows.mask.tolist() == [[True, True, True, False], [False, False, False, True]]
    assert rows.candidate.tolist() == [[-1, -1, 0, -1], [-1, -1, 0, -1]]
    assert rows.frame[0, :3].tolist() == [0, 1, 1]
    torch.testing.assert_close(rows.features[0, 1], scene[0, 1].mean(0))
    torch.testing.assert_close(rows.features[0, 2], scene[0, 1, [0, 2]].mean(0))
    assert rows.boxes[0, :3].tolist() == [[0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0.5, 1, 0.5]]
    assert not rows.features[1].any()
    assert not rows.boxes[1].any()


def test_candidates_of_several_documents_and_frames_have_the_patches_of_their_own_frame():
    torch.manual_seed(0)
    scene = torch.randn(2, 3, 4, WIDTH, requires_grad=True)
    queries = [
        query((0, 1, 2), Candidate(2, Box(0, 0, 1, 0.5)), Candidate(0, Box(0.2, 0.1, 0.9, 0.8))),
        query((0, 2), Candidate(2, Box(0.4, 0.4, 0.6, 1.0))),
    ]
    rows = rows_of(batch_of(*queries), scene)
    expected = torch.zeros_like(rows.features)
    for i, one in enumerate(queries):
        for j, candidate in enumerate(one.query.candidates):
            share = cover(torch.tensor([list(candidate.box)]), 2)[0]
            expected[i, 3 + j] = share @ scene[i, candidate.frame]
    torch.testing.assert_close(rows.features[:, 3:], expected[:, 3:])
    (found,) = torch.autograd.grad(rows.features[:, 3:].square().sum(), scene, retain_graph=True)
    torch.testing.assert_close(found, torch.autograd.grad(expected.square().sum(), scene)[0])


# --- the decoder's side -----------------------------------------------------------------------------------------------


def test_the_decoder_reads_what_stands_before_each_piece():
    labels = torch.tensor([[5, 6, 1], [7, 1, IGNORED]])
    assert shifted(labels, 0).tolist() == [[0, 5, 6], [0, 7, 1]]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_of_the_pieces(smoothing):
    torch.manual_seed(0)
    scores, labels = torch.randn(2, 3, 5), torch.tensor([[4, 0, 1], [2, IGNORED, IGNORED]])
    expected = 0.0
    for row, gold in zip(scores.flatten(0, 1).tolist(), labels.flatten().tolist(), strict=True):
        if gold != IGNORED:
            logs = [math.log(share) for share in softmax(row)]
            expected -= (1 - smoothing) * logs[gold] + smoothing * sum(logs) / len(logs)
    assert float(text_loss(scores, labels, smoothing)) == pytest.approx(expected, rel=1e-5)


def test_the_projections_of_the_code_have_no_bias():
    assert [layer.bias for layer in CodeGate(WIDTH, HEADS, 0.0).text if isinstance(layer, nn.Linear)] == [None, None]
