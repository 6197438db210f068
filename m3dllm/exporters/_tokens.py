"""The tokens of a document for token-based formats: mentions are whole tokens, and no text is lost."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from itertools import pairwise

from m3dllm.export import Item
from m3dllm.tokens import tokenize


def tokens_of(item: Item) -> list[tuple[int, int]]:
    """The offsets of the document's tokens, also split where a mention begins or ends, and at white space."""
    document = item.document
    bounds = {place for span in tokenize(document) for place in span}
    bounds |= {place for mention in item.annotation.mentions for place in mention.span}
    places = sorted(bounds)
    found: list[tuple[int, int]] = []
    for match in re.finditer(r"\S+", document.text):
        start, end = match.span()
        inside = places[bisect_right(places, start) : bisect_left(places, end)]
        found += pairwise([start, *inside, end])
    return found


def escaped(text: str, odd: str) -> str:
    """`text` with `%`, control characters and those of the class `odd` as `%..`, which `urllib.parse.unquote` reads."""
    codes = rf"[%\x00-\x1f\x7f-\x9f\u2028\u2029{odd}]"
    return re.sub(codes, lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), text)
