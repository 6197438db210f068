"""Adapters on disk: what each is, whether it may be used here, its layers, and the proof that they do something."""
