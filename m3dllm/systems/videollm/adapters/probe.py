"""The check that an adapter has an effect: it changes the log-probabilities of three texts, as an engine measures."""

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
"""The texts of the check."""
EFFECT = 1e-3
"""The minimum change of a log-probability that counts as an effect."""


def effect(adapted: Sequence[Sequence[float]], plain: Sequence[Sequence[float]]) -> float:
    """The largest difference of a log-probability; arguments: those of each text with the adapter, and without."""
    return max(
        abs(a - b) for with_, without in zip(adapted, plain, strict=True) for a, b in zip(with_, without, strict=True)
    )


def prove(name: str, found: float) -> None:
    """Raises UserError if an adapter changes nothing."""
    if not found >= EFFECT:
        what = f"changes no log-probability of three texts by more than {found:.1e}"
        raise UserError(f"adapter '{name}' {what}: it has no effect here, so its answers would be the base model's")
    log.info("adapter '%s' changes log-probabilities by up to %.3f", name, found)
