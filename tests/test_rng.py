"""Random numbers of a thread: the same from the same seed, whatever other threads draw."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'supervised'")

from m3dllm.rng import Dropout, rand, seeded  # noqa: E402

CPU = torch.device("cpu")


def drawn(seed):
    with seeded(seed):
        return [rand((3,), CPU) for _ in range(200)]


def test_threads_draw_what_their_seeds_say():
    alone = drawn(1)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(drawn, (1, 2, 1)))
    for again in (found[0], found[2]):
        assert all(torch.equal(a, b) for a, b in zip(alone, again, strict=True))
    assert not torch.equal(alone[0], found[1][0])


def test_dropout_keeps_the_mean_and_drops_its_share():
    ones, layer = torch.ones(1000, 101), Dropout(0.2).train()
    with seeded(0):
        found = layer(ones)
    assert float((found == 0).float().mean()) == pytest.approx(51 / 256, abs=0.01)
    assert float(found.mean()) == pytest.approx(1.0, abs=0.01)
    assert torch.equal(layer.eval()(ones), ones)


def test_outside_of_a_seed_torch_draws():
    torch.manual_seed(3)
    first = rand((4,), CPU)
    torch.manual_seed(3)
    assert torch.equal(first, rand((4,), CPU))
