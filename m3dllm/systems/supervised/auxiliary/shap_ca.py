"""Shap-CA's contrast by Shapley values: what a document's frames add to what all frames of a step say of its text."""

from __future__ import annotations

import torch
from torch import Tensor

from m3dllm.rng import rand
from m3dllm.systems.supervised.auxiliary.base import Contrast, cosines

TEMPERATURE = 0.07
ORDERS = 32
"""Random orders over which Shapley values are averaged."""


class ShapCA(Contrast):
    """A text is worth most to its own frames and least to those of others, and the other way round."""

    name = "shap-ca"
    weight = 0.1

    def cost(self, text: Tensor, frames: Tensor) -> Tensor:
        match = cosines(text, frames)
        orders = rand((2, ORDERS, len(match)), match.device).argsort(-1)
        of_frames, of_text = (apart(shapley(side, order)) for side, order in zip((match.T, match), orders, strict=True))
        return -(of_frames + of_text) / 2


def apart(values: Tensor) -> Tensor:
    """How much more the own player is worth than the others on average, the mean over the games."""
    n = len(values)
    own = values.diagonal()
    return (own - (values.sum(0) - own) / (n - 1)).mean()


def shapley(match: Tensor, orders: Tensor) -> Tensor:
    """(players, games): what each player adds to the players before it, averaged over `orders` (orders, players).

    match: (players, games). Some players S are worth, in a game, the mean of their matches, weighed by the softmax of
    these at the temperature; none are worth 0.
    """
    ordered = match[orders]  # (orders, players, games)
    weight = ((ordered - ordered.amax(1, keepdim=True)) / TEMPERATURE).exp()
    worth = (weight * ordered).cumsum(1) / weight.cumsum(1)
    added = torch.diff(worth, dim=1, prepend=torch.zeros_like(worth[:, :1]))
    place = orders.argsort(1)[..., None].expand_as(added)
    return added.gather(1, place).mean(0)
