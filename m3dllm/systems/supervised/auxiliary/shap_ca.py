"""Shap-CA's contrast by Shapley values: the contribution of each document's frames to the match with a text."""

from __future__ import annotations

import torch
from torch import Tensor

from m3dllm.rng import rand
from m3dllm.systems.supervised.auxiliary.base import Contrast, cosines

TEMPERATURE = 0.07
ORDERS = 32
"""Random orders over which Shapley values are averaged."""


class ShapCA(Contrast):
    """The Shapley value of a text should be high for its own frames and low for others, and vice versa."""

    name = "shap-ca"
    weight = 0.1

    def cost(self, text: Tensor, frames: Tensor) -> Tensor:
        match = cosines(text, frames)
        orders = rand((2, ORDERS, len(match)), match.device).argsort(-1)
        of_frames, of_text = (apart(shapley(side, order)) for side, order in zip((match.T, match), orders, strict=True))
        return -(of_frames + of_text) / 2


def apart(values: Tensor) -> Tensor:
    """The value of the matching player minus the mean of the others, averaged over the games."""
    n = len(values)
    own = values.diagonal()
    return (own - (values.sum(0) - own) / (n - 1)).mean()


def shapley(match: Tensor, orders: Tensor) -> Tensor:
    """(players, games): the marginal contribution of each player, averaged over `orders` (orders, players).

    match: (players, games). The value of a set of players in a game is the mean of their matches, weighted by their
    softmax at the temperature; that of the empty set is 0.
    """
    ordered = match[orders]  # (orders, players, games)
    weight = ((ordered - ordered.amax(1, keepdim=True)) / TEMPERATURE).exp()
    worth = (weight * ordered).cumsum(1) / weight.cumsum(1)
    added = torch.diff(worth, dim=1, prepend=torch.zeros_like(worth[:, :1]))
    place = orders.argsort(1)[..., None].expand_as(added)
    return added.gather(1, place).mean(0)
