"""Shared parts of engines for local models: the model without its weights, and constrained decoding."""
