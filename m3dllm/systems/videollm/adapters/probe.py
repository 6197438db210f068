"""The proof that an adapter does something: it changes how likely three texts are. Each engine measures by how much."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from m3dllm.errors import UserError

log = logging.getLogger("m3dllm")

PROBES = (
    "Ada was born in Arles. Her brother met the painter in Basel.",
    "苏珊出生在北京，她的丈夫乔治是一位画家。",
    '{"chains":[{"id":"c0","type":"PER","mentions":["',
)
"""The texts by which an adapter must show that it changes something."""
EFFECT = 1e-3
"""The least change of a log-probability that counts as an effect."""


def effect(adapted: Sequence[Sequence[float]], plain: Sequence[Sequence[float]]) -> float:
    """By how much a log-probability differs at most; the numbers of each text with the adapter, and without."""
    return max(
        abs(a - b) for with_, without in zip(adapted, plain, strict=True) for a, b in zip(with_, without, strict=True)
    )


def prove(name: str, found: float) -> None:
    """Raises UserError where an adapter changes nothing."""
    if not found >= EFFECT:
        what = f"changes no log-probability of three texts by more than {found:.1e}"
        raise UserError(f"adapter '{name}' {what}: it has no effect here, so its answers would be the base model's")
    log.info("adapter '%s' changes log-probabilities by up to %.3f", name, found)
