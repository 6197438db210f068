"""The batches of an epoch, and the share of each process."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("torch", reason="needs the extra 'supervised'")

from m3dllm.training import Schedule, batches, share_of


def test_batches_hold_every_item_once_and_items_of_similar_length():
    lengths = [(7 * i) % 50 for i in range(100)]

    def steps_of(epoch, **options):
        return batches(lengths, Schedule(epochs=1, batch_size=8, **options), random.Random(f"0:{epoch}"))

    steps = steps_of(0)
    assert sorted(n for step in steps for n in step) == list(range(100))
    spread = [max(lengths[n] for n in step) - min(lengths[n] for n in step) for step in steps]
    assert max(spread) < 10
    assert steps == steps_of(0) != steps_of(1)
    assert max(
        max(lengths[n] for n in step) - min(lengths[n] for n in step)
        for step in steps_of(0, group_by_length=False)
    ) > 20  # fmt: skip


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_processes_share_a_step_without_rest(processes):
    step = list(range(7))
    parts = [share_of(step, 2, process=p, processes=processes) for p in range(processes)]
    assert sorted(n for own in parts for part in own for n in part) == step
