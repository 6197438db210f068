"""Random replacement of words in prompts, so that the model relies on more than one word of a sentence.

Words in the answer (names, role nouns, dates), numbers and punctuation are kept.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.embedded.shelves import Item
from m3dllm.corpora.demo.names import SYLLABLES

SHARE = 0.2
"""The maximum share of replaced words in a document; half of the documents are unchanged."""


class Blur:
    """Replaces words by others of the same script."""

    def __init__(self, tokenizer: Any) -> None:
        syllables = {syllable for pair in SYLLABLES for part in pair for syllable in part}
        self.words, self.characters = np.zeros((2, len(tokenizer)), dtype=bool)
        for token, i in tokenizer.get_vocab().items():
            said = tokenizer.convert_tokens_to_string([token])
            self.words[i] = bool(re.fullmatch(r"[A-Za-z]+ ?", said)) and said.strip() not in syllables
            self.characters[i] = bool(re.fullmatch(r"[\u3400-\u9fff]", said))

    def __call__(self, item: Item, rng: np.random.Generator) -> Item:
        share = max(0.0, rng.uniform(-SHARE, SHARE))
        ids = item.ids.copy()
        said = np.isin(ids, ids[item.asked :])
        for kind in (self.words, self.characters):
            at = kind[ids] & ~said & (np.arange(len(ids)) < item.asked) & (rng.random(len(ids)) < share)
            ids[at] = rng.choice(np.flatnonzero(kind), at.sum())
        return replace(item, ids=ids)
