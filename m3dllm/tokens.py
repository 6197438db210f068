"""The default tokenization, for corpora without tokens: English words and punctuation, Chinese characters."""

from __future__ import annotations

import re
from collections.abc import Iterable

from m3dllm.types import Document

# A run of letters or digits of a script with words, else any one visible character (so every Chinese, Japanese
# and Korean character is a token).
_HAN = (
    r"\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_DENSE = re.compile(rf"[{_HAN}\u3000-\u303f\uff00-\uffef]")
_TOKEN = re.compile(rf"(?:(?![{_HAN}_])\w)+|\S")


def tokenize(document: Document) -> tuple[tuple[int, int], ...]:
    """The offsets of the document's tokens: the corpus' own, or the default ones."""
    return document.tokens or tokens_of(document.text)


def tokens_of(text: str) -> tuple[tuple[int, int], ...]:
    """The offsets of a text's default tokens."""
    return tuple(match.span() for match in _TOKEN.finditer(text))


def joined(tokens: Iterable[str]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """(text, offsets of the tokens) for tokens without known white space.

    Two tokens are separated by a space, unless they meet in characters of a script without spaces.
    """
    text, spans = "", []
    for token in tokens:
        if text and token and not (_DENSE.match(text[-1]) and _DENSE.match(token[0])):
            text += " "
        spans.append((len(text), len(text) + len(token)))
        text += token
    return text, tuple(spans)
