"""The embedded model, the default of `video-llm`; it lies beside this file, with the prompts that it was trained on.

It is for demonstration: a few million parameters, pretrained in the domain of the demo corpus, and useless outside it
(MODEL_CARD.md). No model library is loaded here.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PROMPTS = FOLDER / "prompts"
NAME = "embedded"
"""Its name in records and messages."""
NOTE = "in-domain pretrained: the embedded demonstration model, made for the demo corpus, of no use outside it"
