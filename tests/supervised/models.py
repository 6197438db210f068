"""The system dffm in the hands of a test: a new model, a fit with what it gives."""

from __future__ import annotations

from m3dllm.systems.dffm.model import DFFM
from m3dllm.systems.supervised.learner import describe


def new_model(config, labels, train):
    """A model before training, for these documents."""
    return DFFM(config, labels=labels).new_model(describe(config, labels, train))


def fit(config, labels, train, dev, out):
    """(what the fitted model is, the model)."""
    system = DFFM(config, labels=labels)
    system.fit(train, dev, out)
    return system._fitted
