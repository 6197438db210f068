"""The peak memory of a step."""

from __future__ import annotations

import sys

import pytest

from m3dllm.memory import forget_peak, peak_mb


def test_the_peak_is_of_what_is_held_at_once():
    forget_peak()
    before = peak_mb()
    held = bytearray(b"x") * 80_000_000
    assert peak_mb() >= before + 75
    del held


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
def test_the_peak_of_an_earlier_step_is_forgotten():
    held = bytearray(b"x") * 160_000_000
    high = peak_mb()
    del held
    forget_peak()
    assert peak_mb() < high - 100
