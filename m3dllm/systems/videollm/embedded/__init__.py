"""The embedded model: what answers where no model is named. It lies beside this file, with the prompts it was made for.

It is a demonstration: a few million parameters, pretrained in the domain of the demo corpus and of no use outside it
(MODEL_CARD.md). No model library is loaded here.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PROMPTS = FOLDER / "prompts"
NAME = "embedded"
"""What records and messages call it."""
NOTE = "in-domain pretrained: the embedded demonstration model, made for the demo corpus, of no use outside it"
