"""The language of a text by its script, and the split of a bilingual text line by line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from m3dllm.types import Lang

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_WORD = re.compile(r"[^\W\d_\u2e80-\U0003ffff]+")


@dataclass(frozen=True, slots=True)
class Part:
    """The text of one language. `pieces`: (start, end, new start), the old and new place of each of its stretches."""

    lang: Lang
    text: str
    pieces: tuple[tuple[int, int, int], ...]

    def place(self, start: int, end: int) -> tuple[int, int] | None:
        """The span in the new text of a span of the old; None if it does not lie in one stretch of the part."""
        for old, last, new in self.pieces:
            if old <= start and end <= last:
                return start - old + new, end - old + new
        return None


def language(text: str) -> Lang | None:
    """Chinese where there are more Chinese characters than words of other letters; None where there is neither."""
    han, words = len(_HAN.findall(text)), len(_WORD.findall(text))
    if not han and not words:
        return None
    return "zh" if han > words else "en"


def is_bilingual(text: str) -> bool:
    """Whether at least a quarter of the lines are in another language than the rest."""
    found = [lang for line in _LINE.findall(text) if (lang := language(line))]
    return 4 * min(found.count("en"), found.count("zh")) >= len(found) > 0


def whole(text: str, lang: Lang) -> Part:
    """The text as one part that changes nothing."""
    return Part(lang, text, ((0, len(text), 0),))


def by_language(text: str) -> list[Part]:
    """The lines of each language, in the order in which the languages come. [] if no line shows its language.

    A line without letters goes with the line before it, the first ones with the one after them.
    """
    lines = [match.span() for match in _LINE.finditer(text)]
    detected = [language(text[start:end]) for start, end in lines]
    current = next((lang for lang in detected if lang), None)
    pieces: dict[Lang, list[tuple[int, int, int]]] = {}
    length: dict[Lang, int] = {}
    for (start, end), lang in zip(lines, detected, strict=True):
        current = lang or current
        if current is None:
            return []
        held = pieces.setdefault(current, [])
        new = length.get(current, 0)
        if held and held[-1][1] == start:
            old, _, first = held.pop()
            held.append((old, end, first))
        else:
            held.append((start, end, new))
        length[current] = new + end - start
    return [
        Part(lang, "".join(text[start:end] for start, end, _ in held), tuple(held)) for lang, held in pieces.items()
    ]


def repetition(text: str, annotated: Sequence[tuple[int, int]]) -> int | None:
    """Where a repetition of all lines above begins that reaches to the end of the text; None if there is none.

    Some corpora write each language, and then both again line by line. No span of `annotated` may reach into it.
    """
    lines = [(match.start(), match[0].strip()) for match in _LINE.finditer(text)]
    everything = {line for _, line in lines if line}
    first_end = max((end for _, end in annotated), default=0)
    above: set[str] = set()
    for i, (start, line) in enumerate(lines):
        if start >= first_end and above == everything:
            below = {line for _, line in lines[i:] if line}
            return start if everything and below == everything else None
        above |= {line} if line else set()
    return None
