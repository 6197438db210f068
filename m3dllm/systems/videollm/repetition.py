"""Detect repetition in answers: the same one or few elements of a list, three times in a row.

Engines that can stop there. In any answer, the repeated elements are read once, with an Issue.
"""

from __future__ import annotations

import json
import re

REPETITION = "repetition"
"""The finish reason of such a reply, and the code of the Issue."""
TIMES = 3
LONGEST = 1000
"""The maximum length of a repeated part, in characters."""
INDENT = 40
"""The maximum white space before an element, in characters."""
_EDGE = re.compile(r"[,\]}]")
_ID = re.compile(r'"id":"c\d+"')


def is_going_round(text: str) -> bool:
    """Whether the text before the last comma ends with the same elements three times in a row.

    Chains that differ only in their names count as equal.
    """
    before = _ID.sub('"id":""', text[: max(0, text.rfind(","))])
    return _cycle(before, len(before)) is not None


def collapsed(text: str) -> tuple[str, int]:
    """(the text with repetitions of three or more times reduced to one, the number of such places).

    Chains that differ only in their names are counted but kept, because relations may name them.
    """
    found, count = _collapsed(text)
    return found, count or _collapsed(_ID.sub('"id":""', text))[1]


def _collapsed(text: str) -> tuple[str, int]:
    out, at, count = "", 0, 0
    for edge in _EDGE.finditer(text):
        if edge.start() < at:
            continue
        out += text[at : edge.start()]
        at = edge.start()
        cycle = _cycle(out, len(out))
        if cycle is None:
            continue
        count += 1
        out = out[: -(TIMES - 1) * len(cycle)]
        while text.startswith(cycle, at):
            at += len(cycle)
    return out + text[at:], count


def _cycle(text: str, end: int) -> str | None:
    """The comma and elements that `text[:end]` ends with twice, after the same elements; None if it does not."""
    comma = text.rfind(",", 0, end)
    none = ""  # a repeated text that is not a list of elements: neither are its multiples
    while comma >= 0 and end - comma <= LONGEST:
        cycle = text[comma:end]
        elements = cycle[1:].lstrip()
        start = end - (TIMES - 1) * len(cycle) - len(elements)  # where the elements begin first
        if (
            start > 0
            and text.startswith(cycle, comma - len(cycle))
            and text.startswith(elements, start)
            and text[max(0, start - INDENT) : start].rstrip().endswith(("[", ","))
            and not (none and cycle == none * (len(cycle) // len(none)))
        ):
            if _are_elements(elements):
                return cycle
            none = cycle
        comma = text.rfind(",", 0, comma)
    return None


def _are_elements(text: str) -> bool:
    """Whether a text is one or more elements of a list, at least one of them not a number."""
    try:
        values = json.loads(f"[{text}]")
    except (ValueError, RecursionError):
        return False
    return any(isinstance(value, str | list | dict) for value in values)
