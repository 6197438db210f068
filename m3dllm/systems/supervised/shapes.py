"""Word shapes as numbers: case, sentence starts, repetition in the document."""

from __future__ import annotations

import itertools
import unicodedata
from collections import Counter
from collections.abc import Sequence

from torch import Tensor, nn

SHAPE_COLUMNS = 3
"""Case and repetition of a word (`shape_codes`), and its position in its subword (`text.places`)."""

SENTENCE_ENDS = frozenset(".!?。！？；…")


def word_case(word: str) -> int:
    """The case of a word: 0 other, 1 lower, 2 capitalized, 3 upper, 4 digits, 5 mark, 6 Chinese and the like."""
    first = unicodedata.category(word[0])
    if first == "Lo":
        return 6
    if first == "Nd":
        return 4
    if first[0] in "PSZC":
        return 5
    if word.isupper():
        return 3 if len(word) > 1 else 2
    if first == "Lu":
        return 2
    return 1 if first == "Ll" else 0


def neighbours(words: Sequence[str]) -> list[str]:
    """The bigrams of words, in lower case, joined by a blank."""
    return [f"{a} {b}".lower() for a, b in itertools.pairwise(words)]


def repetition(words: Sequence[str]) -> list[int]:
    """For each word whether it (1), it and the one before (2), it and the two before (4) occur in `words` again.

    Names recur with the same boundaries, which helps to find them in Chinese.
    """
    codes = [0] * len(words)
    for size in (1, 2, 3):
        grams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
        count = Counter(grams)
        for i, gram in enumerate(grams):
            codes[i + size - 1] += (1 << (size - 1)) * (count[gram] > 1)
    return codes


class WordShapes(nn.Module):
    """What subwords do not show: the case of a word and its neighbours, repetition, and the position of a Chinese
    character in a subword of several.

    shapes: (batch, words, 3) -> (batch, words, width), 0 before training.
    """

    def __init__(self, width: int, size: int = 32) -> None:
        super().__init__()
        self.cases, self.repeats, self.places = (nn.Embedding(n, size) for n in (16, 8, 4))
        self.near = nn.Conv1d(size, width, 3, padding=1)
        for weight in self.near.parameters():
            nn.init.zeros_(weight)

    def forward(self, shapes: Tensor, mask: Tensor) -> Tensor:
        case, repeat, place = shapes.unbind(-1)
        x = (self.cases(case) + self.repeats(repeat) + self.places(place)) * mask[..., None]
        shape: Tensor = self.near(x.transpose(1, 2)).transpose(1, 2)
        return shape


def shape_codes(words: Sequence[str]) -> list[tuple[int, int]]:
    """(case, plus 8 at the start of a sentence; repetition) of each word."""
    before = [".", *words]
    first = [8 * (word[-1:] in SENTENCE_ENDS) for word in before]
    return list(
        zip(map(int.__add__, map(word_case, words), first), repetition([w.lower() for w in words]), strict=True)
    )
