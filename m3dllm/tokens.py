"""What a token is where the corpus does not say: English words and marks, Chinese characters."""

from __future__ import annotations

import re

from m3dllm.types import Document

# A run of letters or digits of a script that writes words, else any one visible character (so every Chinese, Japanese
# and Korean character is a token of its own).
_HAN = (
    r"\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_TOKEN = re.compile(rf"(?:(?![{_HAN}_])\w)+|\S")


def tokenize(document: Document) -> tuple[tuple[int, int], ...]:
    """The offsets of the document's tokens: the corpus' own, or those found by one rule for both languages."""
    return document.tokens or tuple(match.span() for match in _TOKEN.finditer(document.text))
