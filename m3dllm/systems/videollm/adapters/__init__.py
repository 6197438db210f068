"""Adapters on disk: their cards, whether they fit a run, their layers, and the check that they have an effect."""
