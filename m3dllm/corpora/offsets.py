"""What the offsets of an annotation count: characters, or what another tool counts; and where a text stands.

Python counts code points. Tools count UTF-16 units (JavaScript, Java), bytes, a CR LF as one character or a line end
as two, a byte-order mark, or a text in another of Unicode's normal forms.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from m3dllm.corpora.standoff import TextBound

REACH = 100
"""How many characters from its offsets a mention's text is looked for, to repair them."""
Span = tuple[int, int]
_LETTER = r"[^\W\u2e80-\U0003ffff]|[\u0300-\u036f]"
"""What goes on with a word: letters of scripts that part words, digits, and the marks on them."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A text, and how the offsets of its annotations become those of its characters; `how` says so, "" as they are."""

    text: str
    how: str = ""
    shift: int = 0
    places: Mapping[int, int] | None = field(default=None, repr=False)

    def spans(self, bound: TextBound) -> list[Span]:
        """The pieces of an annotation in characters, in the order in which they are listed; -1 where there is none."""
        return [(self._place(start), self._place(end)) for start, end in bound.fragments]

    def agrees(self, bound: TextBound) -> bool:
        """Whether the annotation's text stands at its offsets."""
        return bound.text is not None and surface_stands(bound.text, self.text, self.spans(bound))

    def agreeing(self, bounds: Iterable[TextBound]) -> int:
        return sum(map(self.agrees, bounds))

    def _place(self, offset: int) -> int:
        offset += self.shift
        return offset if self.places is None else self.places.get(offset, -1)


def plain_readings(text: str, *, marked: bool) -> list[Reading]:
    """The readings of a file as most tools count; `marked`: it begins with a byte-order mark."""
    return [
        Reading(held, _join(ends, mark), shift) for held, ends in _line_ends(text) for mark, shift in _marks(marked)
    ]


def other_readings(text: str, *, marked: bool) -> Iterator[Reading]:
    """The readings of a file as other tools count."""
    for held, ends in _line_ends(text):
        for what, widths in _units(held):
            places = {place: i for i, place in enumerate(accumulate(widths(held), initial=0))}
            for mark, shift in _marks(marked, utf8=what == "bytes"):
                yield Reading(held, _join(what, ends, mark), shift, places)


def _line_ends(text: str) -> list[tuple[str, str]]:
    found = [(text, "")]
    if "\r\n" in text:
        found.append((text.replace("\r\n", "\n"), "a line end as one character"))
    return found


def _marks(marked: bool, *, utf8: bool = False) -> list[tuple[str, int]]:
    return [("", 0)] + ([("the byte-order mark", -3 if utf8 else -1)] if marked else [])


def _join(*words: str) -> str:
    return " and ".join(filter(None, words))


def _units(text: str) -> Iterator[tuple[str, Callable[[str], Iterable[int]]]]:
    """(what is counted, how much of it each character is), where it is not one each."""
    if any(character > "\uffff" for character in text):
        yield "UTF-16 units", lambda held: (1 + (c > "\uffff") for c in held)
    if not text.isascii():
        yield "bytes", lambda held: (len(c.encode("utf-8", "surrogatepass")) for c in held)
    if re.search(r"(?<!\r)\n", text):
        yield (
            "a line end as two characters",
            lambda held: (1 + (c == "\n" and held[max(0, i - 1)] != "\r") for i, c in enumerate(held)),
        )
    for form in ("NFC", "NFD"):
        if unicodedata.normalize(form, text) != text:
            yield f"a text in {form}", lambda held, form=form: _normal_widths(held, form)  # type: ignore[misc]


def _normal_widths(text: str, form: str) -> Iterator[int]:
    """How many characters of the normal form each character is: a letter all of it, the marks on it none."""
    i = 0
    while i < len(text):
        end = i + 1
        while end < len(text) and unicodedata.combining(text[end]):
            end += 1
        yield len(unicodedata.normalize(form, text[i:end]))  # type: ignore[arg-type]
        yield from [0] * (end - i - 1)
        i = end


# --- texts ------------------------------------------------------------------------------------------------------------


def stands(text: str, spans: Iterable[Span]) -> str:
    """What stands at these spans, joined as BRAT joins them; "" before the start of a text."""
    return " ".join(text[start:end] if start >= 0 else "" for start, end in spans)


def surface_stands(surface: str, text: str, spans: Sequence[Span]) -> bool:
    """Whether an annotation's text is what stands at its pieces, in the order of the list or of the text."""
    return same_text(surface, stands(text, spans)) or (
        len(spans) > 1 and same_text(surface, stands(text, sorted(spans)))
    )


def same_text(surface: str, found: str) -> bool:
    """Whether the two agree: as Unicode understands equal texts, and with a line end as a space, as BRAT writes it."""
    if len(found) > 4 * len(surface) + 1000:  # offsets that take in the whole file, as often as the file likes
        return False
    if surface == found or surface.split() == found.split():
        return True
    return not (surface.isascii() and found.isascii()) and _normal(surface) == _normal(found)


def _normal(text: str) -> list[str]:
    return unicodedata.normalize("NFC", text).split()


def differ_in_marks(surface: str, found: str) -> bool:
    """Whether they have the same letters at the same places, and only marks are others."""
    pairs = list(zip(surface, found, strict=False))
    marks = all(a == b or not any(c.isalnum() or c.isspace() for c in (a, b)) for a, b in pairs)
    return len(surface) == len(found) and marks and any(a.isalnum() for a, _ in pairs)


def nearby(surface: str, text: str, start: int, end: int) -> Span | None:
    """Where `surface` stands as whole words within REACH characters of its offsets, if it stands there exactly once."""
    first = max(0, min(start, len(text)) - REACH)
    window = text[first : max(end, 0) + REACH]
    for form in dict.fromkeys((surface, unicodedata.normalize("NFC", surface), unicodedata.normalize("NFD", surface))):
        words = r"\s+".join(map(re.escape, form.split()))
        if not words:
            return None
        before = f"(?<!{_LETTER.replace('|', ')(?<!')})" if re.match(_LETTER, form.lstrip()) else ""
        after = f"(?!{_LETTER})" if re.match(_LETTER, form.rstrip()[-1]) else ""
        # A lookahead, so that occurrences that overlap count as several.
        spans = [match.span(1) for match in re.finditer(f"{before}(?=({words}){after})", window)]
        if spans:
            return (first + spans[0][0], first + spans[0][1]) if len(spans) == 1 else None
    return None
