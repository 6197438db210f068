"""Answers that go round in circles: the same elements of a list, or the same few of them, three times in a row.

An engine that can stops there. What any answer repeats so is read once, and noted.
"""

from __future__ import annotations

import json
import re

REPETITION = "repetition"
"""Why such a reply ended, and the code of the Issue."""
TIMES = 3
LONGEST = 1000
"""Characters of the longest stretch that is looked for."""
INDENT = 40
"""Characters of white space that an element may stand behind."""
_EDGE = re.compile(r"[,\]}]")
_ID = re.compile(r'"id":"c\d+"')


def is_going_round(text: str) -> bool:
    """Whether what was written before the last comma ends with the same elements three times in a row.

    Chains that differ by their names alone are the same.
    """
    before = _ID.sub('"id":""', text[: max(0, text.rfind(","))])
    return _cycle(before, len(before)) is not None


def collapsed(text: str) -> tuple[str, int]:
    """(the text with what it repeats three times or more in a row once, how many such places it had).

    Chains that differ by their names alone are counted and stay, because relations may name them.
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
    """The comma and the elements behind it with which `text[:end]` ends twice, after these elements once more."""
    comma = text.rfind(",", 0, end)
    while comma >= 0 and end - comma <= LONGEST:
        cycle = text[comma:end]
        elements = cycle[1:].lstrip()
        start = end - (TIMES - 1) * len(cycle) - len(elements)  # of the elements, the first time
        if (
            start > 0
            and text.startswith(cycle, comma - len(cycle))
            and text.startswith(elements, start)
            and text[max(0, start - INDENT) : start].rstrip().endswith(("[", ","))
            and _are_elements(elements)
        ):
            return cycle
        comma = text.rfind(",", 0, comma)
    return None


def _are_elements(text: str) -> bool:
    """Whether a text is one or more elements of a list, among them one that is no number."""
    try:
        values = json.loads(f"[{text}]")
    except (ValueError, RecursionError):
        return False
    return any(isinstance(value, str | list | dict) for value in values)
